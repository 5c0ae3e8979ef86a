"""What each part of a job is doing now, for `status`: a small file a part in stream.state_dir."""

from __future__ import annotations

import contextlib
import os
import socket
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import orjson
import psutil


@dataclass(frozen=True)
class PartState:
    """part: bridge or trainer. doing: in a few words. since: seconds since 1970. host, pid: the process."""

    part: str
    doing: str
    since: float
    host: str
    pid: int

    @property
    def alive(self) -> bool | None:
        """None when it ran on another machine."""
        if self.host != socket.gethostname():
            return None
        try:
            return bool(psutil.Process(self.pid).status() != psutil.STATUS_ZOMBIE)
        except psutil.NoSuchProcess:
            return False


class PartReporter:
    """Says what this process is doing; the same again changes nothing. It never fails: it is only told."""

    def __init__(self, folder: Path, part: str) -> None:
        self._path = folder / f"{part}.json"
        self._part = part
        self._doing = ""

    def __call__(self, doing: str) -> None:
        if doing == self._doing:
            return
        self._doing = doing
        state = PartState(self._part, doing, time.time(), socket.gethostname(), os.getpid())
        with contextlib.suppress(OSError):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            temporary = self._path.with_suffix(f".{os.getpid()}")
            temporary.write_bytes(orjson.dumps(asdict(state)))
            temporary.replace(self._path)


def read(folder: Path) -> list[PartState]:
    """All parts that have said something."""
    found = []
    for path in sorted(folder.glob("*.json")):
        with contextlib.suppress(OSError, ValueError, TypeError):
            found.append(PartState(**orjson.loads(path.read_bytes())))
    return found
