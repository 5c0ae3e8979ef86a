"""The fence of the file system: each run of a trainer owns a numbered directory, and a newer run takes it away.

`.staging/<number>/` belongs to one run of one trainer. A newer run has a greater number, and its first act is to rename
the directories of the older ones away. Every change that others see is a rename out of a run's directory or into it, so
a trainer that was frozen at any point and is thawed late finds its directory gone, and can change nothing.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path

from streamtrain import files
from streamtrain.checkpoint.remote_runs import RemoteRuns
from streamtrain.contracts.paths import number_of
from streamtrain.errors import CheckpointError, Fenced
from streamtrain.failpoints import failpoint

STAGING = ".staging"
#: In a run's directory: who started the run, once it has taken over.
OWNER = "owner"


class Run:
    """One run of a trainer on the job at `root`. It owns nothing until claim(), and nothing of a store until
    remote.claim().

    Its methods raise CheckpointError for what the file system refuses, and Fenced, with nothing changed, once a newer
    run has taken over.
    """

    def __init__(self, root: Path, remote: RemoteRuns | None = None) -> None:
        self.root = root
        #: The runs that the job's store knows: then they say which one is newer, since each machine has its own root.
        self.remote = remote
        self._directory: Path | None = None

    @property
    def directory(self) -> Path:
        """This run's own directory, on the file system of the checkpoints."""
        if self._directory is None:
            raise CheckpointError(f"{self.root} was not claimed by this run")
        return self._directory

    def newest_number(self) -> int:
        """The greatest number of a run so far; 0 when there was none."""
        return self._newest_here() if self.remote is None else self.remote.newest_number()

    def _newest_here(self) -> int:
        return max(map(_number, self._directories()), default=0)

    def _directories(self) -> list[Path]:
        staging = self.root / STAGING
        return [p for p in staging.iterdir() if number_of(p.name) is not None] if staging.is_dir() else []

    def check_owner(self, owner: str, since: int) -> None:
        """For a run that is started again: raises Fenced when somebody else has taken over since.

        since: newest_number() before `owner` started its first run. A run that died before it took over does not
        count.
        """
        if self.remote is not None:
            self.remote.check_owner(owner, since)
            return
        for directory in self._directories():
            with contextlib.suppress(OSError):
                if _number(directory) > since and (directory / OWNER).read_text() not in ("", owner):
                    raise Fenced(
                        f"a newer trainer has taken over {self.root} while this one was down",
                        remedy="The newer one continues there; this one has changed nothing.",
                    )

    def take_over(self, owner: str = "nobody") -> None:
        """claim() and clear_older() at once."""
        self.claim()
        self.clear_older(owner)

    def claim(self) -> None:
        """Makes this run's directory, with a number over all others': what decides which of two runs is newer."""
        staging = self.root / STAGING
        with refusals(staging, "cannot be made"):
            staging.mkdir(parents=True, exist_ok=True)
            number = self._newest_here()
            while self._directory is None:
                number += 1
                with contextlib.suppress(FileExistsError):
                    (staging / str(number)).mkdir()
                    self._directory = staging / str(number)

    def clear_older(self, owner: str = "nobody") -> None:
        """Renames the directories of all older runs away, atomically, and removes them: they can publish no more.

        To be called after the older run's transactions are fenced. owner: who starts this run, and may start it again.
        """
        own = self.directory
        with self.guard(own, "cannot be used"):
            cleared = []
            for other in (self.root / STAGING).iterdir():
                if number_of(other.name) is None or _number(other) < _number(own):
                    aside = self.root / f"{STAGING}-cleared-{uuid.uuid4().hex}"
                    with contextlib.suppress(FileNotFoundError):  # a newer run has cleared it
                        other.rename(aside)
                        cleared.append(aside)
            (own / OWNER).write_text(owner)
        failpoint("restore.cleared")
        for old in [*cleared, *self.root.glob(f"{STAGING}-cleared-*")]:
            shutil.rmtree(old, ignore_errors=True)

    def check_newest(self) -> None:
        """Raises Fenced when a newer run has a directory, or has cleared this one's away."""
        own = self.directory
        if not own.is_dir() or self._newest_here() > _number(own):
            raise self._fenced()
        if self.remote is not None:
            self.remote.check_newest()

    def _fenced(self) -> Fenced:
        return Fenced(
            f"a newer trainer has taken over {self.root} (this one's directory is {self.directory})",
            remedy="This one has changed nothing; end one of the two.",
        )

    def empty(self, name: str) -> Path:
        """An empty directory of this run."""
        path = self.directory / name
        shutil.rmtree(path, ignore_errors=True)  # of a save that failed in this process
        with self.guard(path, "cannot be made"):
            path.mkdir()
        return path

    def publish(self, staged: Path, target: Path) -> Path:
        """Renames a staged directory to `target`, and fsyncs the directories that hold it.

        A directory that has this name already (a damaged one, or one of a history that a restart has discarded) is
        first renamed into this run's directory.
        """
        with self.guard(target, "cannot be published"):
            self.directory.stat()  # a replaced run shall not leave an empty day behind
            target.parent.mkdir(parents=True, exist_ok=True)
            fsync(self.root)
            aside = self.directory / f"replaced-{target.parent.name}-{target.name}"
            if target.exists():
                target.rename(aside)
            staged.rename(target)
            fsync(target.parent)
            fsync(staged.parent)
        shutil.rmtree(aside, ignore_errors=True)
        return target

    def replace(self, path: Path, data: bytes) -> None:
        """Replaces a file atomically: readers see the old or the new one."""
        with self.guard(path, "cannot be replaced"):
            temporary = self.directory / f"{path.name}.new"
            write_synced(temporary, data)
            temporary.replace(path)
            fsync(path.parent)

    def replace_with_beginning(self, path: Path, size: int, more: bytes) -> None:
        """Replaces a file by a new one: its first `size` bytes, then `more`. It need not exist when size is 0."""
        with self.guard(path, "cannot be replaced"):
            temporary = self.directory / f"{path.name}.new"
            if size:
                _copy_beginning(path, temporary, size)
            else:
                temporary.write_bytes(b"")
            if more:
                with temporary.open("ab") as out:
                    out.write(more)
            fsync(temporary)
            temporary.replace(path)
            fsync(path.parent)

    def set_aside(self, path: Path, to: Path) -> bool:
        """Renames a file or directory to `to`, below the root. False when it was not there."""
        with self.guard(path, "cannot be set aside"):
            self.directory.stat()  # a replaced run shall move nothing
            to.parent.mkdir(parents=True, exist_ok=True)
            try:
                path.rename(to)
            except FileNotFoundError:
                return False
            fsync(to.parent)
            fsync(path.parent)
        return True

    def remove(self, path: Path) -> bool:
        """Deletes a directory, for readers at once. False when it was not there."""
        aside = self.directory / f"removed-{path.parent.name}-{path.name}"
        shutil.rmtree(aside, ignore_errors=True)
        with self.guard(path, "cannot be deleted"):
            try:
                path.rename(aside)
            except FileNotFoundError:
                if self.directory.is_dir():
                    return False
                raise
            with contextlib.suppress(OSError):
                path.parent.rmdir()  # the day's last
        shutil.rmtree(aside, ignore_errors=True)
        return True

    @contextlib.contextmanager
    def guard(self, path: Path, failure: str) -> Iterator[None]:
        """Around a change of `path`: a file system's error is Fenced when this run's directory is gone."""
        try:
            with refusals(path, failure):
                yield
        except CheckpointError as error:
            if self.directory.is_dir():
                raise
            raise self._fenced() from error


def _copy_beginning(path: Path, target: Path, size: int) -> None:
    """By the kernel, since the file may be large: file systems that can share blocks (XFS, Btrfs) copy nothing."""
    left = size
    with path.open("rb") as source, target.open("wb") as out, contextlib.suppress(OSError):
        while left and (copied := os.copy_file_range(source.fileno(), out.fileno(), left)):
            left -= copied
    if left:  # a file system that cannot do that
        shutil.copyfile(path, target)
        os.truncate(target, size)


def _number(directory: Path) -> int:
    return int(directory.name)


def refusals(path: Path, failure: str) -> contextlib.AbstractContextManager[None]:
    """What the file system refuses becomes a CheckpointError that names the path and says what to do."""
    return files.refusals(
        CheckpointError,
        path,
        failure,
        remedy="Check runner.model_save_path and its permissions.",
        full="Free some space: a restart resumes from the last checkpoint, which is in place.",
    )


def fsync(path: Path) -> None:
    """Of a file or a directory. Raises CheckpointError; a failed fsync is final, see files.fsync."""
    try:
        failpoint("save.fsync")
        files.fsync(path)
    except OSError as error:
        raise CheckpointError(
            f"fsync of {path} failed: {error.strerror}",
            remedy="What was written may be lost; check the disk, then start again from the last checkpoint.",
        ) from error


def write_synced(path: Path, data: bytes) -> None:
    """Writes and fsyncs a file. Raises CheckpointError."""
    with refusals(path, "cannot be written"):
        path.write_bytes(data)
    fsync(path)
