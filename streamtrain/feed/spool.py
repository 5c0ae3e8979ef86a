"""The local folder in which passes wait for Paddle as text files.

Each process has its own directory below the folder, held by a lock, so that two trainers on one machine do not read
each other's rows; a process that starts removes the directories of processes that have ended.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from streamtrain.errors import DiskError
from streamtrain.files import refusals

LOCK = "lock"


class Spool:
    """A directory of this process. Raises DiskError naming the path for what the file system refuses."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        with self._refusals():
            folder.mkdir(parents=True, exist_ok=True)
            for other in folder.iterdir():
                if other.is_dir() and _is_abandoned(other):
                    shutil.rmtree(other, ignore_errors=True)
            self._directory = folder / f"{os.getpid()}-{uuid.uuid4().hex[:8]}"
            self._directory.mkdir()
            self._lock = os.open(self._directory / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC)
            fcntl.flock(self._lock, fcntl.LOCK_EX)

    def empty(self, name: str) -> Path:
        """An empty directory of that name."""
        path = self._directory / name
        shutil.rmtree(path, ignore_errors=True)
        with self._refusals():
            path.mkdir()
        return path

    @contextlib.contextmanager
    def writer(self, name: str) -> Iterator[tuple[Path, IO[bytes]]]:
        """A new file of that name, open; it is complete, if no error comes out."""
        path = self._directory / name
        with self._refusals(), path.open("wb") as out:
            yield path, out

    def close(self) -> None:
        shutil.rmtree(self._directory, ignore_errors=True)
        os.close(self._lock)

    def _refusals(self) -> contextlib.AbstractContextManager[None]:
        return refusals(
            DiskError,
            self.folder,
            "(stream.spool_dir) cannot be written",
            remedy="Check the folder's permissions and disk, or set stream.spool_dir.",
            full="Free some space, or set stream.spool_dir to another disk; nothing of the pass was trained.",
        )


def _is_abandoned(directory: Path) -> bool:
    """Whether no living process holds the directory's lock."""
    try:
        fd = os.open(directory / LOCK, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False  # it is just being created or removed
    except OSError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    finally:
        os.close(fd)
    return True
