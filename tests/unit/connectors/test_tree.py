"""What a tree shows, what it refuses, and what it says that it cannot see."""

import os
import socket
from pathlib import Path

import pytest

from streamtrain.connectors.tree import Listing, Tree
from streamtrain.errors import ConfigError, DataError, Unreadable
from streamtrain.schedule import Schedule, Split
from tests.support.shy_files import EndpointConnectionError, ShyFileSystem

SPLIT = Split(0, "20240101", "0000")
FOLDER = Path("20240101/0000")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "data" / FOLDER
    path.mkdir(parents=True)
    return path


@pytest.fixture
def tree(folder: Path) -> Tree:
    return Tree(str(folder.parents[1]), "data.done")


def listed(tree: Tree) -> Listing:
    listing = tree.listing(SPLIT)
    assert listing is not None
    return listing


def paths(tree: Tree) -> list[str]:
    return [file.path for file in listed(tree).files]


def test_links_are_followed(folder: Path, tree: Tree, tmp_path: Path) -> None:
    store = tmp_path / "store"
    (store / "deep").mkdir(parents=True)
    (store / "a").write_text("12345")
    (store / "deep" / "b").write_text("1")
    (folder / "part-0").symlink_to(store / "a")
    (folder / "host").symlink_to(store)
    assert paths(tree) == ["host/a", "host/deep/b", "part-0"]
    assert [file.bytes for file in listed(tree).files] == [5, 1, 5]
    with tree.open(SPLIT, "host/deep/b") as raw:
        assert raw.read() == b"1"


def test_deeper_files_are_read_and_sorted_by_path(folder: Path, tree: Tree) -> None:
    for name in ("b/part-0", "a/x/part-1", "a.log", "part-0"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("x")
    (folder / "data.done").touch()
    (folder / "b" / "data.done").touch()
    assert paths(tree) == ["a.log", "a/x/part-1", "b/part-0", "part-0"]


def test_files_that_somebody_writes_are_left_out(folder: Path, tree: Tree) -> None:
    left_out = [".hidden", "_SUCCESS", "part-1._COPYING_", "a.tmp", "a.inprogress", "part-0.crc", "_temporary"]
    for name in left_out[:-1]:
        (folder / name).write_text("half")
    (folder / "_temporary").mkdir()
    (folder / "_temporary" / "part-9").touch()
    (folder / "part-0").touch()
    assert paths(tree) == ["part-0"]
    assert [file.path for file in listed(tree).ignored] == sorted(left_out)
    own = Tree(str(folder.parents[1]), "data.done", ["*.crc"])
    assert "_SUCCESS" in paths(own) and "part-0.crc" not in paths(own)


@pytest.mark.parametrize("where", ["20240101", "20240101/0000", "20240101/0000/part-0", "20240101/0000/data.done"])
def test_a_link_that_leads_nowhere_is_named(tmp_path: Path, where: str) -> None:
    link = tmp_path / "data" / where
    link.parent.mkdir(parents=True)
    link.symlink_to(tmp_path / "nowhere")
    tree = Tree(str(tmp_path / "data"), "data.done")
    with pytest.raises(Unreadable, match=rf"{link} is a link to .*nowhere, which does not exist|{link} was listed"):
        tree.is_ready(SPLIT)
        tree.listing(SPLIT)


def test_a_link_to_itself_is_an_error_of_looking(folder: Path, tree: Tree) -> None:
    (folder / "part-0").symlink_to("part-0")
    with pytest.raises(Unreadable, match=r"part-0 cannot be looked at: .*ELOOP"):
        tree.listing(SPLIT)


def test_a_link_to_a_directory_above_is_refused(folder: Path, tree: Tree) -> None:
    (folder / "deep").mkdir()
    (folder / "deep" / "again").symlink_to(folder / "deep")
    with pytest.raises(DataError, match="again leads back"):
        tree.listing(SPLIT)


def test_what_is_no_file_is_refused_by_name(folder: Path, tree: Tree) -> None:
    os.mkfifo(folder / "pipe")
    with pytest.raises(DataError, match="pipe is a named pipe, not a file"):
        tree.listing(SPLIT)
    (folder / "pipe").unlink()
    with socket.socket(socket.AF_UNIX) as server:
        here = Path.cwd()
        os.chdir(folder)  # a socket's path may have 107 bytes
        try:
            server.bind("door")
        finally:
            os.chdir(here)
    with pytest.raises(DataError, match="door is a socket, not a file"):
        tree.listing(SPLIT)


def test_a_name_in_no_encoding_is_refused(folder: Path, tree: Tree) -> None:
    (folder / os.fsdecode(b"part-\xff")).touch()
    with pytest.raises(DataError, match="name is not UTF-8") as caught:
        tree.listing(SPLIT)
    str(caught.value).encode()


@pytest.mark.parametrize("where", ["20240101", "20240101/0000"])
def test_a_file_in_a_directorys_place_is_named(tmp_path: Path, where: str) -> None:
    path = tmp_path / where
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    for donefile in ("data.done", ""):
        with pytest.raises(DataError, match=f"{path} is .*not .*directory"):
            Tree(str(tmp_path), donefile).is_ready(SPLIT)


def test_what_is_absent_is_not_ready(folder: Path, tree: Tree) -> None:
    assert not tree.is_ready(SPLIT)
    (folder / "data.done").touch()
    assert tree.is_ready(SPLIT)
    (folder / "data.done").unlink()
    folder.rmdir()
    assert not tree.is_ready(SPLIT) and tree.listing(SPLIT) is None and tree.files(SPLIT) == []
    assert not Tree(str(folder.parents[1]), "").is_ready(SPLIT)


def test_a_root_that_is_gone_is_not_an_absent_split(folder: Path, tree: Tree) -> None:
    tree.check()
    root = folder.parents[1]
    root.rename(root.with_name("unmounted"))
    for look in (tree.is_ready, tree.listing):
        with pytest.raises(Unreadable, match="is not there any more"):
            look(SPLIT)
    with pytest.raises(ConfigError, match="is not a directory"):
        tree.check()


ERRORS = [
    OSError(5, "Input/output error"),
    PermissionError(13, "Permission denied"),
    OSError(116, "Stale file handle"),
    EndpointConnectionError("Could not connect"),
    TimeoutError(),
]


@pytest.fixture
def shy() -> Tree:
    ShyFileSystem.store.clear()
    ShyFileSystem.pseudo_dirs[:] = [""]
    ShyFileSystem.refusals.clear()
    fs = ShyFileSystem()
    fs.pipe("/logs/20240101/0000/part-0", b"1:1 5:2\n")
    fs.pipe("/logs/20240101/0000/deep/part-1", b"")
    fs.pipe("/logs/20240101/0000/data.done", b"")
    return Tree("shy://logs", "data.done")


@pytest.mark.parametrize("error", ERRORS, ids=lambda e: type(e).__name__)
@pytest.mark.parametrize(
    ("method", "path"),
    [("info", "data.done"), ("ls", "0000"), ("ls", "deep"), ("info", "part-0"), ("info", "deep/part-1"),
     ("info", "20240101/0000")],
)  # fmt: skip
def test_each_refused_look_is_unreadable(shy: Tree, method: str, path: str, error: Exception) -> None:
    def look() -> list[str]:
        assert shy.is_ready(SPLIT)
        return paths(shy)

    assert look() == ["deep/part-1", "part-0"]
    ShyFileSystem.refuse(method, path, error)
    with pytest.raises(Unreadable) as caught:
        look()
    assert path in caught.value.message
    assert str(error.args[-1] if error.args else type(error).__name__) in caught.value.message
    assert look() == ["deep/part-1", "part-0"]


def test_an_absent_donefile_with_an_unreachable_root_is_unreadable(shy: Tree) -> None:
    ShyFileSystem.refuse("info", "data.done", FileNotFoundError("data.done"))
    ShyFileSystem.refuse("info", "logs", EndpointConnectionError("away"))
    with pytest.raises(Unreadable, match=r"train_data_dir\) cannot be looked at: EndpointConnectionError: away"):
        shy.is_ready(SPLIT)
    shy.check()


def test_directories_that_no_split_is(tmp_path: Path) -> None:
    schedule = Schedule(720, 1, "20240101", "20240131")
    for name in ("20240101/0000", "20240101/0030", "20240101/tmp", "20240102/1200", "20240131/2359", "20240201/0030"):
        (tmp_path / name).mkdir(parents=True)
    assert Tree(str(tmp_path), "data.done").unscheduled(schedule) == ["20240101/0030", "20240131/2359"]


def test_a_donefile_that_is_a_directory_is_refused(tmp_path: Path) -> None:
    split = Schedule(720, 1, "20240101", "20240131").split(0)
    (tmp_path / split.path / "data.done").mkdir(parents=True)
    with pytest.raises(DataError, match=r"data\.done is a directory, not a donefile"):
        Tree(str(tmp_path), "data.done").is_ready(split)
