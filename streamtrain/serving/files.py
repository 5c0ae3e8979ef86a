"""Files below a local path or any fsspec URL; each is read in one piece."""

from __future__ import annotations

from pathlib import Path
from typing import TypeAlias

from fsspec.implementations.local import LocalFileSystem

from streamtrain.errors import CheckpointError
from streamtrain.files import MAX_DOCUMENT, kind_of
from streamtrain.locations import Location

#: What shows that a directory's files have changed: (path, size, time or etag) of each.
Stamp: TypeAlias = tuple[tuple[str, int, str], ...]


class Files:
    """The files below a URL. Raises ConfigError when the URL's file system is not known."""

    def __init__(self, url: str | Path | Location) -> None:
        where = url if isinstance(url, Location) else Location("--model", str(url))
        self.url = where.url
        self._fs, self._root = where.open()

    def name(self, path: str) -> str:
        """The file's URL, for messages."""
        return f"{self.url.rstrip('/')}/{path}"

    def read(self, path: str, limit: int = MAX_DOCUMENT) -> bytes:
        """Raises CheckpointError naming the file when it does not exist or cannot be read."""
        data = self.find(path, limit)
        if data is None:
            raise CheckpointError(f"{self.name(path)} does not exist")
        return data

    def find(self, path: str, limit: int = MAX_DOCUMENT) -> bytes | None:
        """None when it does not exist. limit: bytes that a local file may have at most.

        Raises CheckpointError when it cannot be read, is larger, or is a pipe, a device and the like.
        """
        try:
            if isinstance(self._fs, LocalFileSystem):
                found = Path(f"{self._root}/{path}").stat()
                if kind := kind_of(found.st_mode):
                    raise CheckpointError(f"{self.name(path)} is {kind}, not a file")
                if found.st_size > limit:
                    raise CheckpointError(f"{self.name(path)} has {found.st_size} bytes, at most {limit} were expected")
            data: bytes = self._fs.cat_file(f"{self._root}/{path}")
            return data
        except (FileNotFoundError, NotADirectoryError):
            return None
        except CheckpointError:
            raise
        except Exception as error:  # each file system has errors of its own
            raise CheckpointError(f"{self.name(path)} cannot be read: {type(error).__name__}: {error}") from error

    def stamp(self, path: str) -> Stamp:
        """Empty when the directory does not exist or cannot be listed."""
        try:
            self._fs.invalidate_cache()
            entries = self._fs.find(f"{self._root}/{path}", detail=True)
        except Exception:  # a read reports what is wrong
            return ()
        return tuple(
            (name, int(info.get("size") or 0), str(next((info[k] for k in _CHANGED if info.get(k)), "")))
            for name, info in sorted(entries.items())
        )


_CHANGED = ("mtime", "etag", "ETag", "LastModified", "last_modified", "updated", "created")
