"""The checker sees each kind of wrong. What decay and deletion do to it is in test_days.py."""

import gzip
from pathlib import Path

import pytest

from streamtrain.demo.generate import generate
from streamtrain.errors import CheckpointError
from streamtrain.proof.recount import Recount, recount
from tests.support.checkpoints import write_checkpoint

SLOTS = (2, 3)


def tree(root: Path) -> None:
    for split, text in (("20240101/0000", "1:1 5:2 6:3\n0:1 5:2 5:2 0:3\n"), ("20240101/1200", "1:1 7:2 9:99\nbad\n")):
        (root / split).mkdir(parents=True)
        (root / split / "part-0").write_text(text)
        (root / split / "data.done").write_text("not a row")
    (root / "20240101/1200" / "part-1.gz").write_bytes(gzip.compress(b"0:1 7:3\n"))
    (root / "20240102/0000").mkdir(parents=True)
    (root / "20240102/0000/part-0").write_text("1:1 8:2\n")  # after the checkpoint


def check(tmp_path: Path, shows: dict[int, tuple[int, int]], rows: int = 4) -> Recount:
    tree(tmp_path / "data")
    write_checkpoint(tmp_path / "model", shows, rows)
    return recount(
        tmp_path / "data", tmp_path / "model", split_interval=720, split_per_pass=1, start_day="20240101",
        slots=SLOTS, donefile="data.done",
    )  # fmt: skip


RIGHT = {5: (3, 1), 6: (1, 1), 7: (2, 1)}


def test_right(tmp_path: Path) -> None:
    found = check(tmp_path, RIGHT)
    assert found.ok and (found.rows, found.rejected, found.keys, found.occurrences) == (4, 1, 3, 6)


@pytest.mark.parametrize(
    ("shows", "rows", "wrong"),
    [
        ({**RIGHT, 5: (2, 1)}, 4, {"lost": 1}),
        ({**RIGHT, 5: (5, 1)}, 4, {"duplicated": 2}),
        ({5: (3, 1), 6: (1, 1)}, 4, {"missing_keys": 1, "lost": 2}),
        ({**RIGHT, 8: (1, 1)}, 4, {"unknown_keys": 1}),
        ({**RIGHT, 5: (3, 3)}, 4, {"wrong_clicks": 1}),
    ],
)
def test_wrong(tmp_path: Path, shows: dict[int, tuple[int, int]], rows: int, wrong: dict[str, int]) -> None:
    found = check(tmp_path, shows, rows)
    assert not found.ok
    for name in ("lost", "duplicated", "missing_keys", "unknown_keys", "wrong_clicks"):
        assert getattr(found, name) == wrong.get(name, 0)
    assert found.verdict == "differs"


@pytest.mark.parametrize("shows", [RIGHT, {**RIGHT, 5: (2, 1)}, {**RIGHT, 8: (1, 1)}, {**RIGHT, 5: (5, 1)}])
@pytest.mark.parametrize("rows", [3, 9])
def test_without_the_markers_rows_that_do_not_agree_prove_nothing(
    tmp_path: Path, shows: dict[int, tuple[int, int]], rows: int
) -> None:
    found = check(tmp_path, shows, rows)
    assert found.verdict == "not provable" and not found.ok
    assert (found.lost, found.duplicated, found.unknown_keys, found.missing_keys) == (0, 0, 0, 0)
    assert found.not_recountable_keys == (shows is not RIGHT)
    assert "which source files" in found.unknown[0] and "the marker log was not read" in found.unknown[0]


@pytest.mark.parametrize(
    "line", ["x 2 0 0 1 1\n", "7 2 0 0 1\n", "7 2 0 0 one 1\n", "7 2 0 0 nan 1\n", "-7 2 0 0 1 1\n"]
)
def test_a_damaged_table(tmp_path: Path, line: str) -> None:
    tree(tmp_path / "data")
    write_checkpoint(tmp_path / "model", RIGHT)
    with (tmp_path / "model/20240101/2/embedding.shard/part-1.txt").open("a") as part:
        part.write(f"{line}\n")
    with pytest.raises(CheckpointError):
        recount(tmp_path / "data", tmp_path / "model", split_interval=720, split_per_pass=1, start_day="20240101",
                slots=SLOTS)  # fmt: skip


def test_a_key_that_stands_twice(tmp_path: Path) -> None:
    tree(tmp_path / "data")
    write_checkpoint(tmp_path / "model", RIGHT)
    part = tmp_path / "model/20240101/2/embedding.shard/part-1.txt"
    part.write_text(part.read_text() + "7 2 0 0 2 1 0.1 0.1\n")
    found = recount(tmp_path / "data", tmp_path / "model", split_interval=720, split_per_pass=1,
                    start_day="20240101", slots=SLOTS, donefile="data.done")  # fmt: skip
    assert not found.ok and found.unknown_keys == 1


def test_no_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="has no checkpoint"):
        recount(tmp_path, tmp_path, split_interval=60, split_per_pass=1, start_day="20240101", slots=SLOTS)


def test_the_generator_is_seeded_and_its_rows_have_so_many_features(tmp_path: Path) -> None:
    for name in ("a", "b"):
        generate(tmp_path / name, start_day="20240101", days=1, split_interval=720, rows_per_split=20, features=30)
    first = (tmp_path / "a/20240101/0000/part-0").read_bytes()
    assert first == (tmp_path / "b/20240101/0000/part-0").read_bytes()
    assert first != (tmp_path / "a/20240101/1200/part-0").read_bytes()
    assert [len(line.split()) for line in first.splitlines()] == [31] * 20
