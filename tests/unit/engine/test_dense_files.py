"""The dense table's files, of which Paddle says nothing when one is missing or cut."""

from collections.abc import Callable
from pathlib import Path

import pytest

from streamtrain.engine.tables import DENSE_DIR, arrange_dense
from streamtrain.errors import BadModel, CheckpointError

LINES = [b"0.1 0 1.9999 1e-05 2\n", b"-3e-07 0 1.9999 0 0\n", b"4 0 1.9999 0 0\n"]


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    folder = tmp_path / "raw"
    folder.mkdir()
    (folder / "part-000").write_bytes(LINES[0] + LINES[1])
    (folder / "part-001").write_bytes(LINES[2])
    (tmp_path / "checkpoint").mkdir()
    return folder


def arrange(raw: Path, *, servers: int = 2, values: int = 3) -> Path:
    arrange_dense(raw, raw.parent / "checkpoint", servers, values)
    return raw.parent / "checkpoint" / DENSE_DIR


def test_whole_files_are_moved(raw: Path) -> None:
    there = arrange(raw)
    assert [(p.name, p.read_bytes()) for p in sorted(there.iterdir())] == [
        ("part-000", LINES[0] + LINES[1]),
        ("part-001", LINES[2]),
    ]
    assert not raw.exists()


@pytest.mark.parametrize(
    "spoil",
    [
        lambda raw: (raw / "part-001").unlink(),
        lambda raw: (raw / "part-001").write_bytes(b""),
        lambda raw: (raw / "part-000").write_bytes(LINES[0]),
        lambda raw: (raw / "part-000").write_bytes((LINES[0] + LINES[1])[:-1]),
        lambda raw: (raw / "part-000").write_bytes((LINES[0] + LINES[1])[:-5] + b"\n"),  # a column is gone
        lambda raw: (raw / "part-002").write_bytes(LINES[0]),
        lambda raw: (raw / "part-000").write_bytes(LINES[0] * 3),
    ],
)
def test_what_is_not_whole_is_refused(raw: Path, spoil: Callable[[Path], object]) -> None:
    spoil(raw)
    with pytest.raises(CheckpointError, match=r"of the dense table in \d files, the 2 servers hold 3 values"):
        arrange(raw)
    assert raw.exists()


def test_no_files_at_all(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="0 lines of the dense table in 0 files"):
        arrange_dense(tmp_path / "none", tmp_path, 1, 3)


@pytest.mark.parametrize("number", [b"nan", b"-nan", b"inf", b"-inf", b"NaN"])
def test_numbers_that_are_not_finite(raw: Path, number: bytes) -> None:
    (raw / "part-001").write_bytes(LINES[2].replace(b"1.9999", number))
    with pytest.raises(BadModel, match="the optimizer's state of the dense parameters has"):
        arrange(raw)
