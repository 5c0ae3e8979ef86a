"""Checkpoints under model_save_path: staged, fsynced, renamed, verified.

A directory {day}/{pass_id} exists only whole: it is written below `.staging/` and renamed. What is
damaged later (its bytes are not those of the manifest) is passed over.

`.staging/<number>/` belongs to one run of one trainer; a newer one has a greater number, and its first act is to
rename those of the older ones away. Every change that others see is a rename out of that directory or into it,
so a trainer that was frozen at any point and is thawed late finds its directory gone, and can change nothing.
"""

from __future__ import annotations

import builtins
import contextlib
import errno
import hashlib
import logging
import os
import re
import shutil
import time
import uuid
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from streamtrain.contracts import inference_models
from streamtrain.contracts.inference_models import DoneLine, ModelManifest
from streamtrain.contracts.manifest import NAME, FileEntry, Manifest, ModelChain, ModelRef, digest
from streamtrain.errors import CheckpointError, Fenced
from streamtrain.failpoints import failpoint
from streamtrain.schedule import PassId

log = logging.getLogger("streamtrain.checkpoint")

STAGING = ".staging"
DONEFILE = "donefile.txt"
#: In a run's directory: who started the run, once it has taken over.
OWNER = "owner"


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint on disk. `problem` is empty when nothing is known to be wrong with it."""

    path: Path
    of: PassId
    manifest: Manifest | None
    digest: str
    problem: str


class CheckpointStore:
    """The checkpoints of one model_save_path. Raises CheckpointError for what the file system refuses.

    Reading needs nothing; who writes calls take_over() first.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._run: Path | None = None

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

    def newest_run(self) -> int:
        """The greatest number of a run so far; 0 when there was none."""
        return max(map(_number, self._runs()), default=0)

    def _runs(self) -> builtins.list[Path]:
        staging = self.root / STAGING
        return [p for p in staging.iterdir() if p.name.isdigit()] if staging.is_dir() else []

    def check_owner(self, owner: str, since: int) -> None:
        """For a run that is started again: raises Fenced when somebody else has taken over since.

        since: newest_run() before `owner` started its first run. A run that died before it took over counts
        for nothing.
        """
        for run in self._runs():
            with contextlib.suppress(OSError):
                if _number(run) > since and (run / OWNER).read_text() not in ("", owner):
                    raise Fenced(
                        f"a newer trainer has taken over {self.root} while this one was down",
                        remedy="It goes on there; this one has changed nothing.",
                    )

    def take_over(self, owner: str = "nobody") -> None:
        """claim() and clear_older() at once."""
        self.claim()
        self.clear_older(owner)

    def claim(self) -> None:
        """Makes this run's directory, with a number over all others': what decides which of two is newer."""
        staging = self.root / STAGING
        with refusals(staging, "cannot be made"):
            staging.mkdir(parents=True, exist_ok=True)
            number = self.newest_run()
            while self._run is None:
                number += 1
                with contextlib.suppress(FileExistsError):
                    (staging / str(number)).mkdir()
                    self._run = staging / str(number)

    def clear_older(self, owner: str = "nobody") -> None:
        """Renames the directories of all older runs away, atomically, and removes them: they can publish no more.

        To be called after the older one's transactions are fenced. owner: who starts this run, and may start
        it again. Raises Fenced when a newer run has done the same to this one.
        """
        mine = self._own()
        with self._still_ours(mine, "cannot be used"):
            gone = []
            for other in (self.root / STAGING).iterdir():
                if not other.name.isdigit() or _number(other) < _number(mine):
                    aside = self.root / f"{STAGING}-cleared-{uuid.uuid4().hex}"
                    with contextlib.suppress(FileNotFoundError):  # a newer one has cleared it
                        other.rename(aside)
                        gone.append(aside)
            (mine / OWNER).write_text(owner)
        failpoint("restore.cleared")
        for old in [*gone, *self.root.glob(f"{STAGING}-cleared-*")]:
            shutil.rmtree(old, ignore_errors=True)

    def check_taken_over(self) -> None:
        """Raises Fenced when a newer run has a directory, or has cleared this one's away."""
        mine = self._own()
        if not mine.is_dir() or self.newest_run() > _number(mine):
            raise self._fenced()

    def _fenced(self) -> Fenced:
        return Fenced(
            f"a newer trainer has taken over {self.root} (this one's directory is {self._own()})",
            remedy="This one has changed nothing; end one of the two.",
        )

    def staging(self, of: PassId) -> Path:
        """Where a checkpoint is saved before it is published."""
        return self._own() / f"{of.day}-{of.pass_id}"

    def scratch(self) -> Path:
        """A directory of this run, for what loading needs."""
        return self._own()

    def _own(self) -> Path:
        if self._run is None:
            raise CheckpointError(f"{self.root} was not taken over")
        return self._run

    def stage(self, of: PassId) -> Path:
        """An empty directory to save into. Raises Fenced when a newer trainer has taken over."""
        path = self.empty(self.staging(of).name)
        failpoint("save.staged")
        return path

    def empty(self, name: str) -> Path:
        """An empty directory of this run. Raises Fenced when a newer trainer has taken over."""
        path = self._own() / name
        shutil.rmtree(path, ignore_errors=True)  # of a save that failed in this process
        with self._still_ours(path, "cannot be made"):
            path.mkdir()
        return path

    @staticmethod
    def seal(path: Path) -> tuple[FileEntry, ...]:
        """fsyncs every file of a staged directory and returns their sizes and digests.

        A failed fsync is final: the kernel may have dropped the pages, so it is never tried again.
        """
        with refusals(path, "cannot be read back"), ThreadPoolExecutor(2) as pool:
            names = _files(path)
            digests = pool.map(_sha256, [path / name for name in names])  # beside the disk's work
            for name in names:
                _fsync(path / name)
            entries = tuple(
                FileEntry(name, (path / name).stat().st_size, digest)
                for name, digest in zip(names, digests, strict=True)
            )
        failpoint("save.sealed")
        return entries

    @staticmethod
    def put_manifest(staged: Path, manifest: Manifest | ModelManifest) -> str:
        """Writes the manifest into the staged directory, fsyncs all directories; returns its digest."""
        data = manifest.encode()
        write_synced(staged / NAME, data)
        for directory, _, _ in os.walk(staged, topdown=False):
            _fsync(Path(directory))
        return digest(data)

    def publish(self, staged: Path, of: PassId) -> Path:
        """Renames the staged directory to {day}/{pass_id}: the commit point.

        Raises Fenced, with nothing changed, when a newer trainer has taken over.
        """
        return self._publish(staged, self.root / of.day / str(of.pass_id))

    def publish_model(self, staged: Path, model: ModelRef) -> Path:
        """Renames a staged inference model into place; readers see it when its donefile names it. Raises Fenced."""
        path = self._publish(staged, self.model_path(model))
        failpoint("commit.model")
        return path

    def _publish(self, staged: Path, target: Path) -> Path:
        """What stands there already (damaged, or of a history that a restart went back behind) is renamed into this
        run's directory first."""
        with self._still_ours(target, "cannot be published"):
            target.parent.mkdir(parents=True, exist_ok=True)
            _fsync(self.root)
            aside = self._own() / f"replaced-{target.parent.name}-{target.name}"
            if target.exists():
                target.rename(aside)
            staged.rename(target)
            _fsync(target.parent)
            _fsync(staged.parent)
        shutil.rmtree(aside, ignore_errors=True)
        return target

    def model_path(self, model: ModelRef) -> Path:
        return self.root / model.day / inference_models.directory_name(model.pass_id)

    def read_model(self, model: ModelRef) -> ModelManifest:
        """Its manifest, if it is the one that is meant. Raises CheckpointError naming the file."""
        file = self.model_path(model) / NAME
        try:
            data = file.read_bytes()
            found = ModelManifest.decode(data)
        except (OSError, ValueError) as error:
            raise CheckpointError(f"{file} cannot be read: {error}") from error
        if digest(data) != model.digest:
            raise CheckpointError(f"{file} is not the one that checkpoints name: its SHA-256 is another")
        return found

    def read_donefile(self, kind: inference_models.Kind) -> builtins.list[DoneLine]:
        """The lines of the models' donefile; none when there is no file. Raises CheckpointError."""
        path = self.root / inference_models.DONEFILES[kind]
        try:
            return DoneLine.read(path.read_bytes())
        except FileNotFoundError:
            return []
        except (OSError, ValueError) as error:
            raise CheckpointError(
                f"{path} cannot be read: {error}",
                remedy="Restore it, or remove it: then the next inference model is full, and listed.",
            ) from error

    def model_lines(self) -> builtins.list[DoneLine]:
        """Of both donefiles, the full ones first, each in its order. Raises CheckpointError."""
        return [line for kind in inference_models.DONEFILES for line in self.read_donefile(kind)]

    def write_donefiles(self, lines: Sequence[DoneLine]) -> None:
        """Both donefiles, by atomic replace where they change. Raises Fenced, CheckpointError."""
        for kind, name in inference_models.DONEFILES.items():
            path = self.root / name
            data = b"".join(line.encode() for line in lines if line.kind == kind)
            with self._still_ours(path, "cannot be replaced"):
                if (path.read_bytes() if path.exists() else b"") != data:
                    self._replace(path, data)

    def settle_models(self, newest: PassId | None, published: Sequence[ModelRef]) -> None:
        """The donefiles as checkpoint `newest` left them: with the models published with it, without later ones.

        Raises Fenced, CheckpointError.
        """
        lines = inference_models.kept_lines(self.model_lines(), newest)
        known = {line.digest for line in lines}
        for model in published:
            if model.digest in known:
                continue
            try:
                found = self.read_model(model)
            except CheckpointError as error:  # what a restart needs is in the checkpoint alone
                log.error("%s: it is NOT LISTED for serving", error)
                continue
            if found.base is None or found.base.digest in known:  # else retention has dropped it with its base
                lines.append(found.line(model.digest, time.time()))
                known.add(model.digest)
        self.write_donefiles(lines)

    def stands(self, chain: ModelChain, *, whole: bool = False) -> bool:
        """Whether an incremental model can be published over it: all from base to previous are listed, the two (whole:
        all of them) are on disk as they are named."""
        listed = {line.digest: line for line in self.model_lines()}
        members: builtins.list[ModelRef] = [chain.previous]
        while members[-1] != chain.base:
            line = listed.get(members[-1].digest)
            if line is None or not line.values.get("previous"):
                return False
            members.append(ModelRef(**line.values["previous"]))
        try:
            for model in members if whole else (chain.base, chain.previous):
                self.read_model(model)
        except CheckpointError as error:
            log.warning("%s", error)
            return False
        return chain.base.digest in listed

    def sweep_models(self, named: Collection[ModelRef]) -> None:
        """Removes inference models that no donefile names: left by a crash in the middle of deleting them.

        named: others that stay, in whatever state they are.
        """
        kept = {line.path for line in self.model_lines()}
        kept |= {str(self.model_path(model).relative_to(self.root)) for model in named}
        for path in self.root.glob("*/*"):
            name = str(path.relative_to(self.root))
            if inference_models.is_directory(name) and path.is_dir() and name not in kept:
                log.info("%s is removed: no donefile names it", path)
                self.remove(path)

    def list_models(self, published: Sequence[ModelRef]) -> None:
        """Adds models that stand to the donefiles. Raises Fenced, CheckpointError."""
        new = [self.read_model(model).line(model.digest, time.time()) for model in published]
        paths = {line.path for line in new}
        old = [x for x in self.model_lines() if x.path not in paths]
        self.write_donefiles([*old, *new])

    def remove(self, path: Path) -> None:
        """Deletes a directory, for readers at once. Raises Fenced, with nothing changed, CheckpointError."""
        aside = self._own() / f"removed-{path.parent.name}-{path.name}"
        shutil.rmtree(aside, ignore_errors=True)
        with self._still_ours(path, "cannot be deleted"):
            try:
                path.rename(aside)
            except FileNotFoundError:
                if self._own().is_dir():
                    log.warning("%s is gone already", path)
                    return
                raise
            with contextlib.suppress(OSError):
                path.parent.rmdir()  # the day's last
        shutil.rmtree(aside, ignore_errors=True)

    def drop_from_donefile(self, gone: Collection[PassId]) -> None:
        """Takes their lines out of donefile.txt. Raises Fenced, CheckpointError."""
        path = self.root / DONEFILE
        lines = path.read_text().splitlines(keepends=True) if path.exists() else []
        names = {f"{of.day}/{of.pass_id}" for of in gone}
        kept = [x for x in lines if "/".join(x.split("\t")[0:4:3]) not in names]
        if kept != lines:
            self.replace(path, "".join(kept).encode())

    def append_donefile(self, of: PassId, base_key: int) -> None:
        """A line `day, base key, path, pass_id, 0` in donefile.txt, by atomic replace; once a checkpoint.

        Lines of later passes (of a history that a restart went back behind) are dropped.
        Raises Fenced when a newer trainer has taken over.
        """
        path = self.root / DONEFILE
        kept = []
        with self._still_ours(path, "cannot be replaced"):
            for line in path.read_text().splitlines() if path.exists() else []:
                columns = line.split("\t")
                if len(columns) == 5 and columns[3].isdigit() and PassId(columns[0], int(columns[3])) < of:
                    kept.append(line)
            kept.append(f"{of.day}\t{base_key}\t{self.root / of.day / str(of.pass_id)}\t{of.pass_id}\t0")
            self._replace(path, ("\n".join(kept) + "\n").encode())

    def replace(self, path: Path, data: bytes) -> None:
        """Replaces a file atomically: readers see the old or the new one.

        Raises Fenced, with nothing changed, when a newer trainer has taken over; CheckpointError.
        """
        with self._still_ours(path, "cannot be replaced"):
            self._replace(path, data)

    def _replace(self, path: Path, data: bytes) -> None:
        temporary = self._own() / f"{path.name}.new"
        write_synced(temporary, data)
        temporary.replace(path)
        _fsync(path.parent)

    @contextlib.contextmanager
    def _still_ours(self, path: Path, failure: str) -> Iterator[None]:
        try:
            with refusals(path, failure):
                yield
        except CheckpointError as error:
            if self._own().is_dir():
                raise
            raise self._fenced() from error


def _number(run: Path) -> int:
    return int(run.name)


@contextlib.contextmanager
def refusals(path: Path, failure: str) -> Iterator[None]:
    """What the file system refuses becomes a CheckpointError that names the path and says what to do."""
    try:
        yield
    except OSError as error:
        remedy = "Look at runner.model_save_path and its rights."
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            remedy = "Free some space: a restart goes on from the last checkpoint, which stands."
        where = error.filename or path
        raise CheckpointError(f"{path} {failure}: {where}: {error.strerror}", remedy=remedy) from error


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
        failpoint("save.fsync")
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
    with refusals(path, "cannot be written"):
        path.write_bytes(data)
    _fsync(path)
