"""The source files once more: which files a split has, their lines, and what Paddle counts of each line.

For the recount alone. The rules are the bridge's, written here a second time.
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import io
import os
import re
import stat
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from streamtrain.errors import DataError, Unreadable

#: (label, slots, feasigns) of a line, None for a line that is no row, or an error of any kind: the line is rejected.
ParseFunction = Callable[[bytes], tuple[int, Sequence[int], Sequence[int]] | None]
#: Names that are no logs: hidden ones, and files that a writer renames once they are complete.
DEFAULT_IGNORE = (".*", "_*", "*._COPYING_", "*.tmp", "*.inprogress", "*.crc")
#: A longer line (bytes) is one rejected line.
MAX_LINE = 8 << 20
_PAIR = re.compile(rb"([0-9]+):([0-9]+)\Z")
_GZIP = b"\x1f\x8b"
_BOM = b"\xef\xbb\xbf"
_BLOCK = 1 << 20
#: Up to here a float holds every whole number.
_EXACT = 2**53
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
        if entry.name == donefile or any(fnmatchcase(entry.name, pattern) for pattern in ignore):
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


def content(text: bytes, parse: ParseFunction | None) -> bytes:
    """The line as its format takes it; empty: a blank line. Blanks at its ends are a user's function's own."""
    if parse is None:
        return text.strip(b" \t\r")
    return text.removesuffix(b"\r") if text.strip(b"\r") else b""


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


def row_of(
    line: bytes,
    line_format: str,
    slots: Sequence[int],
    wanted: frozenset[int],
    parse: ParseFunction | None,
    reject_unknown: bool,
) -> tuple[int, list[int]] | None:
    """Label and the feasigns that Paddle counts: those of the model's slots, 0 left out; None: the line is no row.

    Raises ValueError for a line that is rejected.
    """
    if parse is not None:
        found = _of_function(line, parse)
        if found is None:
            return None
        pairs, label = found
    elif line_format == "feasign_slot":
        pairs, label = _feasign_slot(line)
    else:
        pairs, label = _multislot(line, slots)
    if label not in (0, 1):
        raise ValueError("label")
    if reject_unknown and any(slot not in wanted for _, slot in pairs):
        raise ValueError("unknown slot")
    return label, [feasign for feasign, slot in pairs if slot in wanted and feasign]


def _of_function(line: bytes, parse: ParseFunction) -> tuple[list[tuple[int, int]], int] | None:
    """What the user's function says, checked: whole numbers only, as many slots as feasigns."""
    try:
        result: Any = parse(line)
        if result is None:
            return None
        if not isinstance(result, tuple | list):
            raise ValueError("not (label, slots, feasigns)")
        label, names, values = result
        pairs = list(zip(_column(values), _column(names), strict=True))
        label = _whole(label)
    except MemoryError as error:
        raise DataError(f"the parse function ran out of memory on a line of {len(line)} bytes") from error
    except (Exception, SystemExit) as error:
        raise ValueError(f"the function refused it: {type(error).__name__}") from error
    if any(not 0 <= feasign < 1 << 64 or not 0 < slot < 1 << 16 for feasign, slot in pairs):
        raise ValueError("a slot or feasign is out of its range")
    return pairs, label


def _column(values: Any) -> list[int]:
    if isinstance(values, str | bytes | bytearray | memoryview | dict | set | frozenset):
        raise ValueError("not a list of numbers")
    if isinstance(values, np.ndarray):
        if values.ndim != 1:
            raise ValueError("not of one dimension")
        values = values.tolist()
    return [_whole(value) for value in values]


def _whole(value: Any) -> int:
    """The value as int; ValueError for anything that is not exactly a whole number."""
    if isinstance(value, np.ndarray) and not value.ndim:
        value = value.item()
    if isinstance(value, int | np.integer | np.bool_):
        return int(value)
    if isinstance(value, float | np.floating) and value.is_integer() and abs(value) <= _EXACT:
        return int(value)
    raise ValueError("not a whole number")


def _feasign_slot(line: bytes) -> tuple[list[tuple[int, int]], int]:
    pairs, label = [], -1
    for token in line.split():
        match = _PAIR.match(token)
        if match is None:
            raise ValueError(token[:50])
        digits = [number.lstrip(b"0") or b"0" for number in match.groups()]
        if any(len(number) > 20 for number in digits):
            raise ValueError(token[:50])
        feasign, slot = map(int, digits)
        if feasign >= 1 << 64 or not 0 < slot < 1 << 16:
            raise ValueError(token[:50])
        if slot == 1:
            if label >= 0:
                raise ValueError("two labels")
            label = feasign
        else:
            pairs.append((feasign, slot))
    return pairs, label


def _multislot(line: bytes, slots: Sequence[int]) -> tuple[list[tuple[int, int]], int]:
    tokens = line.split()
    if any(not token.isdigit() or len(token) > 20 or int(token) >= 1 << 64 for token in tokens):
        raise ValueError("not a number")
    numbers = iter(map(int, tokens))

    def take() -> list[int]:
        count = next(numbers, 0)
        if not 1 <= count <= len(tokens):
            raise ValueError("count")
        values = [value for _, value in zip(range(count), numbers, strict=False)]
        if len(values) != count:
            raise ValueError("it ends too early")
        return values

    show, click = take(), take()
    pairs = [(feasign, slot) for slot in slots for feasign in take()]
    if next(numbers, None) is not None or show != [1] or len(click) != 1:
        raise ValueError("show, click or the end")
    return pairs, click[0]
