"""The tree of logs: train_data_dir/YYYYMMDD/HHMM/files, on any file system that fsspec knows."""

from __future__ import annotations

import gzip
import hashlib
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, Any, cast

import fsspec

from streamtrain.errors import ConfigError, DataError
from streamtrain.schedule import Split

#: A longer line is one rejected line: a file without line ends must not fill the memory.
MAX_LINE = 8 << 20


@dataclass(frozen=True)
class FileState:
    """A file as listed: path below the split's directory, size in bytes, modification time (s or 0)."""

    path: str
    bytes: int
    modified: float


class _HashingStream:
    """Counts and hashes the bytes that are read through it."""

    def __init__(self, raw: IO[bytes]) -> None:
        self._raw = raw
        self.sha256 = hashlib.sha256()
        self.bytes = 0

    def read(self, size: int = -1) -> bytes:
        data = self._raw.read(size)
        self.sha256.update(data)
        self.bytes += len(data)
        return data


class SourceReader:
    """Reads one file's lines as a stream; after the last one, `size` and `sha256` are those of the file.

    Each line comes without its end; one longer than MAX_LINE comes cut to MAX_LINE + 1 bytes.
    """

    BLOCK = 1 << 20

    def __init__(self, raw: IO[bytes], path: str) -> None:
        self._hashing = _HashingStream(raw)
        self._path = path

    @property
    def size(self) -> int:
        return self._hashing.bytes

    @property
    def sha256(self) -> str:
        return self._hashing.sha256.hexdigest()

    def skip(self, size: int) -> tuple[str, int]:
        """Reads `size` bytes of a plain file; returns their SHA-256 and the number of their line ends."""
        lines = 0
        while size > 0:
            block = self._hashing.read(min(size, self.BLOCK))
            if not block:
                break
            lines += block.count(b"\n")
            size -= len(block)
        return self.sha256, lines

    def lines(self) -> Iterator[bytes]:
        """Raises DataError naming the file when it cannot be read or unpacked."""
        stream: IO[bytes] | _HashingStream = self._hashing
        if self._path.endswith(".gz"):
            stream = cast(IO[bytes], gzip.GzipFile(fileobj=cast(Any, self._hashing), mode="rb"))
        rest = b""
        skipping = False
        try:
            while block := stream.read(self.BLOCK):
                parts = (rest + block).split(b"\n")
                rest = parts.pop()
                for part in parts:
                    if skipping:
                        skipping = False
                    else:
                        yield part
                if len(rest) > MAX_LINE:
                    if not skipping:
                        yield rest[: MAX_LINE + 1]
                    rest, skipping = b"", True
        except (OSError, EOFError, zlib.error) as error:
            raise DataError(
                f"{self._path} cannot be read to its end: {error}",
                remedy="Rewrite the file (is its .gz cut?), then start again; nothing of its split was published.",
            ) from error
        if rest and not skipping:
            yield rest


class Tree:
    """The data tree below a local path or fsspec URL."""

    def __init__(self, url: str, donefile: str) -> None:
        try:
            self._fs, self._root = fsspec.core.url_to_fs(url)
        except (ValueError, ImportError) as error:
            raise ConfigError(f"runner.train_data_dir: {url} cannot be opened: {error}") from error
        self._url = url
        self._donefile = donefile

    def check(self) -> None:
        """Raises ConfigError when the tree's root does not exist."""
        if not self._fs.isdir(self._root):
            raise ConfigError(
                f"runner.train_data_dir: {self._url} is not a directory",
                remedy="Create it, or correct the path (relative paths start at the config's folder).",
            )

    def is_ready(self, split: Split) -> bool:
        """Whether the split's donefile exists, or its directory where no donefile is configured."""
        self._fs.invalidate_cache()
        directory = f"{self._root}/{split.path}"
        if self._donefile:
            return bool(self._fs.exists(f"{directory}/{self._donefile}"))
        return bool(self._fs.isdir(directory))

    def files(self, split: Split) -> list[FileState]:
        """The split's files by name, without hidden ones (. or _ first) and the donefile.

        Raises DataError when the directory cannot be read.
        """
        directory = f"{self._root}/{split.path}"
        try:
            entries = self._fs.ls(directory, detail=True)
        except FileNotFoundError:
            return []
        except OSError as error:
            raise DataError(f"{self._url}/{split.path} cannot be listed: {error.strerror}") from error
        files = []
        for entry in entries:
            name = entry["name"].rstrip("/").rsplit("/", 1)[-1]
            if entry["type"] == "file" and name[0] not in "._" and name != self._donefile:
                modified = entry.get("mtime") or entry.get("created") or 0.0
                stamp = modified.timestamp() if hasattr(modified, "timestamp") else float(modified)
                files.append(FileState(name, int(entry["size"]), stamp))
        return sorted(files, key=lambda f: f.path)

    def open(self, split: Split, path: str) -> IO[bytes]:
        """Raises DataError naming the file."""
        try:
            return cast(IO[bytes], self._fs.open(f"{self._root}/{split.path}/{path}", "rb"))
        except OSError as error:
            raise DataError(
                f"{self._url}/{split.path}/{path} cannot be read: {error.strerror or error}",
                remedy="Make it readable, then start again.",
            ) from error

    def name(self, split: Split, path: str) -> str:
        return f"{self._url}/{split.path}/{path}"
