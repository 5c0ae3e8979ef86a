"""The MovieLens tree: features, splits without rows, and the download, without a network."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from streamtrain.demo import movielens
from streamtrain.errors import ConfigError, DataError

FIRST = 874_713_600  # 1997-09-20 00:00 UTC


def source(path: Path, ratings: list[tuple[int, int, int, int]] | None = None) -> Path:
    """Three users' worth of a data set: (user, item, stars, seconds after FIRST)."""
    if ratings is None:
        ratings = [(2, 1, 3, 3600), (1, 2, 5, 60), (1, 1, 4, 60), (1, 1, 1, 2 * 86400)]
    path.mkdir(parents=True)
    lines = [f"{u}\t{i}\t{stars}\t{FIRST + seconds}" for u, i, stars, seconds in ratings]
    (path / movielens.RATINGS).write_text("\n".join(["user_id\titem_id\trating\ttimestamp", *lines]) + "\n")
    users = ["user_id\tage\tgender\toccupation\tzip", "1\t24\tM\ttechnician\t85711", "2\t7\tF\tother\t94043"]
    (path / movielens.USERS).write_text("\n".join(users) + "\n")
    items = ["item_id\ttitle\tyear\tclass", '1\tThe "Story"\t1995\tComedy Drama', "2\tNowhere\t\t"]
    (path / movielens.ITEMS).write_text("\n".join(items) + "\n")
    return path


def tokens(line: str) -> list[tuple[int, int]]:
    return [(int(f), int(s)) for f, s in (token.split(":") for token in line.split())]


def test_tree_has_every_split_and_empty_ones(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    summary = movielens.write_tree(source(tmp_path / "src"), tree, split_interval=720, donefile="ok")
    assert (summary.first_day, summary.last_day, summary.days, summary.rows) == ("19970920", "19970922", 3, 4)
    found = sorted(str(p.relative_to(tree)) for p in tree.glob("*/*/*"))
    assert found == [
        "19970920/0000/ok", "19970920/0000/part-0", "19970920/1200/ok", "19970921/0000/ok",
        "19970921/1200/ok", "19970922/0000/ok", "19970922/0000/part-0", "19970922/1200/ok",
    ]  # fmt: skip


def test_rows_are_in_order_of_time_user_item_and_clicks_are_four_stars(tmp_path: Path) -> None:
    movielens.write_tree(source(tmp_path / "src"), tmp_path / "tree", days=1)
    lines = (tmp_path / "tree/19970920/0000/part-0").read_text().splitlines()
    key = movielens.feasign
    assert [next(f for f, s in tokens(line) if s == 3) for line in lines] == [
        key(3, "1"), key(3, "2"), key(3, "1")
    ]  # fmt: skip
    assert [tokens(line)[0] for line in lines] == [(1, 1), (1, 1), (0, 1)]


def test_features_of_a_row(tmp_path: Path) -> None:
    movielens.write_tree(source(tmp_path / "src"), tmp_path / "tree", days=1)
    first, second, _ = (tmp_path / "tree/19970920/0000/part-0").read_text().splitlines()
    pairs = tokens(first)
    assert {s for _, s in pairs} == {1, *range(2, len(movielens.SLOTS) + 2)}
    assert [f for f, s in pairs if s == 8] == [movielens.feasign(8, "Comedy"), movielens.feasign(8, "Drama")]
    assert [s for _, s in pairs] == sorted(s for _, s in pairs)
    assert 8 not in {s for _, s in tokens(second)}, "a film without genres has no feature in that slot"


def test_feasigns_are_63_bits_and_never_zero() -> None:
    keys = {movielens.feasign(slot, str(v)) for slot in range(2, 12) for v in range(300)}
    assert len(keys) == 3000
    assert all(0 < key < 1 << 63 for key in keys)


def test_writing_twice_gives_the_same_files(tmp_path: Path) -> None:
    src = source(tmp_path / "src")
    for name in "ab":
        movielens.write_tree(src, tmp_path / name)
    one, two = ((tmp_path / name / "19970920/0000/part-0").read_bytes() for name in "ab")
    assert one == two


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        ({"split_interval": 7}, "split_interval"),
        ({"days": 4}, "days: 4"),
        ({"days": -1}, "days: -1"),
        ({"donefile": "../x"}, "donefile"),
        ({"donefile": ""}, "donefile"),
    ],
)
def test_bad_arguments_are_named(tmp_path: Path, arguments: dict[str, int | str], what: str) -> None:
    with pytest.raises(ConfigError, match=what) as caught:
        movielens.write_tree(source(tmp_path / "src"), tmp_path / "tree", **arguments)  # type: ignore[arg-type]
    assert caught.value.remedy
    assert not (tmp_path / "tree").exists()


@pytest.mark.parametrize(
    ("file", "text", "what"),
    [
        (movielens.RATINGS, "h\n1\t1\tmany\t5\n", "line 2"),
        (movielens.RATINGS, "h\n1\t9\t5\t5\n", "item 9"),
        (movielens.RATINGS, "h\n1\t1\n", "2 columns"),
        (movielens.RATINGS, "h\n", "no ratings"),
        (movielens.USERS, "h\n1\told\tM\tother\t1\n", "line 2"),
    ],
)
def test_bad_lines_are_named(tmp_path: Path, file: str, text: str, what: str) -> None:
    src = source(tmp_path / "src")
    (src / file).write_text(text)
    with pytest.raises(DataError, match=what) as caught:
        movielens.write_tree(src, tmp_path / "tree")
    assert str(src / file) in str(caught.value)
    assert caught.value.remedy


def test_missing_file_is_named(tmp_path: Path) -> None:
    src = source(tmp_path / "src")
    (src / movielens.ITEMS).unlink()
    with pytest.raises(DataError, match=r"ml-100k\.item cannot be read"):
        movielens.write_tree(src, tmp_path / "tree")


class FakePip:
    """Stands for subprocess.run: puts a wheel into --dest, or fails."""

    def __init__(self, names: list[str], *, returncode: int = 0) -> None:
        self.names, self.returncode, self.calls = names, returncode, 0

    def __call__(self, command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        self.calls += 1
        assert command[:4] == [sys.executable, "-m", "pip", "download"]
        assert "--no-deps" in command
        if self.returncode:
            return subprocess.CompletedProcess(command, self.returncode, "", "trying\nERROR: no network\n")
        wheel = Path(command[command.index("--dest") + 1]) / "recbole-1.2.1-py3-none-any.whl"
        with zipfile.ZipFile(wheel, "w") as archive:
            for name in self.names:
                archive.writestr(f"{movielens.FOLDER}/{name}", "x")
            archive.writestr("recbole/other.py", "x")
        return subprocess.CompletedProcess(command, 0, "", "")


ALL = [movielens.RATINGS, movielens.USERS, movielens.ITEMS]


def test_fetch_extracts_only_the_data_set_and_only_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pip = FakePip([*ALL, "ml-100k.kg"])
    monkeypatch.setattr(subprocess, "run", pip)
    folder = movielens.fetch(tmp_path)
    assert sorted(p.name for p in folder.iterdir()) == sorted([*ALL, "ml-100k.kg"])
    assert not (tmp_path / "recbole/other.py").exists()
    assert movielens.fetch(tmp_path) == folder
    assert pip.calls == 1


@pytest.mark.parametrize(
    ("pip", "what"), [(FakePip(ALL, returncode=1), "no network"), (FakePip(ALL[:2]), "ml-100k.item")]
)
def test_fetch_that_fails_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pip: FakePip, what: str) -> None:
    monkeypatch.setattr(subprocess, "run", pip)
    with pytest.raises(DataError, match=what) as caught:
        movielens.fetch(tmp_path)
    assert caught.value.remedy
