"""The source files once more: which files a split has, and their lines.

For the recount alone. The rules are the bridge's, written here a second time.
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import io
import os
import stat
import zlib
from collections.abc import Iterable, Iterator, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, NamedTuple

from streamtrain.errors import DataError, Unreadable

#: Names that are no logs: hidden ones, and files that a writer renames once they are complete.
DEFAULT_IGNORE = (".*", "_*", "*._COPYING_", "*.tmp", "*.inprogress", "*.crc")
#: A longer line (bytes) is one rejected line.
MAX_LINE = 8 << 20
_GZIP = b"\x1f\x8b"
_BOM = b"\xef\xbb\xbf"
_BLOCK = 1 << 20
#: Bytes of the longest line with its end and a byte order mark ahead.
_LIMIT = MAX_LINE + len(_BOM) + 1


def files(folder: Path, donefile: str, ignore: Sequence[str] = DEFAULT_IGNORE) -> dict[str, Path]:
    """The files of a split by their path below it, sorted; those in deeper directories and behind symbolic links too.

    Left out: the donefile, and files and directories whose name matches a pattern of `ignore`. Raises Unreadable.
    """
    found: dict[str, Path] = {}
    if folder.is_dir():
        _walk(folder, "", frozenset(), found, donefile, tuple(ignore))
    return dict(sorted(found.items()))


def is_left_out(name: str, donefile: str, ignore: Sequence[str]) -> bool:
    """Whether files() leaves out what has that name."""
    return name == donefile or any(fnmatchcase(name, pattern) for pattern in ignore)


def _walk(
    folder: Path, below: str, above: frozenset[str], found: dict[str, Path], donefile: str, ignore: tuple[str, ...]
) -> None:
    """above: the real paths of the directories on the way here: a link to one of them is not followed."""
    real = os.path.realpath(folder)
    if real in above:
        return
    try:
        entries = list(os.scandir(folder))
    except OSError as error:
        raise _unreadable(folder, error) from error
    for entry in entries:
        if is_left_out(entry.name, donefile, ignore):
            continue
        if entry.is_dir():
            _walk(Path(entry.path), f"{below}{entry.name}/", above | {real}, found, donefile, ignore)
        elif entry.is_file():
            found[below + entry.name] = Path(entry.path)


class Line(NamedTuple):
    """text: without its LF, None when it is longer than MAX_LINE. ended: whether it has a line end. start: where it
    starts in the unpacked file, bytes from the first byte read."""

    text: bytes | None
    ended: bool
    start: int


class _Window(io.RawIOBase):
    """The next `left` bytes of a file."""

    def __init__(self, raw: io.RawIOBase | Any, left: int) -> None:
        self._raw = raw
        self._left = left

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._raw.read(min(len(buffer), self._left))
        self._left -= len(data)
        buffer[: len(data)] = data
        return len(data)


def is_packed(path: Path) -> bool:
    """Whether the file is gzip, by its first bytes. Raises Unreadable."""
    with _open(path) as raw:
        return bool(raw.read(2) == _GZIP)


def lines(path: Path, begin: int = 0, end: int | None = None, *, inside: bool = False) -> Iterator[Line]:
    """The lines of the bytes begin .. end (end of the file) as stored, unpacked where the file is gzip.

    inside: begin and end count unpacked bytes. Raises DataError when it cannot be unpacked, Unreadable.
    """
    with _open(path) as raw, _reading(path):
        stream = _stretch(raw, begin, end, packed=is_packed(path), inside=inside)
        yield from _lines(stream, first=begin == 0)


@contextlib.contextmanager
def _reading(path: Path) -> Iterator[None]:
    """What reading raises, as ours."""
    try:
        yield
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"{path} cannot be unpacked: {error}", remedy="Restore the file.") from error
    except OSError as error:
        raise _unreadable(path, error) from error


def _stretch(raw: Any, begin: int, end: int | None, *, packed: bool, inside: bool) -> Any:
    left = max(0, (1 << 62 if end is None else end) - begin)
    if packed and inside:
        unpacked = gzip.GzipFile(fileobj=raw, mode="rb")
        while begin > 0 and (skipped := unpacked.read(min(begin, _BLOCK))):
            begin -= len(skipped)
        return io.BufferedReader(_Window(unpacked, left), _BLOCK)
    raw.seek(begin)
    window: Any = io.BufferedReader(_Window(raw, left), _BLOCK)
    return gzip.GzipFile(fileobj=window, mode="rb") if packed else window


def _lines(stream: Any, *, first: bool) -> Iterator[Line]:
    start = 0
    while data := stream.readline(_LIMIT):
        size, ended = len(data), data.endswith(b"\n")
        cut = not ended and size == _LIMIT
        while cut and not ended and (more := stream.readline(_BLOCK)):
            size, ended = size + len(more), more.endswith(b"\n")
        text = data.removeprefix(_BOM) if first and not start else data
        text = text.removesuffix(b"\n")
        yield Line(None if cut or len(text) > MAX_LINE else text, ended, start)
        start += size


def digests(path: Path, sizes: Iterable[int], *, inside: bool = False) -> dict[int, str]:
    """SHA-256 of the first n bytes, in hex, for each n of `sizes` that the file has; read once. inside: of the unpacked
    bytes. Raises DataError when it cannot be unpacked, Unreadable."""
    found: dict[int, str] = {}
    sha256, at = hashlib.sha256(), 0
    with _open(path) as raw, _reading(path):
        stream = gzip.GzipFile(fileobj=raw, mode="rb") if inside else raw
        for size in sorted(set(sizes)):
            while at < size and (block := stream.read(min(size - at, _BLOCK))):
                sha256.update(block)
                at += len(block)
            if at < size:
                break
            found[size] = sha256.hexdigest()
    return found


def _open(path: Path) -> Any:
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # a pipe would be waited for without end
            raise Unreadable(f"{path} is not a file", remedy="Remove it, or restore the file.")
        return path.open("rb", buffering=0)
    except OSError as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: OSError) -> Unreadable:
    return Unreadable(f"{path} cannot be read: {error.strerror or error}", remedy="Make it readable, then try again.")
