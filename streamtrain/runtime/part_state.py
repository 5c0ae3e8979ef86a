"""What each part of a job is doing now, for `status`: a small file a part in stream.state_dir.

People read it, on this machine or through a shared folder; how a child ended is in child_state, for its parent.
"""

from __future__ import annotations

import contextlib
import os
import socket
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import orjson
import psutil
from pydantic import Field, TypeAdapter

from streamtrain.errors import Unreadable
from streamtrain.files import atomic_write, read_bytes

#: Seconds between two signs of life, at least.
BEAT_S = 1.0


@dataclass(frozen=True)
class PartState:
    """part: bridge, trainer, or a role with its number when roles run on several machines. doing: in a few words.
    since: seconds since 1970. host, pid: the process."""

    part: str
    doing: str
    since: float
    host: str
    pid: Annotated[int, Field(gt=0, lt=1 << 31)]

    @property
    def alive(self) -> bool | None:
        """None when it ran on another machine, or is not to be seen."""
        if self.host != socket.gethostname():
            return None
        try:
            return bool(psutil.Process(self.pid).status() != psutil.STATUS_ZOMBIE)
        except psutil.NoSuchProcess:
            return False
        except psutil.Error:
            return None

    def to_json(self) -> dict[str, Any]:
        return {"doing": self.doing, "since": self.since, "pid": self.pid, "host": self.host, "alive": self.alive}


_STATE = TypeAdapter(PartState)


class PartReporter:
    """Reports what this process is doing, and each time that it is alive: the file's time says when it last was. It
    never fails: `status` and `health` only show it."""

    def __init__(self, folder: Path, part: str) -> None:
        self._path = folder / f"{part}.json"
        self._part = part
        self._doing = ""
        self._beaten = 0.0

    def beat(self) -> None:
        """For work that goes on without a change of what is done: cheap, and so for every row."""
        now = time.monotonic()
        if self._doing and now - self._beaten > BEAT_S:
            self._beaten = now
            with contextlib.suppress(OSError):
                os.utime(self._path)

    def __call__(self, doing: str) -> None:
        if doing == self._doing:
            self.beat()
            return
        self._doing = doing
        state = PartState(self._part, doing, time.time(), socket.gethostname(), os.getpid())
        with contextlib.suppress(OSError):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            atomic_write(self._path, orjson.dumps(asdict(state)))


def read(folder: Path) -> list[PartState]:
    """All parts that have reported something."""
    parts = []
    for path in sorted(folder.glob("*.json")):
        with contextlib.suppress(OSError, ValueError, Unreadable):  # somebody else's
            parts.append(_STATE.validate_json(read_bytes(path)))
    return parts
