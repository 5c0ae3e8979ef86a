"""Checkpoints as somebody else may leave them: links that lead outside, pipes that do not end, files that are too
large, lines that name each other."""

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from streamtrain import files
from streamtrain.checkpoint import rewind
from streamtrain.checkpoint.journal import Journal
from streamtrain.checkpoint.published import PublishedModels
from streamtrain.checkpoint.store import CheckpointStore
from streamtrain.checkpoint.table_files import MAX_LINE, blocks, find_keys
from streamtrain.contracts import reports
from streamtrain.contracts.donefiles import DoneLine, encode_donefile
from streamtrain.contracts.manifest import NAME, Manifest, ModelChain, ModelRef
from streamtrain.contracts.table_text import SHARD
from streamtrain.errors import CheckpointError, Unreadable
from streamtrain.proof import newest as proof_newest
from streamtrain.serving.files import Files
from tests.unit.contracts.test_foreign_bytes import DOCUMENTS

SECRET = b"5 2 0 1 3 1 0.2 0.1\n"


def checkpoint(root: Path) -> Path:
    """With one file, below a directory."""
    folder = root / "model" / "20240101" / "1"
    (folder / SHARD).mkdir(parents=True)
    (folder / SHARD / "part-0.txt").write_bytes(SECRET)
    manifest = Manifest.decode(DOCUMENTS["checkpoint"][1])
    entry = replace(
        manifest.files[0],
        path=f"{SHARD}/part-0.txt",
        bytes=len(SECRET),
        sha256=files.sha256(folder / SHARD / "part-0.txt"),
    )
    (folder / NAME).write_bytes(replace(manifest, day="20240101", pass_id=1, files=(entry,)).encode())
    return folder


def to_link(file: Path) -> None:
    file.rename(file.parents[4] / "outside")
    file.symlink_to(file.parents[4] / "outside")


def to_linked_folder(file: Path) -> None:
    outside = file.parents[4] / "outside"
    file.parent.rename(outside)
    file.parent.symlink_to(outside)


def to_pipe(file: Path) -> None:
    file.unlink()
    os.mkfifo(file)


def to_device(file: Path) -> None:
    file.unlink()
    file.symlink_to("/dev/zero")


def to_huge(file: Path) -> None:
    os.truncate(file, 1 << 40)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (to_link, "part-0.txt is a symbolic link, not a file"),
        (to_linked_folder, "embedding.shard is a symbolic link, not a directory"),
        (to_pipe, "part-0.txt is a named pipe, not a file"),
        (to_device, "part-0.txt is a symbolic link, not a file"),
        (to_huge, f"has {1 << 40} bytes, the manifest says {len(SECRET)}"),
    ],
)
def test_a_checkpoints_files_are_its_own(tmp_path: Path, change: Callable[[Path], None], reason: str) -> None:
    folder = checkpoint(tmp_path)
    store = CheckpointStore(tmp_path / "model")
    assert store.verify(store.list()[0]) is None
    change(folder / SHARD / "part-0.txt")
    problem = store.verify(store.list()[0])
    assert problem is not None and problem.kind == "damaged" and reason in problem.text
    if change is not to_huge:
        with pytest.raises(CheckpointError, match=r"not a (file|directory)"):
            find_keys(folder, [5])


@pytest.mark.parametrize("change", [to_pipe, to_device, to_huge])
def test_a_manifest_that_does_not_end(tmp_path: Path, change: Callable[[Path], None]) -> None:
    folder = checkpoint(tmp_path)
    change(folder / NAME)
    assert CheckpointStore(tmp_path / "model").list()[0].problem is not None
    with pytest.raises((CheckpointError, Unreadable)):
        if change is to_huge:
            files.read_bytes(folder / NAME)
        proof_newest.newest(tmp_path / "model")
    with pytest.raises(CheckpointError, match=r"not a file|at most"):
        Files(folder).find(NAME)


@pytest.mark.parametrize("change", [to_pipe, to_device, to_link, to_linked_folder])
def test_a_part_file_that_is_not_the_checkpoints_in_the_recount(tmp_path: Path, change: Callable[[Path], None]) -> None:
    folder = checkpoint(tmp_path)
    change(folder / SHARD / "part-0.txt")
    with pytest.raises((Unreadable, CheckpointError), match=r"is not a file|is a symbolic link"):
        proof_newest.table(folder / SHARD)


def test_a_journal_and_reports_that_do_not_end(tmp_path: Path) -> None:
    folder = checkpoint(tmp_path)
    root = tmp_path / "model"
    for name in ("passes.jsonl", reports.CONSISTENCY, "donefile.txt", "patch_donefile.txt", "rewind.json"):
        os.mkfifo(root / name)
    assert proof_newest.rows_by_pass(root, proof_newest.newest(root)) is not None
    assert reports.read(root, reports.CONSISTENCY) is None
    reading: list[Callable[[], object]] = [
        Journal(root).read,
        CheckpointStore(root)._donefile,
        PublishedModels(root).lines,
        lambda: rewind.interrupted(root),
    ]
    for read in reading:
        with pytest.raises(Unreadable, match="is a named pipe, not a file"):
            read()
    assert folder.is_dir()


def test_a_part_file_without_line_ends(tmp_path: Path) -> None:
    (tmp_path / "part-0.txt").touch()
    os.truncate(tmp_path / "part-0.txt", 1 << 40)
    with pytest.raises(CheckpointError, match=f"a line of more than {MAX_LINE} bytes"):
        list(blocks(tmp_path / "part-0.txt"))


def test_donefile_lines_that_name_each_other(tmp_path: Path) -> None:
    line = DoneLine.decode(DOCUMENTS["line"][1])
    one, two = (ModelRef("20240101", n, letter * 64) for n, letter in ((1, "a"), (2, "b")))
    lines = [
        replace(line, day=m.day, pass_id=m.pass_id, digest=m.digest, previous=p) for m, p in ((one, two), (two, one))
    ]
    (tmp_path / "patch_donefile.txt").write_bytes(encode_donefile(lines, "incremental"))
    chain = ModelChain(base=ModelRef("20240101", 0, "c" * 64), previous=two)
    assert len(PublishedModels(tmp_path).lines()) == 2 and not PublishedModels(tmp_path).can_be_patched(chain)
