"""The data set that is predicted after a pass: which files, whose lines, what is refused."""

import gzip
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamtrain.connectors.formats import line_parser
from streamtrain.connectors.infer_data import CHUNK, InferData, owner
from streamtrain.contracts.row_layout import RowLayout
from streamtrain.errors import DataError, TrainingError, Unreadable
from streamtrain.schedule import Split

PASS = [Split(2, "20240101", "0100"), Split(3, "20240101", "0130")]


def data_of(folder: Path, donefile: str = "data.done", form: str = "feasign_slot") -> InferData:
    return InferData(str(folder), donefile, [".*", "*.tmp"], line_parser(form, RowLayout((2, 3))))


def write(folder: Path, name: str, lines: list[str]) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    text = "".join(f"{line}\n" for line in lines).encode()
    path.write_bytes(gzip.compress(text) if name.endswith(".gz") else text)
    return path


def lines_of(data: InferData, worker: int, workers: int) -> list[str]:
    data.begin()
    return [f"{f.ids}/{line}" for f in data.files(PASS) for line, _ in data.rows(f, worker, workers)]


def test_a_directory_without_days_is_one_data_set(tmp_path: Path) -> None:
    write(tmp_path, "b.txt", ["1:1 5:2", "", "0:1 6:3"])
    write(tmp_path, "deeper/a.gz", ["1:1 7:2"])
    for name in (".hidden", "x.tmp", "data.done"):
        write(tmp_path, name, ["nonsense"])
    data = data_of(tmp_path)
    assert data.awaited(PASS) is None
    assert [(f.ids, f.path) for f in data.files(PASS)] == [("0", "b.txt"), ("1", "deeper/a.gz")]
    assert lines_of(data, 0, 1) == ["0/1", "0/3", "1/1"]


def test_days_belong_to_their_passes(tmp_path: Path) -> None:
    write(tmp_path, "20240101/0100/part-0", ["1:1 5:2"])
    write(tmp_path, "20240101/0200/part-0", ["nonsense, of another pass"])
    write(tmp_path, "beside", ["nonsense"])
    data = data_of(tmp_path)
    assert data.awaited(PASS) == f"{tmp_path}/20240101/0100"
    (tmp_path / "20240101/0100/data.done").touch()
    assert data.awaited(PASS) == f"{tmp_path}/20240101/0130"
    write(tmp_path, "20240101/0130/x/part-1", ["1:1 6:2"])
    (tmp_path / "20240101/0130/data.done").touch()
    assert data.awaited(PASS) is None
    assert [f.path for f in data.files(PASS)] == ["20240101/0100/part-0", "20240101/0130/x/part-1"]
    assert lines_of(data, 0, 1) == ["20240101/0100/0/1", "20240101/0130/0/1"]
    without = data_of(tmp_path, donefile="")
    assert without.awaited([Split(9, "20240109", "0000")]) is None
    assert without.files([Split(9, "20240109", "0000")]) == []


@given(st.integers(0, 9), st.integers(1, 4000), st.integers(1, 9))
def test_a_line_has_one_worker(file: int, line: int, workers: int) -> None:
    assert 0 <= owner(file, line, workers) < workers
    assert owner(file, line + CHUNK * workers, workers) == owner(file, line, workers)


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_the_workers_share_the_lines(tmp_path: Path, workers: int) -> None:
    write(tmp_path, "a", [f"1:1 {n}:2" for n in range(1, 1501)])
    write(tmp_path, "b", ["1:1 9:3"] * 30)
    shares, digests = [], []
    for worker in range(workers):
        data = data_of(tmp_path)
        shares.append(lines_of(data, worker, workers))
        digests.append(data.digest())
    assert all(shares) and sorted(x for share in shares for x in share) == sorted(
        [f"0/{n}" for n in range(1, 1501)] + [f"1/{n}" for n in range(1, 31)]
    )
    assert len(set(digests)) == 1
    write(tmp_path, "b", ["1:1 8:3"] * 30)  # as many bytes
    data = data_of(tmp_path)
    lines_of(data, 0, workers)
    assert data.digest() != digests[0]


def test_what_is_refused(tmp_path: Path) -> None:
    file = write(tmp_path, "a", ["1:1 5:2", "1:1 x:2"])
    with pytest.raises(DataError, match=rf"^{file}, line 2: .*Correct it below runner\.infer_data_dir") as refused:
        lines_of(data_of(tmp_path), 0, 1)
    assert "published" not in str(refused.value)
    file.write_bytes(gzip.compress(b"1:1 5:2\n" * 1000)[:-9])
    with pytest.raises(DataError, match=rf"^{file} cannot be read to its end: .* below runner\.infer_data_dir"):
        lines_of(data_of(tmp_path), 0, 1)
    write(tmp_path, "a", ["1:1 5:2"] * 10)
    data = data_of(tmp_path)
    data.begin()
    (listed,) = data.files(PASS)
    write(tmp_path, "a", ["1:1 5:2"] * 11)
    with pytest.raises(TrainingError, match=rf"{file} changed while it was read"):
        list(data.rows(listed, 0, 1))
    with pytest.raises(Unreadable, match=r"\(runner\.infer_data_dir\) is not there any more|nowhere cannot be"):
        data_of(tmp_path / "nowhere").files(PASS)
