"""What became of a bridged split's files, by their content."""

import gzip
import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from streamtrain.connectors.changes import Change, changes, described
from streamtrain.connectors.ledger import Ledger
from streamtrain.connectors.tree import Tree
from streamtrain.contracts.marker import Marker, SourceFile
from streamtrain.errors import Unreadable
from streamtrain.schedule import Schedule

SCHEDULE = Schedule(720, 1, "20240101", "20240101")
OLD = b"1:1 5:2\n0:1 6:2\n"
MORE = b"1:1 9:3\n"


def source(path: str, data: bytes) -> SourceFile:
    return SourceFile(path, len(data), data.count(b"\n"), hashlib.sha256(data).hexdigest())


class Scene:
    """A split with `part-0` (OLD) and `part-1.gz`, bridged."""

    def __init__(self, root: Path) -> None:
        self.folder = root / "20240101" / "0000"
        self.folder.mkdir(parents=True)
        self.tree = Tree(str(root), "data.done")
        self.ledger = Ledger(SCHEDULE)
        self.packed = gzip.compress(b"0:1 8:2\n")
        self.write("part-0", OLD)
        self.write("part-1.gz", self.packed)
        self.bridge(0, source("part-0", OLD), source("part-1.gz", self.packed))

    def write(self, path: str, data: bytes) -> Path:
        file = self.folder / path
        file.write_bytes(data)
        os.utime(file, (50, 50))
        return file

    def bridge(self, revision: int, *files: SourceFile) -> None:
        marker = Marker("20240101", "0000", 0, revision, "data", "id", (), 0, 0, files, "")
        self.ledger.add(marker, 100.0)

    def found(self) -> list[Change]:
        split = SCHEDULE.split(0)
        listed = self.tree.files(split)
        return changes(self.tree, split, self.ledger.splits[0], listed, self.ledger.suspects(0, listed))

    def kinds(self) -> list[tuple[str, str, str]]:
        return [(c.kind, c.file.path, c.of.path if c.of else "") for c in self.found()]


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path)


def rename(scene: Scene) -> None:
    (scene.folder / "part-0").rename(scene.folder / "part-0.old")


def rename_and_grow(scene: Scene) -> None:
    rename(scene)
    scene.write("part-0.old", OLD + MORE)


def copy(scene: Scene) -> None:
    scene.write("copy", OLD)


def pack(scene: Scene) -> None:
    (scene.folder / "part-0").unlink()
    scene.write("part-0.gz", gzip.compress(OLD))


def pack_beside(scene: Scene) -> None:
    scene.write("part-0.gz", gzip.compress(OLD))


def grow_and_pack(scene: Scene) -> None:
    (scene.folder / "part-0").unlink()
    scene.write("part-0.gz", gzip.compress(OLD + MORE))


def pack_something_else(scene: Scene) -> None:
    (scene.folder / "part-0").unlink()
    scene.write("part-0.gz", gzip.compress(MORE))


def unpack(scene: Scene) -> None:
    (scene.folder / "part-1.gz").unlink()
    scene.write("part-1", b"0:1 8:2\n")


def rename_packed(scene: Scene) -> None:
    (scene.folder / "part-1.gz").rename(scene.folder / "b.gz")


def swap(scene: Scene) -> None:
    rename(scene)
    (scene.folder / "part-1.gz").rename(scene.folder / "part-0")


@pytest.mark.parametrize(
    ("act", "kinds"),
    [
        (rename, [("renamed", "part-0.old", "part-0")]),
        (rename_and_grow, [("grown", "part-0.old", "part-0")]),
        (copy, [("copied", "copy", "part-0")]),
        (pack, [("packed", "part-0.gz", "part-0")]),
        (pack_beside, [("packed", "part-0.gz", "part-0")]),
        (grow_and_pack, [("unclear", "part-0.gz", "part-0")]),
        (pack_something_else, [("unclear", "part-0.gz", "part-0")]),
        (unpack, [("unclear", "part-1", "part-1.gz")]),
        (rename_packed, [("renamed", "b.gz", "part-1.gz")]),
        (lambda s: s.write("part-0", OLD + MORE), [("grown", "part-0", "part-0")]),
        (lambda s: s.write("part-0", MORE + OLD), [("rewritten", "part-0", "part-0")]),
        (lambda s: s.write("part-0", OLD[:-1]), [("rewritten", "part-0", "part-0")]),
        (lambda s: s.write("part-0", b""), [("rewritten", "part-0", "part-0")]),
        (lambda s: s.write("part-1.gz", s.packed + MORE), [("rewritten", "part-1.gz", "part-1.gz")]),
        (lambda s: s.write("part-2", MORE), [("new", "part-2", "")]),
        (lambda s: s.write("part-2", OLD + MORE), [("new", "part-2", "")]),  # part-0 is still there
        (lambda s: s.write("part-2", b""), []),
        (lambda s: (s.folder / "part-0").unlink(), []),
        (lambda s: os.utime(s.folder / "part-0", (200, 200)), []),
        (swap, [("renamed", "part-0", "part-1.gz"), ("copied", "part-0.old", "part-0")]),
    ],
)
def test_what_became_of_a_file(scene: Scene, act: Callable[[Scene], object], kinds: list[tuple[str, str, str]]) -> None:
    assert scene.kinds() == []
    act(scene)
    assert scene.kinds() == kinds


def test_an_older_state_of_a_file_is_known(scene: Scene) -> None:
    scene.write("part-0", OLD + MORE)
    scene.bridge(1, source("part-0", OLD + MORE))
    scene.write("part-0.bak", OLD)
    assert scene.kinds() == [("copied", "part-0.bak", "part-0")]


def test_a_half_line_has_nothing_new(scene: Scene) -> None:
    scene.write("part-0", OLD + b"1:1 9:")
    assert [change.has_whole_lines for change in scene.found()] == [False]
    scene.write("part-0", OLD + b"1:1 9:3\n1")
    assert [change.has_whole_lines for change in scene.found()] == [True]
    scene.write("part-0", OLD)
    scene.write("part-3", b"1:1")
    assert [change.has_whole_lines for change in scene.found()] == [False]


def test_an_unchanged_file_is_not_compared_again(scene: Scene) -> None:
    split = SCHEDULE.split(0)
    os.utime(scene.folder / "part-0", (200, 200))
    assert [f.path for f in scene.ledger.suspects(0, scene.tree.files(split))] == ["part-0"]
    assert scene.found() == []
    assert scene.ledger.suspects(0, scene.tree.files(split)) == []
    os.utime(scene.folder / "part-0", (201, 201))
    assert [f.path for f in scene.ledger.suspects(0, scene.tree.files(split))] == ["part-0"]


def test_half_a_late_gzip_file_is_looked_at_again(scene: Scene) -> None:
    scene.write("part-2.gz", gzip.compress(OLD * 99)[:-9])
    with pytest.raises(Unreadable, match=r"part-2\.gz cannot be read to its end.* looked at again"):
        scene.found()


def test_a_renamed_files_rows_are_said_to_be_in_kafka(scene: Scene) -> None:
    rename(scene)
    text, remedy = described(scene.tree, SCHEDULE.split(0), scene.found()[0])
    assert "part-0 was renamed to" in text and "in Kafka already" in text and remedy == "Rename it back"
