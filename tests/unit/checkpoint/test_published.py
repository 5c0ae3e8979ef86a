"""Donefiles of inference models: read once, and each time as they are."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from streamtrain.checkpoint.published import PublishedModels
from streamtrain.contracts import donefiles
from streamtrain.contracts.donefiles import DoneLine, decode_valid_donefile
from streamtrain.errors import CheckpointError, UnknownFormat

NAME = "base_donefile.txt"


def line(number: int) -> bytes:
    return DoneLine(
        path=f"20240101/inference_model_{number}", digest=str(number), published=number, day="20240101", pass_id=number,
        kind="full",
    ).encode()  # fmt: skip


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(contents=st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5), st.booleans()), max_size=8))
def test_lines_are_those_of_the_file_as_it_is(
    tmp_path_factory: pytest.TempPathFactory, contents: list[tuple[int, int, bool]]
) -> None:
    """It grows, shrinks, changes within; its last line may lack its end."""
    root = tmp_path_factory.mktemp("model")
    for first, count, cut in contents:
        data = b"".join(line(n) for n in range(first, first + count))
        (root / NAME).write_bytes(data[:-1] if cut else data)
        expected = decode_valid_donefile((root / NAME).read_bytes())
        assert PublishedModels(root).lines() == expected
        assert PublishedModels(root).newest() == (expected[-1] if expected else None)


def test_only_new_lines_are_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / NAME).write_bytes(b"".join(map(line, range(50))))
    assert len(PublishedModels(tmp_path).lines()) == 50
    decoded: list[bytes] = []
    real = DoneLine.decode
    monkeypatch.setattr(DoneLine, "decode", lambda text: decoded.append(text) or real(text))
    assert len(PublishedModels(tmp_path).lines()) == 50 and not decoded  # another object of the same process
    with (tmp_path / NAME).open("ab") as file:
        file.write(line(50))
    assert len(PublishedModels(tmp_path).lines()) == 51 and len(decoded) == 1
    decoded.clear()
    newest = PublishedModels(tmp_path).newest()
    assert newest is not None and newest.pass_id == 50 and len(decoded) == 1


def test_a_line_that_is_wrong_is_named_by_its_number(tmp_path: Path) -> None:
    (tmp_path / NAME).write_bytes(line(1) + line(2))
    PublishedModels(tmp_path).lines()
    with (tmp_path / NAME).open("ab") as file:
        file.write(b"{}\n")
    for read in (PublishedModels(tmp_path).lines, PublishedModels(tmp_path).newest):
        with pytest.raises(CheckpointError, match="line 3"):
            read()
    (tmp_path / NAME).write_bytes(line(1) + line(2) + line(3).replace(b"}", b',"format":2}'))
    with pytest.raises(UnknownFormat, match="line 3"):
        PublishedModels(tmp_path).lines()
    (tmp_path / NAME).write_bytes(line(1) + line(2))
    assert len(PublishedModels(tmp_path).lines()) == 2


def test_the_list_that_a_reader_gets_is_its_own(tmp_path: Path) -> None:
    (tmp_path / NAME).write_bytes(line(1))
    PublishedModels(tmp_path).lines().clear()
    PublishedModels(tmp_path).read_donefile("full").clear()
    assert len(PublishedModels(tmp_path).lines()) == 1
    assert donefiles.DONEFILES["full"] == NAME
