"""Directories as they are, local or behind fsspec: each entry is looked at through links, and no error is left out.

fsspec's own exists(), isdir() and ls() take a refused look for "not there"; so none of them is asked.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from streamtrain.errors import DataError, StreamtrainError, Unreadable
from streamtrain.masking import printable

#: The key of the folder of logs.
DATA_KEY = "runner.train_data_dir"
#: Characters of an error's text in a message.
REASON = 300
#: Keys under which file systems give a modification time.
_TIMES = ("mtime", "LastModified", "last_modified", "updated", "modified", "created")

#: Keys under which they tell one content from another.
_CONTENT = ("ETag", "etag", "checksum", "md5Hash", "content_md5", "crc32c", "version_id", "generation")


@dataclass(frozen=True)
class Entry:
    """kind: file, directory, or a word for what else it is. size in bytes, modified in seconds (0: unknown).

    identity: device and inode, where there are such.
    """

    kind: str
    size: int = 0
    modified: float = 0.0
    identity: tuple[int, int] | None = None


class Folders(Protocol):
    """Paths are relative to the root; '' is the root itself. All raise Unreadable."""

    def refresh(self) -> None:
        """Forgets what was seen before."""

    def stat(self, path: str) -> Entry | None:
        """Through links; None when the directory that it would be in does not have it."""

    def glance(self, path: str) -> Entry:
        """stat() of something that nobody reads: never an error."""

    def names(self, path: str) -> list[str]:
        """Of a directory's entries, in no order."""

    def open(self, path: str) -> Any:
        """A binary file. Raises what the file system raises."""


def reason_of(error: BaseException) -> str:
    """One line: the system's words and errno's name, or the exception's type and text."""
    if isinstance(error, OSError) and error.strerror:
        name = errno.errorcode.get(error.errno or 0, "")
        return f"{error.strerror} ({name})" if name else str(error.strerror)
    text = printable(" ".join(str(error).split()))[:REASON]
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


@contextlib.contextmanager
def looking(name: str, how: str) -> Iterator[None]:
    """Turns whatever a file system raises into Unreadable: "`name` cannot be `how`: why"."""
    try:
        yield
    except StreamtrainError:
        raise
    except Exception as error:
        raise Unreadable(
            f"{name} cannot be {how}: {reason_of(error)}",
            remedy="Make it readable, or restore it: a file that cannot be seen is not left out.",
        ) from error


class LocalFolders:
    """key: the config's, for messages."""

    def __init__(self, root: str, key: str = DATA_KEY) -> None:
        self._root = root
        self._key = key

    def refresh(self) -> None:
        pass

    def stat(self, path: str) -> Entry | None:
        full = self._full(path)
        with looking(printable(full), "looked at"):
            try:
                return _entry(Path(full).stat())
            except FileNotFoundError as error:
                self._refuse_hidden(full, error)
                return None
            except NotADirectoryError as error:
                raise self._no_directory(full) from error

    def glance(self, path: str) -> Entry:
        try:
            return _entry(Path(self._full(path)).stat())
        except OSError:
            return Entry("file")

    def names(self, path: str) -> list[str]:
        full = self._full(path)
        with looking(printable(full), "listed"), os.scandir(full) as entries:
            return [entry.name for entry in entries]

    def open(self, path: str) -> Any:
        return Path(self._full(path)).open("rb")

    def _full(self, path: str) -> str:
        return f"{self._root}/{path}" if path else self._root

    def _no_directory(self, full: str) -> DataError:
        """Of the path: what stands where one of its directories should be."""
        at = full
        while at := at.rpartition("/")[0]:
            if Path(at).exists():
                break
        return DataError(
            f"{printable(at)} is not a directory, though it stands where one of a split should be",
            remedy=f"Move it out of {self._key}.",
        )

    def _refuse_hidden(self, full: str, error: FileNotFoundError) -> None:
        """A path may seem absent because a link on the way to it leads nowhere, or the root itself is gone."""
        at = full
        while True:
            try:
                mode = Path(at).lstat().st_mode
            except FileNotFoundError:
                if len(at) <= len(self._root):
                    raise Unreadable(
                        f"{printable(self._root)} ({self._key}) is not there any more",
                        remedy="Mount or restore it.",
                    ) from error
                at = at.rpartition("/")[0]
                continue
            if stat.S_ISLNK(mode) and not Path(at).exists():
                raise Unreadable(
                    f"{printable(at)} is a link to {printable(str(Path(at).readlink()))}, which does not exist",
                    remedy="Restore what it leads to, or remove the link.",
                ) from None
            return


def _entry(result: os.stat_result) -> Entry:
    kinds = {
        stat.S_IFREG: "file", stat.S_IFDIR: "directory", stat.S_IFSOCK: "a socket", stat.S_IFIFO: "a named pipe",
        stat.S_IFCHR: "a device", stat.S_IFBLK: "a device",
    }  # fmt: skip
    kind = kinds.get(stat.S_IFMT(result.st_mode), "of an unknown kind")
    return Entry(kind, result.st_size, result.st_mtime, (result.st_dev, result.st_ino))


class RemoteFolders:
    """key: the config's, for messages."""

    def __init__(self, fs: Any, root: str, key: str = DATA_KEY) -> None:
        self._fs = fs
        self._key = key
        self._root = root.rstrip("/")

    def refresh(self) -> None:
        with looking(self._root, "looked at"):
            self._fs.invalidate_cache()

    def stat(self, path: str) -> Entry | None:
        full = self._full(path)
        with looking(printable(full), "looked at"):
            try:
                return _remote_entry(self._fs.info(full))
            except (FileNotFoundError, NotADirectoryError):
                if not path:
                    raise
        with looking(f"{self._root} ({self._key})", "looked at"):
            self._fs.info(self._root)  # with the root gone, or out of reach, nothing below it is known
        return None

    def glance(self, path: str) -> Entry:
        try:
            return _remote_entry(self._fs.info(self._full(path)))
        except Exception:
            return Entry("file")

    def names(self, path: str) -> list[str]:
        full = self._full(path)
        with looking(printable(full), "listed"):
            found = [str(name).rstrip("/") for name in self._fs.ls(full, detail=False)]
        # an object store lists the object that stands for the directory itself, too
        return sorted({name.rsplit("/", 1)[-1] for name in found if name.strip("/") != full.strip("/")})

    def open(self, path: str) -> Any:
        return self._fs.open(self._full(path), "rb")

    def _full(self, path: str) -> str:
        return f"{self._root}/{path}" if path else self._root


def _remote_entry(info: dict[str, Any]) -> Entry:
    """Raises what a strange answer causes."""
    kind = str(info["type"])
    if kind not in ("file", "directory"):
        return Entry("a link" if kind == "link" else f"of the kind {kind!r}")
    given = next((info[key] for key in _TIMES if info.get(key)), 0.0)
    modified = given.timestamp() if hasattr(given, "timestamp") else given
    size = int(info["size"] or 0) if kind == "directory" else int(info["size"])
    if not isinstance(modified, int | float) or not modified:
        modified = _of_content(info)
    return Entry(kind, size, float(modified))


def _of_content(info: dict[str, Any]) -> float:
    """Where there is no time: a number of what the store says of the content, which another content changes; or 0."""
    told = next((str(info[key]) for key in _CONTENT if info.get(key)), "")
    return float(int.from_bytes(hashlib.sha256(told.encode()).digest()[:6], "big")) / 1e6 if told else 0.0
