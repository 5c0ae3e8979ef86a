"""Checkpoints under model_save_path: listed, verified, sealed, published, named in donefile.txt.

A directory {day}/{pass_id} appears whole: it is written below `.staging/` and renamed. One that is damaged later (its
bytes are not those of its manifest) is skipped by a restart.
"""

from __future__ import annotations

import builtins
import os
import re
from collections.abc import Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from streamtrain.checkpoint.runs import Run, fsync, refusals, write_synced
from streamtrain.contracts.inference_models import ModelManifest
from streamtrain.contracts.manifest import NAME, FileEntry, Manifest, digest
from streamtrain.contracts.paths import number_of, plain_path
from streamtrain.errors import CheckpointError
from streamtrain.failpoints import failpoint
from streamtrain.files import sha256
from streamtrain.schedule import PassId

DONEFILE = "donefile.txt"


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint on disk. manifest: None when it cannot be read; problem: what is known to be wrong, None if
    nothing."""

    path: Path
    id: PassId
    manifest: Manifest | None
    digest: str
    problem: str | None


class CheckpointStore:
    """The checkpoints of one model_save_path. Raises CheckpointError for what the file system refuses.

    Reading needs no run. What writes does so through `run`, which must have taken over, and raises Fenced, with
    nothing changed, once a newer run has.
    """

    def __init__(self, root: Path, run: Run | None = None) -> None:
        self.root = root
        self.run = run or Run(root)

    def list(self) -> list[Checkpoint]:
        """All checkpoints, oldest first; the manifest of each is read, its files are not."""
        checkpoints = []
        for path in self.root.glob("*/*"):
            number = number_of(path.name)
            if re.fullmatch(r"[0-9]{8}", path.parent.name) and number is not None and path.is_dir():
                checkpoints.append(self._read(path, PassId(path.parent.name, number)))
        return sorted(checkpoints, key=lambda c: c.id)

    @staticmethod
    def _read(path: Path, pass_id: PassId) -> Checkpoint:
        try:
            data = (path / NAME).read_bytes()
            manifest = Manifest.decode(data)
        except (OSError, ValueError) as error:
            return Checkpoint(path, pass_id, None, "", f"{path / NAME}: {error}")
        if manifest.id != pass_id:
            return Checkpoint(path, pass_id, None, "", f"{path / NAME} is that of {manifest.id}")
        return Checkpoint(path, pass_id, manifest, digest(data), None)

    @staticmethod
    def verify(checkpoint: Checkpoint) -> str | None:
        """None when every file is what the manifest says, else the first thing that is wrong."""
        if checkpoint.manifest is None:
            return checkpoint.problem
        for entry in checkpoint.manifest.files:
            file = checkpoint.path / entry.path
            try:
                if file.stat().st_size != entry.bytes:
                    return f"{file} has {file.stat().st_size} bytes, the manifest says {entry.bytes}"
                if sha256(file) != entry.sha256:
                    return f"{file} is damaged: its SHA-256 is not the manifest's"
            except OSError as error:
                return f"{file}: {error.strerror}"
        listed = {e.path for e in checkpoint.manifest.files}
        for path in _files(checkpoint.path):
            if path != NAME and path not in listed:
                return f"{checkpoint.path / path} is not in the manifest"
        return None

    def newest_first(self) -> Iterator[tuple[Checkpoint, str | None]]:
        """Each with what verify() says of it, newest first."""
        for checkpoint in reversed(self.list()):
            yield checkpoint, self.verify(checkpoint)

    def path(self, pass_id: PassId) -> Path:
        return self.root / pass_id.day / str(pass_id.pass_id)

    def stage(self, pass_id: PassId) -> Path:
        """An empty directory to save into."""
        path = self.run.empty(f"{pass_id.day}-{pass_id.pass_id}")
        failpoint("save.staged")
        return path

    def publish(self, staged: Path, pass_id: PassId) -> Path:
        """Renames the staged directory to {day}/{pass_id}: the commit point."""
        return self.run.publish(staged, self.path(pass_id))

    def remove(self, pass_id: PassId) -> bool:
        """Deletes a checkpoint's directory. False when it was not there."""
        return self.run.remove(self.path(pass_id))

    def drop_from_donefile(self, removed: Collection[PassId]) -> None:
        """Takes their lines out of donefile.txt."""
        path = self.root / DONEFILE
        lines = path.read_text().splitlines(keepends=True) if path.exists() else []
        names = {str(pass_id) for pass_id in removed}
        kept = [line for line in lines if "/".join(line.split("\t")[0:4:3]) not in names]
        if kept != lines:
            self.run.replace(path, "".join(kept).encode())

    def append_donefile(self, pass_id: PassId, base_key: int) -> None:
        """A line `day, base key, path, pass_id, 0` in donefile.txt, by atomic replace; once a checkpoint.

        Lines of later passes (of a history that a restart has discarded) are dropped.
        """
        path = self.root / DONEFILE
        kept = []
        with self.run.guard(path, "cannot be read"):
            lines = path.read_text().splitlines() if path.exists() else []
        for line in lines:
            columns = line.split("\t")
            number = number_of(columns[3]) if len(columns) == 5 else None
            if number is not None and PassId(columns[0], number) < pass_id:
                kept.append(line)
        kept.append(f"{pass_id.day}\t{base_key}\t{self.path(pass_id)}\t{pass_id.pass_id}\t0")
        self.run.replace(path, ("\n".join(kept) + "\n").encode())


def seal(staged: Path) -> tuple[FileEntry, ...]:
    """fsyncs every file of a staged directory and returns their sizes and digests. Raises CheckpointError, also for a
    file whose name a reader would refuse."""
    with refusals(staged, "cannot be read back"), ThreadPoolExecutor(2) as pool:
        names = _files(staged)
        for name in names:
            try:
                plain_path(name)
            except ValueError as error:
                raise CheckpointError(
                    f"{staged} has a file that no checkpoint may have: {error}",
                    remedy="Give the model's parameters such names.",
                ) from error
        digests = pool.map(sha256, [staged / name for name in names])  # beside the disk's work
        for name in names:
            fsync(staged / name)
        entries = tuple(
            FileEntry(name, (staged / name).stat().st_size, digest) for name, digest in zip(names, digests, strict=True)
        )
    failpoint("save.sealed")
    return entries


def put_manifest(staged: Path, manifest: Manifest | ModelManifest) -> str:
    """Writes the manifest into the staged directory, fsyncs all directories; returns its digest.

    Raises CheckpointError.
    """
    data = manifest.encode()
    write_synced(staged / NAME, data)
    for directory, _, _ in os.walk(staged, topdown=False):
        fsync(Path(directory))
    return digest(data)


def _files(root: Path) -> builtins.list[str]:
    return sorted(str(p.relative_to(root)) for p in root.rglob("*") if p.is_file())
