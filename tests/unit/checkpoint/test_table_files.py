"""Part files: Paddle's shortened to those of inference models, and read."""

from pathlib import Path

import numpy as np
import pytest

from streamtrain.checkpoint import table_files
from streamtrain.contracts.table_text import TableColumns, Thresholds, state_columns
from streamtrain.errors import CheckpointError

TWO = TableColumns(2)


def text(lines: list[tuple[int, list[str], list[str] | None]]) -> bytes:
    """Paddle's, with embedx_dim 2; no embedx below embedx_threshold."""
    return "".join(" ".join([str(k), *stats, *(embedx or [])]) + "\n" for k, stats, embedx in lines).encode()


def test_blocks_and_keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table_files, "BLOCK", 50)  # shorter than a line
    keys = [2**64 - 1, 7, 10**18 + 1]
    source, target = tmp_path / "part-0", tmp_path / "short.txt"
    source.write_bytes(text([(k, ["0.125"] * 7, ["1", "2", "3"]) for k in keys]))
    assert table_files.write_short(source, target, TWO) == 3
    assert table_files.keys_of(target).tolist() == table_files.keys_of(source).tolist() == keys
    assert table_files.keys_of(target).dtype == np.uint64


def test_a_cut_file_and_a_wrong_line_are_named(tmp_path: Path) -> None:
    source = tmp_path / "part-0"
    source.write_bytes(b"1 2 3 4 5 6 7 8\n1 2 3")
    with pytest.raises(CheckpointError, match=r"the last line of .*part-0 is cut"):
        table_files.write_short(source, tmp_path / "out", TWO)
    source.write_bytes(b"1 2 3\n")
    with pytest.raises(CheckpointError, match=r"part-0: a line of 3 columns: 1 2 3"):
        table_files.write_short(source, tmp_path / "out", TWO)


def test_thresholds(tmp_path: Path) -> None:
    thresholds = Thresholds(0.1, 1.0, 1.5, 0.25, 2.0)
    source = tmp_path / "part-0"
    #                  key slot unseen delta show click w g2sum
    source.write_bytes(b"1 5 0 0 5 1 .5 0\n2 5 0 0 14 0 .5 0\n3 5 3 0 9 9 .5 0\n4 5 2 0 6 1 .5 0\n")
    assert table_files.write_short(source, tmp_path / "out", TWO, thresholds) == 1
    assert table_files.keys_of(tmp_path / "out").tolist() == [4]


def test_other_rules(tmp_path: Path) -> None:
    """Adam keeps 2 * dim + 2 numbers, plain SGD none."""
    adam = TableColumns(2, *(state_columns("embed", "SparseAdamSGDRule", dim) for dim in (1, 2)))
    source = tmp_path / "part-0"
    source.write_text("7 5 0 0 1 1 .5 a b c d .25 .125 e f g h i j\n8 5 0 0 1 1 .5 a b c d\n")
    assert table_files.write_short(source, tmp_path / "adam", adam) == 2
    assert (tmp_path / "adam").read_text() == "7 .5 .25 .125\n8 .5 0 0\n"
    source.write_text("7 5 0 0 1 1 .5 .25 .125\n")
    assert table_files.write_short(source, tmp_path / "naive", TableColumns(2, (), ())) == 1
    assert (tmp_path / "naive").read_text() == "7 .5 .25 .125\n"


def test_embedx_that_is_forgotten(tmp_path: Path) -> None:
    one, two, paddle = (tmp_path / name for name in ("one", "two", "paddle"))
    one.write_text("1 .5 .1 0\n2 .5 0 0\n3 .5 .1 .2\n4 0 0 .1\n")
    two.write_text("2 .5 .3 .1\n3 .5 0 0\n")
    keys: set[bytes] = set()
    for part in (one, two):
        table_files.follow_embedx(part, keys)
    assert keys == {b"1", b"2", b"4"}
    paddle.write_text("1 0 0 0 1 1 .5 1\n2 0 0 0 1 1 .5 1 .3 .1 1\n3 0 0 0 1 1 .5 1\n4 0 0 0 1 1 .5 1\n")
    assert table_files.without_embedx(paddle, TWO, keys) == b"1 0 0 0 1 1 .5 1\n4 0 0 0 1 1 .5 1\n"
