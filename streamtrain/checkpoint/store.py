"""Checkpoints under model_save_path: staged, fsynced, renamed, verified.

A directory {day}/{pass_id} exists only whole: it is written under `.staging/` and renamed. What is damaged
later (its bytes are not those of the manifest) is passed over.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from streamtrain.checkpoint.manifest import NAME, FileEntry, Manifest, digest
from streamtrain.errors import CheckpointError
from streamtrain.schedule import PassId

STAGING = ".staging"
DONEFILE = "donefile.txt"


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint on disk. `problem` is empty when nothing is known to be wrong with it."""

    path: Path
    of: PassId
    manifest: Manifest | None
    digest: str
    problem: str


class CheckpointStore:
    """The checkpoints of one model_save_path. Raises CheckpointError for what the file system refuses."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def list(self) -> list[Checkpoint]:
        """All checkpoints, oldest first; the manifest of each is read, its files are not."""
        found = []
        for path in self.root.glob("*/*"):
            if re.fullmatch(r"\d{8}", path.parent.name) and path.name.isdigit() and path.is_dir():
                found.append(self._read(path, PassId(path.parent.name, int(path.name))))
        return sorted(found, key=lambda c: c.of)

    @staticmethod
    def _read(path: Path, of: PassId) -> Checkpoint:
        try:
            data = (path / NAME).read_bytes()
            manifest = Manifest.decode(data)
        except (OSError, ValueError) as error:
            return Checkpoint(path, of, None, "", f"{path / NAME}: {error}")
        if manifest.of != of:
            return Checkpoint(path, of, None, "", f"{path / NAME} is that of {manifest.of}")
        return Checkpoint(path, of, manifest, digest(data), "")

    @staticmethod
    def verify(checkpoint: Checkpoint) -> str:
        """'' when every file is what the manifest says, else the first thing that is wrong."""
        if checkpoint.manifest is None:
            return checkpoint.problem
        for entry in checkpoint.manifest.files:
            file = checkpoint.path / entry.path
            try:
                if file.stat().st_size != entry.bytes:
                    return f"{file} has {file.stat().st_size} bytes, the manifest says {entry.bytes}"
                if _sha256(file) != entry.sha256:
                    return f"{file} is damaged: its SHA-256 is not the manifest's"
            except OSError as error:
                return f"{file}: {error.strerror}"
        listed = {e.path for e in checkpoint.manifest.files}
        for path in _files(checkpoint.path):
            if path != NAME and path not in listed:
                return f"{checkpoint.path / path} is not in the manifest"
        return ""

    def newest(self) -> Iterator[tuple[Checkpoint, str]]:
        """Newest first, each with what is wrong with it ('' if nothing)."""
        for checkpoint in reversed(self.list()):
            yield checkpoint, self.verify(checkpoint)

    def staging(self, of: PassId) -> Path:
        """Where a checkpoint is saved before it is published."""
        return self.root / STAGING / f"{of.day}-{of.pass_id}"

    def stage(self, of: PassId) -> Path:
        """An empty directory to save into; what an earlier crash left is cleared."""
        shutil.rmtree(self.root / STAGING, ignore_errors=True)
        path = self.staging(of)
        try:
            path.mkdir(parents=True)
        except OSError as error:
            raise CheckpointError(
                f"{path} cannot be made: {error.strerror}", remedy="Look at runner.model_save_path."
            ) from error
        return path

    @staticmethod
    def seal(path: Path) -> tuple[FileEntry, ...]:
        """fsyncs every file of a staged directory and returns their sizes and digests.

        A failed fsync is final: the kernel may have dropped the pages, so it is never tried again.
        """
        entries = []
        for name in _files(path):
            file = path / name
            entries.append(FileEntry(name, file.stat().st_size, _sha256(file)))
            _fsync(file)
        return tuple(entries)

    def put_manifest(self, staged: Path, manifest: Manifest) -> str:
        """Writes the manifest into the staged directory, fsyncs all directories; returns its digest."""
        data = manifest.encode()
        write_synced(staged / NAME, data)
        for directory, _, _ in os.walk(staged, topdown=False):
            _fsync(Path(directory))
        return digest(data)

    def publish(self, staged: Path, of: PassId) -> Path:
        """Renames the staged directory to {day}/{pass_id}: the commit point."""
        target = self.root / of.day / str(of.pass_id)
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            _fsync(self.root)
            if target.exists():  # a damaged one that was passed over, or one of a lost history
                aside = self.root / STAGING / f"replaced-{of.day}-{of.pass_id}"
                shutil.rmtree(aside, ignore_errors=True)
                target.rename(aside)
            staged.rename(target)
            _fsync(target.parent)
            _fsync(staged.parent)
        except OSError as error:
            raise CheckpointError(f"{target} cannot be published: {error.strerror}") from error
        return target

    def append_donefile(self, of: PassId, base_key: int) -> None:
        """A line `day, base key, path, pass_id, 0` in donefile.txt, by atomic replace; once a checkpoint.

        Lines of later passes (of a history that a restart went back behind) are dropped.
        """
        path = self.root / DONEFILE
        kept = []
        try:
            lines = path.read_text().splitlines() if path.exists() else []
        except OSError as error:
            raise CheckpointError(f"{path}: {error.strerror}") from error
        for line in lines:
            columns = line.split("\t")
            if len(columns) == 5 and PassId(columns[0], int(columns[3])) < of:
                kept.append(line)
        kept.append(f"{of.day}\t{base_key}\t{self.root / of.day / str(of.pass_id)}\t{of.pass_id}\t0")
        replace_synced(path, ("\n".join(kept) + "\n").encode())


def _files(root: Path) -> list[str]:
    return sorted(str(p.relative_to(root)) for p in root.rglob("*") if p.is_file())


def _sha256(path: Path) -> str:
    found = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            found.update(block)
    return found.hexdigest()


def _fsync(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    except OSError as error:
        raise CheckpointError(
            f"fsync of {path} failed: {error.strerror}",
            remedy="What was written may be lost; look at the disk, then start again from the last checkpoint.",
        ) from error
    finally:
        os.close(fd)


def write_synced(path: Path, data: bytes) -> None:
    """Writes and fsyncs a file. Raises CheckpointError."""
    try:
        path.write_bytes(data)
    except OSError as error:
        raise CheckpointError(f"{path} cannot be written: {error.strerror}") from error
    _fsync(path)


def replace_synced(path: Path, data: bytes) -> None:
    """Replaces a file atomically: readers see the old or the new one."""
    temporary = path.with_name(f".{path.name}.new")
    write_synced(temporary, data)
    temporary.replace(path)
    _fsync(path.parent)
