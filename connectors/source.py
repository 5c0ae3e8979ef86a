"""One source file, read as lines: plain or gzip, told by its content."""

from __future__ import annotations

import gzip
import hashlib
import re
import zlib
from collections.abc import Iterator
from typing import IO, Any, cast

from streamtrain.connectors.folders import looking
from streamtrain.errors import DataError

#: A longer line is one rejected line: a file without line ends must not fill the memory.
MAX_LINE = 8 << 20
_GZIP = b"\x1f\x8b"
_BOM = b"\xef\xbb\xbf"
#: Beginnings of files that are not text, and what they are. None of them can begin a line of text in UTF-8.
_OTHERS = (
    (re.compile(rb"\x28\xb5\x2f\xfd"), "compressed with zstd"),
    (re.compile(rb"\xfd7zXZ\x00"), "compressed with xz"),
    (re.compile(rb"\x04\x22\x4d\x18"), "compressed with lz4"),
    (re.compile(rb"BZh[1-9]1AY&SY"), "compressed with bzip2"),
    (re.compile(rb"PK\x03\x04"), "a zip archive"),
    (re.compile(rb"\xff\xfe|\xfe\xff"), "text in UTF-16"),
)
_HEAD = 10


class _HashingStream:
    """Counts and hashes the bytes that are read through it; `name` is for messages."""

    def __init__(self, raw: IO[bytes], name: str) -> None:
        self._raw = raw
        self._name = name
        self._ahead = b""
        self._sha256 = hashlib.sha256()
        self.bytes = 0
        # at the last line end
        self._ended_sha256 = self._sha256.copy()
        self.ended_bytes = 0

    def peek(self, size: int) -> bytes:
        """The next bytes, at most `size`, which the next read() gives again."""
        while len(self._ahead) < size and (more := self._next(size)):
            self._ahead += more
        return self._ahead[:size]

    def read(self, size: int = -1) -> bytes:
        if self._ahead:
            size = len(self._ahead) if size < 0 else size
            data, self._ahead = self._ahead[:size], self._ahead[size:]
        else:
            data = self._next(size)
        end = data.rfind(b"\n") + 1
        if end:
            self._sha256.update(memoryview(data)[:end])
            self._ended_sha256, self.ended_bytes = self._sha256.copy(), self.bytes + end
        self._sha256.update(memoryview(data)[end:])
        self.bytes += len(data)
        return data

    def _next(self, size: int) -> bytes:
        with looking(self._name, "read"):
            return self._raw.read(size)

    @property
    def sha256(self) -> str:
        return self._sha256.hexdigest()

    @property
    def ended_sha256(self) -> str:
        return self._ended_sha256.hexdigest()


class SourceReader:
    """Reads one file's lines as a stream; after the last one, `size` and `sha256` are those of the file as stored.

    Each line comes without its LF; one longer than MAX_LINE comes cut to MAX_LINE + 1 bytes. A UTF-8 byte order mark at
    the file's begin is no part of the first line. whole_lines: the last line of a plain file is left out when it has no
    line end; `size` and `sha256` then are those of the bytes before it, and `held` is true. head: the first line of
    what skip() has skipped, cut like others; None before.
    """

    BLOCK = 1 << 20

    def __init__(self, raw: IO[bytes], name: str, *, whole_lines: bool = False) -> None:
        self._stream = _HashingStream(raw, name)
        self._name = name
        self._whole_lines = whole_lines
        self.held = False
        self.head: bytes | None = None

    @property
    def size(self) -> int:
        return self._stream.ended_bytes if self.held else self._stream.bytes

    @property
    def sha256(self) -> str:
        return self._stream.ended_sha256 if self.held else self._stream.sha256

    def is_packed(self) -> bool:
        """Whether the file is gzip. Before anything is read of it."""
        return self._stream.peek(len(_GZIP)) == _GZIP

    def skip(self, size: int) -> tuple[str, int, bool]:
        """Reads `size` bytes of a plain file: their SHA-256, their line ends, whether they end with one."""
        lines = 0
        head = b""
        while size > 0:
            block = self._stream.read(min(size, self.BLOCK))
            if not block:
                break
            if not lines and len(head) <= MAX_LINE:
                head += block
            lines += block.count(b"\n")
            size -= len(block)
        self.head = head.partition(b"\n")[0].removeprefix(_BOM)[: MAX_LINE + 1]
        return self._stream.sha256, lines, self._stream.ended_bytes == self._stream.bytes

    def blocks(self) -> Iterator[bytes]:
        """The file's bytes, unpacked. Raises DataError when it does not unpack, Unreadable when it cannot be read."""
        stream: IO[bytes] | _HashingStream = self._stream
        if self._stream.bytes == 0:
            self._refuse_others()
            if self.is_packed():
                self._whole_lines = False  # a packed file is whole
                stream = cast(IO[bytes], gzip.GzipFile(fileobj=cast(Any, self._stream), mode="rb"))
        try:
            while block := stream.read(self.BLOCK):
                yield block
        except (OSError, EOFError, zlib.error) as error:
            raise DataError(
                f"{self._name} cannot be read to its end: {error}",
                remedy="Rewrite the file (is its gzip cut?), then start again; nothing of its split was published.",
            ) from error

    def lines(self) -> Iterator[bytes]:
        """Raises what blocks() raises."""
        rest = b""
        skipping = False
        begin = self._stream.bytes == 0
        for block in self.blocks():
            parts = (rest + block).split(b"\n")
            rest = parts.pop()
            for part in parts:
                if skipping:
                    skipping = False
                else:
                    yield part.removeprefix(_BOM) if begin else part
                begin = False
            if len(rest) > MAX_LINE:
                if not skipping:
                    yield rest[: MAX_LINE + 1]
                rest, skipping, begin = b"", True, False
        self.held = self._whole_lines and bool(rest or skipping)
        if rest and not skipping and not self.held:
            yield rest.removeprefix(_BOM) if begin else rest

    def _refuse_others(self) -> None:
        head = self._stream.peek(_HEAD)
        for pattern, what in _OTHERS:
            if pattern.match(head):
                raise DataError(
                    f"{self._name} is {what}",
                    remedy="Write plain text in UTF-8, or gzip; or add its name to stream.ignore_files.",
                )
