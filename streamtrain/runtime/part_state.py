"""What each part of a job is doing now, for `status`: a small file a part in stream.state_dir.

People read it, on this machine or through a shared folder; how a child ended is in child_state, for its parent.
"""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import orjson
import psutil
from pydantic import Field, TypeAdapter

from streamtrain.contracts import phases
from streamtrain.errors import StreamtrainError, Unreadable
from streamtrain.files import atomic_write, read_bytes
from streamtrain.stopping import Stopped

#: Seconds between two signs of life, at least.
BEAT_S = 1.0
#: Seconds by which the times of a process and of its report may differ.
CLOCK_S = 2.0


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
            process = psutil.Process(self.pid)
            another = process.create_time() > self.since + CLOCK_S  # which has got the number since
            return not another and bool(process.status() != psutil.STATUS_ZOMBIE)
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

    def is_anothers(self) -> bool:
        """Whether another process that is alive has taken over the part, and reports for it."""
        return any(state.pid != os.getpid() for state in _living(self._path.parent, self._part))


@contextlib.contextmanager
def reporting_end(*reports: Callable[[str], None]) -> Iterator[None]:
    """Around what a part does: when it ends at a stop or with an error, that is what it was doing last."""
    try:
        yield
    except (Stopped, StreamtrainError) as error:
        for report in reports:
            if isinstance(report, PartReporter) and report.is_anothers():
                continue
            report(phases.STOPPED if isinstance(error, Stopped) else phases.failed(error.exit_code, str(error)))
        raise


@contextlib.contextmanager
def beginning(folder: Path, part: str) -> Iterator[Callable[[str], None]]:
    """Around what a part does before it takes over, with its report; as reporting_end(). Nothing is reported while
    another process of that part is alive."""
    report: Callable[[str], None] = (lambda _doing: None) if _living(folder, part) else PartReporter(folder, part)
    with reporting_end(report):
        yield report


def _living(folder: Path, part: str) -> list[PartState]:
    """The part's report, when its process is alive."""
    return [state for state in read(folder) if state.part == part and state.alive]


def read(folder: Path) -> list[PartState]:
    """All parts that have reported something. Keys that this version does not know are ignored: a part on another
    machine may be of a newer one."""
    parts = []
    for path in sorted(folder.glob("*.json")):
        with contextlib.suppress(OSError, ValueError, Unreadable):  # somebody else's
            parts.append(_STATE.validate_json(read_bytes(path)))
    return parts
