"""The fence of the file system: the newer of two runs wins, whatever the older one tries."""

from collections.abc import Callable
from pathlib import Path

import pytest

from streamtrain.checkpoint.runs import STAGING, Run
from streamtrain.errors import CheckpointError, Fenced


def claimed(root: Path) -> Run:
    run = Run(root)
    run.take_over()
    return run


def test_numbers_grow(tmp_path: Path) -> None:
    assert Run(tmp_path).newest_number() == 0
    numbers = [int(claimed(tmp_path).directory.name) for _ in range(3)]
    assert numbers == [1, 2, 3]
    assert [p.name for p in (tmp_path / STAGING).iterdir()] == ["3"]


def test_nothing_is_owned_before_the_claim(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="was not claimed"):
        _ = Run(tmp_path).directory


CHANGES: list[Callable[[Run, Path], object]] = [
    lambda run, _root: run.empty("x"),
    lambda run, root: run.publish(run.directory / "staged", root / "20240101" / "1"),
    lambda run, root: run.replace(root / "donefile.txt", b"x"),
    lambda run, root: run.remove(root / "kept"),
    lambda run, _root: run.check_newest(),
    lambda run, _root: run.clear_older(),
]


@pytest.mark.parametrize("change", CHANGES)
def test_a_replaced_run_changes_nothing(change: Callable[[Run, Path], object], tmp_path: Path) -> None:
    old = claimed(tmp_path)
    (old.directory / "staged").mkdir()
    (tmp_path / "kept").mkdir()
    claimed(tmp_path)
    before = sorted(str(p) for p in tmp_path.rglob("*"))
    with pytest.raises(Fenced, match="a newer trainer has taken over"):
        change(old, tmp_path)
    assert sorted(str(p) for p in tmp_path.rglob("*")) == before


def test_what_has_the_name_already_makes_room(tmp_path: Path) -> None:
    run = claimed(tmp_path)
    for text in ("damaged", "new"):
        staged = run.empty("staged")
        (staged / "x").write_text(text)
        run.publish(staged, tmp_path / "20240101" / "1")
    assert (tmp_path / "20240101" / "1" / "x").read_text() == "new"
    assert sorted(p.name for p in run.directory.iterdir()) == ["owner"]


def test_a_file_systems_error_is_not_a_fence(tmp_path: Path) -> None:
    run = claimed(tmp_path)
    (tmp_path / "20240101").write_text("in the way")
    with pytest.raises(CheckpointError, match=r"20240101/1 cannot be published.*Check runner.model_save_path"):
        run.publish(run.empty("staged"), tmp_path / "20240101" / "1")
