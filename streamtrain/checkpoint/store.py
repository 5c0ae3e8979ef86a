"""Checkpoints under model_save_path: listed, verified, sealed, published, named in donefile.txt.

A directory {day}/{pass_id} appears whole: it is written below `.staging/` and renamed. One that is damaged later (its
bytes are not those of its manifest) is skipped by a restart. A restart refuses one that a newer version wrote, and one
that cannot be read: they may be valid.
"""

from __future__ import annotations

import builtins
import os
import re
from collections.abc import Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from streamtrain.checkpoint.runs import Run, fsync, refusals, write_synced
from streamtrain.contracts.inference_models import CommonManifest
from streamtrain.contracts.json_codec import UnknownFormatError
from streamtrain.contracts.manifest import NAME, FileEntry, Manifest, digest
from streamtrain.contracts.paths import number_of, plain_path
from streamtrain.errors import CheckpointError, StreamtrainError, UnknownFormat, Unreadable
from streamtrain.failpoints import failpoint
from streamtrain.files import look, names, not_plain, read_bytes, sha256
from streamtrain.schedule import PassId

DONEFILE = "donefile.txt"


@dataclass(frozen=True)
class Problem:
    """Why a checkpoint cannot be taken.

    damaged: its bytes are not those of its manifest, or are cut: an older one may do. unknown: its format is a newer
    version's. unreadable: the file system refuses to show it. The last two may be valid.
    """

    kind: Literal["damaged", "unknown", "unreadable"]
    text: str

    def __str__(self) -> str:
        return self.text

    def refusal(self, pass_id: PassId) -> StreamtrainError | None:
        """The error of a checkpoint that may be valid; None for a damaged one."""
        if self.kind == "unknown":
            return UnknownFormat(
                f"checkpoint {pass_id} is of a format that this version does not know: {self.text}",
                remedy=UnknownFormat.REMEDY,
            )
        if self.kind == "unreadable":
            return Unreadable(
                f"checkpoint {pass_id}: {self.text}",
                remedy="It may be valid: check the disk, the mount and the permissions; nothing was touched.",
            )
        return None


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint on disk. manifest: None when it cannot be read; problem: what is known to be wrong, None if
    nothing."""

    path: Path
    id: PassId
    manifest: Manifest | None
    digest: str
    problem: Problem | None


class CheckpointStore:
    """The checkpoints of one model_save_path. Raises CheckpointError for what the file system refuses.

    Reading needs no run. What writes does so through `run`, which must have taken over, and raises Fenced, with
    nothing changed, once a newer run has.
    """

    def __init__(self, root: Path, run: Run | None = None) -> None:
        self.root = root
        self.run = run or Run(root)

    def ids(self) -> builtins.list[PassId]:
        """The passes that have a directory of a checkpoint, oldest first; nothing of them is read.

        Raises Unreadable.
        """
        return [*self.ids_newest_first()][::-1]

    def ids_newest_first(self) -> Iterator[PassId]:
        """The same, from the newest on: a day is listed once the newer ones are through. Raises Unreadable."""
        for day in reversed(self._listing("")):
            if re.fullmatch(r"[0-9]{8}", day):
                numbers = map(number_of, self._listing(day))
                yield from sorted((PassId(day, number) for number in numbers if number), reverse=True)

    def _listing(self, directory: str) -> builtins.list[str]:
        """In a directory below the root, sorted."""
        return names(self.root / directory)

    def list(self) -> builtins.list[Checkpoint]:
        """All checkpoints, oldest first; the manifest of each is read, its files are not. Raises Unreadable when the
        directories that hold them cannot be read."""
        return [self.read(pass_id) for pass_id in self.ids()]

    def newest(self) -> Checkpoint | None:
        """The newest one whose manifest can be read. Raises Unreadable."""
        checkpoints = map(self.read, self.ids_newest_first())
        return next((c for c in checkpoints if c.manifest is not None), None)

    def read(self, pass_id: PassId) -> Checkpoint:
        """The checkpoint of that pass, its manifest read; without one when it is not there."""
        path = self.path(pass_id)
        try:
            data = read_bytes(path / NAME)
            manifest = Manifest.decode(data)
        except Unreadable as error:
            return Checkpoint(path, pass_id, None, "", Problem("unreadable", error.message))
        except UnknownFormatError as error:
            return Checkpoint(path, pass_id, None, "", Problem("unknown", f"{path / NAME}: {error}"))
        except OSError as error:
            return Checkpoint(path, pass_id, None, "", Problem("damaged", f"{path / NAME}: {error.strerror}"))
        except ValueError as error:
            return Checkpoint(path, pass_id, None, "", Problem("damaged", f"{path / NAME}: {error}"))
        if manifest.id != pass_id:
            return Checkpoint(path, pass_id, None, "", Problem("damaged", f"{path / NAME} is that of {manifest.id}"))
        return Checkpoint(path, pass_id, manifest, digest(data), None)

    @property
    def where(self) -> str:
        """The checkpoints' place, for messages."""
        return str(self.root)

    def verify(self, checkpoint: Checkpoint) -> Problem | None:
        """None when every file of the manifest is what the manifest says, else the first thing that is wrong. Files
        that the manifest does not name are somebody else's, and damage nothing."""
        if checkpoint.manifest is None:
            return checkpoint.problem
        for entry in checkpoint.manifest.files:
            file = checkpoint.path / entry.path
            try:
                if why := not_plain(checkpoint.path, entry.path):
                    return Problem("damaged", why)
                size = look(file, lambda file=file: file.stat().st_size)  # type: ignore[misc]
                if size != entry.bytes:
                    return Problem("damaged", f"{file} has {size} bytes, the manifest says {entry.bytes}")
                actual = look(file, lambda file=file: sha256(file))  # type: ignore[misc]
            except Unreadable as error:
                return Problem("unreadable", error.message)
            except OSError as error:
                return Problem("damaged", f"{file}: {error.strerror}")
            if actual != entry.sha256:
                return Problem("damaged", f"{file} is damaged: its SHA-256 is not the manifest's")
        return None

    def newest_first(self) -> Iterator[tuple[Checkpoint, Problem | None]]:
        """Each with what verify() says of it, newest first. Raises Unreadable."""
        for pass_id in self.ids_newest_first():
            checkpoint = self.read(pass_id)
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
        data = b"".join(self._donefile())
        if (kept := donefile_without(data, removed)) != data:
            self.run.replace(self.root / DONEFILE, kept)

    def _donefile(self) -> builtins.list[bytes]:
        """The lines of donefile.txt with their ends. Raises Unreadable."""
        try:
            return read_bytes(self.root / DONEFILE).splitlines(keepends=True)
        except OSError:
            return []

    def append_donefile(self, pass_id: PassId, base_key: int) -> None:
        """A line `day, base key, path, pass_id, 0` in donefile.txt, by atomic replace; once a checkpoint.

        Lines of later passes (of a history that a restart has discarded) are dropped, lines of another form are kept.
        Lines are in the order of their passes, so what is before an earlier pass's line need not be read.
        """
        try:
            data = read_bytes(self.root / DONEFILE)
        except OSError:
            data = b""
        after = donefile_with(data, pass_id, base_key, str(self.path(pass_id)))
        if after != data:
            self.run.replace(self.root / DONEFILE, after)

    def cut_donefile(self, newest: PassId | None) -> None:
        """Takes the lines of passes after `newest` out of donefile.txt; all lines when it is None."""
        data = b"".join(self._donefile())
        if (kept := donefile_up_to(data, newest)) != data:
            self.run.replace(self.root / DONEFILE, kept)


def donefile_without(data: bytes, removed: Collection[PassId]) -> bytes:
    """donefile.txt without the lines of these passes."""
    gone = {str(pass_id) for pass_id in removed}
    return b"".join(line for line in data.splitlines(keepends=True) if str(_pass_of(line)) not in gone)


def donefile_up_to(data: bytes, newest: PassId | None) -> bytes:
    """donefile.txt without the lines of passes after `newest`; without all of them when it is None."""
    lines = data.splitlines(keepends=True)
    return b"".join(x for x in lines if (p := _pass_of(x)) is None or (newest is not None and p <= newest))


def donefile_with(data: bytes, pass_id: PassId, base_key: int, path: str) -> bytes:
    """donefile.txt with the checkpoint's line as its last one; see CheckpointStore.append_donefile()."""
    newest = data.rstrip(b"\r\n").rpartition(b"\n")[2]
    last = _pass_of(newest)
    if last == pass_id and newest.split(b"\t")[2] == path.encode() and data.endswith(b"\n"):
        return data
    if last is None or last >= pass_id:
        listed = [(line, _pass_of(line)) for line in data.splitlines(keepends=True)]
        data = b"".join(line for line, of in listed if of is None or of < pass_id)
    if data and not data.endswith(b"\n"):
        data += b"\n"
    return data + f"{pass_id.day}\t{base_key}\t{path}\t{pass_id.pass_id}\t0\n".encode()


def _pass_of(line: bytes) -> PassId | None:
    """The pass of a line of donefile.txt; None for a line of another form."""
    columns = line.rstrip(b"\r\n").split(b"\t")
    number = number_of(columns[3].decode("utf-8", "replace")) if len(columns) == 5 else None
    return PassId(columns[0].decode("utf-8", "replace"), number) if number is not None else None


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


def put_manifest(staged: Path, manifest: Manifest | CommonManifest) -> str:
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
