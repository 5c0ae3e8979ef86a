"""A store of whole objects behind fsspec: S3 and its like, HDFS, a shared folder.

What is asked of a store: an object that was put is there, whole, for the next look of anybody; names can be listed by
their beginning; objects can be deleted. No rename, no append, no condition on a put. Where the file system has renames
(HDFS, SFTP, a folder), an object is written under another name first, since its writes can be seen half done.

No error is left out: fsspec's find() takes a directory that it is refused for an empty one, so names are listed
directory by directory.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import logging
import uuid
from collections.abc import Callable, Collection, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from fsspec.spec import AbstractBufferedFile
from tenacity import RetryCallState, Retrying, retry_if_exception, stop_after_attempt, wait_exponential_jitter

from streamtrain import files
from streamtrain.errors import CheckpointError, StreamtrainError
from streamtrain.locations import Location

T = TypeVar("T")
log = logging.getLogger("streamtrain.store")

#: Tries of a call, about 12 s in all.
ATTEMPTS = 7
#: Transfers at a time.
THREADS = 8
#: Bytes of a block that is read or written.
_BLOCK = 4 << 20
#: Protocols whose writes can be seen half done, and which can rename.
_RENAMES = frozenset({"file", "local", "hdfs", "arrow_hdfs", "webhdfs", "webHDFS", "sftp", "ssh", "smb", "afs"})
_ABSENT = (FileNotFoundError, NotADirectoryError)


class ObjectStore:
    """The objects below a location, by names such as `commits/20240101/1.json`.

    A call that fails is repeated ATTEMPTS times; then CheckpointError is raised, which names the object. What the local
    disk refuses is raised at once, and names the file. Raises ConfigError when the location cannot be opened.
    """

    def __init__(self, location: Location) -> None:
        self.location = location
        self._fs, self._base = location.open()
        protocol = self._fs.protocol
        self._renames = bool(_RENAMES & set([protocol] if isinstance(protocol, str) else protocol))

    def name(self, path: str) -> str:
        """An object's URL, for messages."""
        return f"{self.location.shown.rstrip('/')}/{path}"

    def put(self, path: str, data: bytes) -> None:
        """Puts an object, or replaces it: readers see the old content or the new one; on HDFS, which renames over
        nothing, none for a moment in between."""
        temporary = f"{self._full(path)}.{uuid.uuid4().hex[:8]}.new"
        self._try(lambda: self._put(path, data, temporary), path, "written")

    def put_file(self, path: str, local: Path) -> None:
        """Puts an object that nothing names yet: it may be seen half done."""

        def put() -> None:
            with _local(local, "read"):
                local.open("rb").close()
            self._make_parent(path)
            self._fs.put_file(str(local), self._full(path))

        self._try(put, path, "written")

    def put_files(self, pairs: Iterable[tuple[str, Path]]) -> None:
        """put_file() of each, several at a time; after the first that fails none is begun."""
        with ThreadPoolExecutor(THREADS, thread_name_prefix="store") as pool:
            for _ in pool.map(lambda file: self.put_file(*file), pairs):
                pass

    def get(self, path: str) -> bytes:
        """Raises FileNotFoundError when it does not exist."""

        def get() -> bytes:
            if not self._renames:
                return bytes(self._fs.cat_file(self._full(path)))
            with self._fs.open(self._full(path), "rb") as source:
                data = bytes(source.read())
                _check_size(source, len(data))
                return data

        return self._try(get, path, "read", absent=True)

    def get_file(self, path: str, local: Path) -> str:
        """Copies an object to a local file, whose directory exists; returns its SHA-256 in hex.

        Raises FileNotFoundError when the object does not exist.
        """
        digest = hashlib.sha256()

        def get() -> None:
            nonlocal digest
            digest = hashlib.sha256()
            with self._fs.open(self._full(path), "rb") as source, _written(local) as write:
                size = 0
                while block := source.read(_BLOCK):
                    digest.update(block)
                    write(block)
                    size += len(block)
                    if len(block) < _BLOCK:  # the last one
                        _check_size(source, size)

        self._try(get, path, "read", absent=True)
        return digest.hexdigest()

    def fetch_all(self, path: str, into: Path, leave: Collection[str] = ()) -> None:
        """Copies all objects below `path`, as files of a tree; one that goes meanwhile is left out, and so is what is
        below the names `leave`. Raises CheckpointError for a name that leads out of `into` too."""
        names = [name for name in self.objects(path) if name.partition("/")[0] not in leave]
        if strange := next((name for name in names if ".." in name.split("/")), None):
            raise CheckpointError(f"{self.name(path)}/{strange}: a name with `..` is not copied", remedy="Remove it.")

        def fetch(name: str) -> None:
            target = into / name
            with _local(target, "made"):
                target.parent.mkdir(parents=True, exist_ok=True)
            try:
                self.get_file(f"{path}/{name}" if path else name, target)
            except FileNotFoundError:
                target.unlink(missing_ok=True)

        with ThreadPoolExecutor(THREADS, thread_name_prefix="store") as pool:
            for _ in pool.map(fetch, names):
                pass

    def directories(self, path: str) -> list[str]:
        """Names of what is below `path` before a slash, sorted; none when there is nothing."""
        return sorted({name.split("/")[0] for name in self._names(path, deep=False)})

    def objects(self, path: str) -> list[str]:
        """Names below `path`, of any depth, sorted; none when there is nothing."""
        return self._names(path, deep=True)

    def sizes(self, path: str) -> dict[str, int]:
        """The same names, with each object's bytes."""
        return dict(self._entries(path, deep=True))

    def exists(self, path: str) -> bool:
        return self._try(lambda: self._is_there(self._full(path)), path, "looked at")

    def delete(self, path: str) -> None:
        """An object that is gone already is no error."""

        def delete() -> None:
            try:
                self._fs.rm_file(self._full(path))
            except _ABSENT:
                return

        self._try(delete, path, "deleted")

    def delete_all(self, path: str) -> None:
        """Everything below `path`."""
        for name in self.objects(path):
            self.delete(f"{path}/{name}")
        self._try(lambda: self._remove_directory(path), path, "deleted")

    def _remove_directory(self, path: str) -> None:
        """Where there are directories."""
        self._fs.invalidate_cache()
        if self._fs.isdir(self._full(path)):
            self._fs.rm(self._full(path), recursive=True)

    def _names(self, path: str, *, deep: bool) -> list[str]:
        return [name for name, _ in self._entries(path, deep=deep)]

    def _entries(self, path: str, *, deep: bool) -> list[tuple[str, int]]:
        """Names below `path`, sorted, with bytes; those of a listing that is not deep are 0."""
        root = self._full(path).strip("/")

        def look() -> list[tuple[str, int]]:
            self._fs.invalidate_cache()
            found = self._listed(self._full(path), deep=deep)
            return sorted((name[len(root) + 1 :], size) for name, size in found if name.startswith(f"{root}/"))

        return self._try(look, path, "listed")

    def _listed(self, directory: str, *, deep: bool) -> Iterator[tuple[str, int]]:
        """Names in the file system, without slashes around them, and bytes; none of a directory that does not exist."""
        try:
            entries = self._fs.ls(directory, detail=deep)
        except _ABSENT:
            if self._is_there(directory):
                raise  # of a name in it, which went meanwhile
            return
        for entry in entries:
            name = str(entry["name"]) if deep else str(entry)
            if not deep or entry["type"] != "directory":
                yield name.strip("/"), int(entry["size"] or 0) if deep else 0
            elif name.strip("/") != directory.strip("/"):  # an object may stand for the directory itself
                yield from self._listed(name, deep=True)

    def _put(self, path: str, data: bytes, temporary: str) -> None:
        self._make_parent(path)
        if self._renames:
            self._fs.pipe_file(temporary, data)
            self._rename(temporary, self._full(path))
        else:
            self._fs.pipe_file(self._full(path), data)

    def _rename(self, old: str, new: str) -> None:
        """HDFS renames over nothing: libhdfs says so, webhdfs:// does not even that."""
        refused = OSError(errno.EIO, "the file system does not rename what was written")
        try:
            self._fs.mv(old, new)
        except OSError as error:
            refused = error
        if not self._is_there(old):
            return
        if not self._is_there(new):
            raise refused
        self._fs.rm_file(new)
        self._fs.mv(old, new)
        if self._is_there(old):
            raise refused

    def _is_there(self, full: str) -> bool:
        try:
            self._fs.invalidate_cache()
            self._fs.info(full)
        except _ABSENT:
            return False
        return True

    def _make_parent(self, path: str) -> None:
        if self._renames:
            self._fs.makedirs(self._full(path).rpartition("/")[0], exist_ok=True)

    def _full(self, path: str) -> str:
        return f"{self._base}/{path}".rstrip("/") if path else self._base

    def _try(self, call: Callable[[], T], path: str, how: str, *, absent: bool = False) -> T:
        """Each file system raises errors of its own. absent: FileNotFoundError is an answer."""
        answers = FileNotFoundError if absent else ()
        try:
            return Retrying(
                stop=stop_after_attempt(ATTEMPTS),
                wait=wait_exponential_jitter(multiplier=0.2, max=5),
                retry=retry_if_exception(lambda error: not isinstance(error, answers) and _may_pass(error)),
                before_sleep=lambda state: log.warning("%s: %s; tried again", self.name(path), _reason(state)),
                reraise=True,
            )(call)
        except answers:
            raise
        except StreamtrainError:
            raise
        except Exception as error:
            raise CheckpointError(
                f"{self.name(path)} ({self.location.key}) cannot be {how}: {_words(error)}",
                remedy="Check the store and the rights there; a restart resumes from the last checkpoint.",
            ) from error


def _local(path: Path, how: str) -> contextlib.AbstractContextManager[None]:
    """Around a use of a local file: what the disk refuses is no fault of the store, and does not pass."""
    return files.refusals(
        CheckpointError,
        path,
        f"cannot be {how}",
        remedy="Check the folder and its permissions.",
        full="Free some space: a restart resumes from the last checkpoint.",
    )


@contextlib.contextmanager
def _written(path: Path) -> Iterator[Callable[[bytes], None]]:
    """A new local file, and a function that writes to it; it is closed at the end."""
    with _local(path, "written"):
        target = path.open("wb", buffering=0)

    def write(block: bytes) -> None:
        with _local(path, "written"):
            left = memoryview(block)
            while left:
                left = left[target.write(left) :]

    with target:
        yield write


def _check_size(source: Any, size: int) -> None:
    """Raises OSError for an object of which more or less was read than it has: webhdfs:// gives what a DataNode says of
    an error as the object's content."""
    if isinstance(source, AbstractBufferedFile) and source.size != size:
        raise OSError(errno.EIO, f"it has {source.size} bytes, {size} were read")


def _may_pass(error: BaseException) -> bool:
    full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
    return isinstance(error, Exception) and not isinstance(error, StreamtrainError) and not full


def _reason(state: RetryCallState) -> str:
    error = state.outcome.exception() if state.outcome is not None else None
    return _words(error) if error is not None else ""


def _words(error: BaseException) -> str:
    reason = (str(error).strip().splitlines() or [""])[0]
    return f"{type(error).__name__}: {reason}" if reason else type(error).__name__
