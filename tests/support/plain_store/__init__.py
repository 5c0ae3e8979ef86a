"""plain://FOLDER: an fsspec file system that can do what S3 can, and no more; several processes see it.

An object appears whole at the end of its put, or not at all; a listing goes by names' beginnings, there are no
directories. There is no rename, no copy, no append. Objects are files of one flat folder, whose names are the objects'
with every slash as `%2F`.

Faults, by files that fail() leaves beside the objects: `.fail-METHOD` has a number, how many of the next calls of the
method (put, get, ls, rm) fail, `-1` all of them; `.fail-names` what an object's name must contain for that. `.faulty`
then has a line a call: its method and the object's name. A put that fails, in its middle, leaves nothing.
"""

from __future__ import annotations

import contextlib
import fcntl
import io
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

import fsspec
from fsspec.spec import AbstractFileSystem

#: A folder for PYTHONPATH: fsspec finds the protocol in it, in processes that a test starts.
ENTRY_POINTS = Path(__file__).parent / "entry_points"


class StoreError(Exception):
    """Not an OSError, as those of botocore."""


class PlainStore(AbstractFileSystem):  # type: ignore[misc]
    protocol = "plain"
    cachable = False

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return "/" + str(path).removeprefix("plain://").strip("/")

    # what a store can do

    def pipe_file(self, path: str, value: bytes, **_options: Any) -> None:
        self._put(path, bytes(value))

    def put_file(self, lpath: str, rpath: str, **_options: Any) -> None:
        self._put(rpath, Path(lpath).read_bytes())

    def cat_file(self, path: str, start: int | None = None, end: int | None = None, **_options: Any) -> bytes:
        self._called("get", path)
        return self._file(path).read_bytes()[start:end]

    def _open(self, path: str, mode: str = "rb", **_options: Any) -> Any:
        if mode == "rb":
            return io.BytesIO(self.cat_file(path))
        if mode == "wb":
            return _Writing(self, path)
        raise NotImplementedError(f"a store has no mode {mode}")

    def ls(self, path: str, detail: bool = True, **_options: Any) -> list[Any]:
        self._called("ls", path)
        prefix = self._strip_protocol(path).rstrip("/") + "/"
        found: dict[str, dict[str, Any]] = {}
        for name, file in self._objects(prefix):
            first, slash, _ = name[len(prefix) :].partition("/")
            entry: dict[str, Any] = {"name": prefix + first, "size": 0, "type": "directory"}
            if not slash:
                try:
                    status = file.stat()
                except FileNotFoundError:
                    continue
                entry.update(size=status.st_size, type="file", ETag=f"{status.st_ino}-{status.st_mtime_ns}")
                entry["LastModified"] = status.st_mtime
            found[prefix + first] = entry
        if not found:
            if self._file(path).exists():
                return [self.info(path)] if detail else [self._strip_protocol(path)]
            raise FileNotFoundError(path)
        entries = [found[name] for name in sorted(found)]
        return entries if detail else [entry["name"] for entry in entries]

    def info(self, path: str, **_options: Any) -> dict[str, Any]:
        self._called("ls", path)
        name = self._strip_protocol(path)
        try:
            status = self._file(path).stat()
        except FileNotFoundError:
            if next(self._objects(name.rstrip("/") + "/"), None) is None:
                raise
            return {"name": name, "size": 0, "type": "directory"}
        return {
            "name": name, "size": status.st_size, "type": "file", "LastModified": status.st_mtime,
            "ETag": f"{status.st_ino}-{status.st_mtime_ns}",
        }  # fmt: skip

    def _rm(self, path: str) -> None:
        self._called("rm", path)
        self._file(path).unlink()

    def rm_file(self, path: str) -> None:
        self._rm(path)

    # what it cannot do

    def makedirs(self, path: str, exist_ok: bool = False) -> None:
        raise NotImplementedError("a store has no directories")

    def mkdir(self, path: str, create_parents: bool = True, **_options: Any) -> None:
        raise NotImplementedError("a store has no directories")

    def mv(self, path1: str, path2: str, **_options: Any) -> None:
        raise NotImplementedError("a store has no rename")

    def cp_file(self, path1: str, path2: str, **_options: Any) -> None:
        raise NotImplementedError("no copy")

    # how

    def _put(self, path: str, data: bytes) -> None:
        file = self._file(path)
        file.parent.mkdir(parents=True, exist_ok=True)
        temporary = file.parent / f".put-{uuid.uuid4().hex}"
        temporary.write_bytes(data[: len(data) // 2])
        try:
            self._called("put", path)
        except StoreError:
            temporary.unlink()
            raise
        temporary.write_bytes(data)
        temporary.rename(file)

    def _root(self, path: str) -> Path:
        """The folder of a path: up to the first part that ends with .store."""
        parts = self._strip_protocol(path).split("/")
        end = next(n for n, part in enumerate(parts) if part.endswith(".store"))
        return Path("/".join(parts[: end + 1]))

    def _file(self, path: str) -> Path:
        root = self._root(path)
        return root / quote(self._strip_protocol(path)[len(str(root)) + 1 :] or ".none", safe="")

    def _objects(self, prefix: str) -> Iterator[tuple[str, Path]]:
        root = self._root(prefix)
        with contextlib.suppress(FileNotFoundError):
            for file in sorted(root.iterdir()):
                name = f"{root}/{unquote(file.name)}"
                if not file.name.startswith(".") and name.startswith(prefix):
                    yield name, file

    def _called(self, method: str, path: str) -> None:
        root = self._root(path)
        if not (root / ".faulty").exists():
            return
        with (root / ".faulty").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            lock.write(f"{method} {self._strip_protocol(path)[len(str(root)) + 1 :]}\n")
            control = root / f".fail-{method}"
            names = root / ".fail-names"
            if not control.exists() or (names.exists() and names.read_text() not in path):
                return
            left = int(control.read_text())
            if left == 0:
                return
            control.write_text(str(left - 1 if left > 0 else left))
        raise StoreError(f"503 on {method}: Slow Down")


class _Writing(io.BytesIO):
    def __init__(self, store: PlainStore, path: str) -> None:
        super().__init__()
        self._store, self._path = store, path

    def close(self) -> None:
        if not self.closed:
            self._store.pipe_file(self._path, self.getvalue())
        super().close()


def fail(root: Path, method: str, count: int, names: str = "") -> None:
    """The next `count` calls of the method fail, all of them for -1; those of objects whose names contain `names`."""
    (root / f".fail-{method}").write_text(str(count))
    (root / ".fail-names").write_text(names)
    (root / ".faulty").touch()


def objects(root: Path) -> dict[str, bytes]:
    """All objects below the folder, by name."""
    return {unquote(p.name): p.read_bytes() for p in sorted(root.iterdir()) if not p.name.startswith(".")}


def download(root: Path, into: Path) -> Path:
    """A copy of all objects, as files of a tree."""
    for name, data in objects(root).items():
        (into / name).parent.mkdir(parents=True, exist_ok=True)
        (into / name).write_bytes(data)
    return into


fsspec.register_implementation("plain", PlainStore, clobber=True)
