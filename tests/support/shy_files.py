"""A file system behind fsspec that refuses looks on demand, with exceptions such as object stores raise."""

from __future__ import annotations

from typing import Any, ClassVar

import fsspec
from fsspec.implementations.memory import MemoryFileSystem


class EndpointConnectionError(Exception):
    """Not an OSError, as those of botocore."""


class ShyFileSystem(MemoryFileSystem):  # type: ignore[misc]
    """shy://: memory. refusals: (method, end of a path) to the exceptions that its next calls raise; calls: made so."""

    protocol = "shy"
    refusals: ClassVar[dict[tuple[str, str], list[Exception]]] = {}
    calls: ClassVar[list[tuple[str, str]]] = []

    @classmethod
    def refuse(cls, method: str, path: str, *errors: Exception) -> None:
        cls.refusals[method, path] = list(errors)

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return str(super()._strip_protocol(path.removeprefix("shy://")))

    def _shy(self, method: str, path: str) -> None:
        for (refused, end), errors in self.refusals.items():
            if refused == method and path.endswith(end) and errors:
                self.calls.append((method, path))
                raise errors.pop(0)

    def info(self, path: str, **options: Any) -> Any:
        self._shy("info", path)
        return super().info(path, **options)

    def ls(self, path: str, detail: bool = True, **options: Any) -> Any:
        self._shy("ls", path)
        return super().ls(path, detail=detail, **options)

    def _open(self, path: str, *args: Any, **options: Any) -> Any:
        self._shy("open", path)
        opened = super()._open(path, *args, **options)
        read = opened.read

        def shy_read(size: int = -1) -> bytes:
            self._shy("read", path)
            return bytes(read(size))

        opened.read = shy_read
        return opened


fsspec.register_implementation("shy", ShyFileSystem, clobber=True)
