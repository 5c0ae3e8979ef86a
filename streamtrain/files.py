"""Local files: replaced atomically, brought to the disk, hashed; what the file system refuses becomes our errors."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from streamtrain.errors import StreamtrainError

_BLOCK = 1 << 20


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
