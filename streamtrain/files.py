"""Local files: replaced atomically, brought to the disk, hashed; what the file system refuses becomes our errors."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import shutil
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, TypeVar

from tenacity import Retrying, retry_if_exception, stop_after_attempt, wait_exponential

from streamtrain.errors import StreamtrainError, Unreadable

T = TypeVar("T")

_BLOCK = 1 << 20
#: What says that a file is not there, in place of saying nothing about it.
_ABSENT = (errno.ENOENT, errno.ENOTDIR)
#: Tries to read a file that the file system refuses to show; 1.4 s in all.
READ_TRIES = 4
#: Bytes of the largest document: manifests, donefiles, intents.
MAX_DOCUMENT = 256 << 20
_FOLDER = "a directory"
_KINDS = (
    (stat.S_ISDIR, _FOLDER),
    (stat.S_ISLNK, "a symbolic link"),
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


def is_absent(error: BaseException) -> bool:
    """Whether an error of reading says that the file does not exist."""
    return isinstance(error, OSError) and error.errno in _ABSENT


def look(path: Path, read: Callable[[], T]) -> T:
    """What read() returns of `path`, tried again a few times when the file system refuses.

    Raises FileNotFoundError or NotADirectoryError, at once, when it is not there, and Unreadable for every other
    OSError: what cannot be seen is neither absent nor damaged.
    """
    retrying = Retrying(
        retry=retry_if_exception(lambda error: isinstance(error, OSError) and not is_absent(error)),
        wait=wait_exponential(multiplier=0.2, max=2),
        stop=stop_after_attempt(READ_TRIES),
        reraise=True,
    )
    try:
        return retrying(read)
    except OSError as error:
        if is_absent(error):
            raise
        raise Unreadable(
            f"{error.filename or path} cannot be read: {error.strerror or error}",
            remedy="It may be valid: check the disk, the mount and the permissions, then start again.",
        ) from error


def read_bytes(path: Path, limit: int | None = MAX_DOCUMENT) -> bytes:
    """The file's content. limit: bytes that it may have at most.

    Raises FileNotFoundError, Unreadable, see look(); Unreadable at once for a pipe, a device and the like, which would
    not end, and for a larger file.
    """

    def read() -> bytes:
        found = path.stat()
        if kind := kind_of(found.st_mode):
            raise Unreadable(f"{path} is {kind}, not a file", remedy="Remove it, or restore the file.")
        if limit is not None and found.st_size > limit:
            raise Unreadable(
                f"{path} has {found.st_size} bytes, a file of its kind has at most {limit}", remedy="Restore the file."
            )
        return path.read_bytes()

    return look(path, read)


def kind_of(mode: int) -> str:
    """What a directory's entry is by its mode, in words; "" for a file."""
    return "" if stat.S_ISREG(mode) else next((words for is_it, words in _KINDS if is_it(mode)), "something else")


def not_plain(root: Path, name: str) -> str:
    """Why the file `name` below `root` (parts separated by /) is not a file of that directory alone, in words: a link
    on the way can lead anywhere, a pipe does not end. "" when it is one. Raises OSError, Unreadable; see look().
    """
    path = root
    parts = name.split("/")
    for number, part in enumerate(parts, 1):
        path = path / part
        kind, wanted = kind_of(look(path, path.lstat).st_mode), "" if number == len(parts) else _FOLDER
        if kind != wanted:
            return f"{path} is {kind or 'a file'}, not {wanted or 'a file'}"
    return ""


def names(directory: Path) -> list[str]:
    """The names in a directory, sorted; none when it does not exist. Raises Unreadable."""
    try:
        return look(directory, lambda: sorted(path.name for path in directory.iterdir()))
    except OSError:
        return []


def lines_backwards(path: Path, block: int = _BLOCK) -> Iterator[tuple[int, bytes]]:
    """The file's lines from its last to its first, each with the offset of its first byte and with its line end, which
    the last one may lack. A file that does not exist has none. Raises Unreadable.
    """
    try:
        if kind := kind_of(look(path, path.stat).st_mode):
            raise Unreadable(f"{path} is {kind}, not a file", remedy="Remove it, or restore the file.")
        file = look(path, lambda: path.open("rb"))
    except OSError:
        return
    with file:
        begin = file.seek(0, os.SEEK_END)
        rest = b""
        while begin:
            size = min(block, begin)
            begin -= size

            def part(at: int = begin, count: int = size) -> bytes:
                file.seek(at)
                return file.read(count)

            lines = (look(path, part) + rest).splitlines(keepends=True)
            rest = lines.pop(0) if begin else b""
            end = begin + len(rest)
            offsets = []
            for line in lines:
                offsets.append(end)
                end += len(line)
            yield from zip(reversed(offsets), reversed(lines), strict=True)


def atomic_write(path: Path, data: bytes, *, temporary: Path | None = None, sync: bool = False) -> None:
    """Replaces `path`: readers see the old content or the new one, never a part of it.

    temporary: the file that is written and renamed; by default a hidden one beside `path`, of this process alone.
    sync: fsyncs the file before the rename and the directory after it, so that the new content survives a crash of
    the machine. Raises OSError.
    """
    temporary = temporary or path.with_name(f".{path.name}.{os.getpid()}.new")
    temporary.write_bytes(data)
    if sync:
        fsync(temporary)
    temporary.replace(path)
    if sync:
        fsync(path.parent)


def link_or_copy(source: Path, target: Path) -> None:
    """A hard link, or a copy where the file system has none, or `source` is on another one. Raises OSError."""
    try:
        target.hardlink_to(source)
    except OSError:
        shutil.copyfile(source, target)


def fsync(path: Path) -> None:
    """Brings a file, or a directory's entries, to the disk. Raises OSError: what was written may be lost then, and a
    second try proves nothing, since the kernel may have dropped the pages."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sha256(source: Path | IO[bytes]) -> str:
    """Of a file, or of what is left to read of an open one, in hex. Raises OSError."""
    if isinstance(source, Path):
        with source.open("rb") as file:
            return sha256(file)
    digest = hashlib.sha256()
    while block := source.read(_BLOCK):
        digest.update(block)
    return digest.hexdigest()


@contextlib.contextmanager
def refusals(kind: type[StreamtrainError], path: Path, failure: str, *, remedy: str, full: str) -> Iterator[None]:
    """Turns an OSError into an error of `kind` that says "`path` `failure`", which file it was, and what to do.

    remedy: what to do; full: the same when the disk, or a quota, is full.
    """
    try:
        yield
    except OSError as error:
        file = "" if error.filename is None or str(error.filename) == str(path) else f"{error.filename}: "
        no_space = error.errno in (errno.ENOSPC, errno.EDQUOT)
        raise kind(f"{path} {failure}: {file}{error.strerror}", remedy=full if no_space else remedy) from error


@contextlib.contextmanager
def locked(descriptor: int) -> Iterator[None]:
    """One process at a time holds an open file or directory, which is closed at the end; where the file system has no
    locks, all of them do."""
    try:
        with contextlib.suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
