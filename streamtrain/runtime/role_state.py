"""How a server or worker tells its supervisor how it is: a small JSON file a role in the run's folder.

The launcher's exit code says little (it can be 0 after a crash), so each role says itself that it ended well.
"""

from __future__ import annotations

import os
import threading
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import orjson

#: Environment variable that names the folder; without it nothing is written.
ENVIRONMENT = "STREAMTRAIN_RUN_DIR"
#: Environment variables: who started this run; when it is started again after a death, the number of the newest
#: run before its first one, see Run.check_owner.
OWNER = "STREAMTRAIN_OWNER"
AGAIN = "STREAMTRAIN_AGAIN"
#: Set for a server that another process keeps and ends.
KEPT = "STREAMTRAIN_KEPT_SERVER"


@dataclass(frozen=True)
class RoleState:
    """kind: server or worker. time: of the last change, seconds since 1970. exit_code and message: of an error
    of ours. phase: a worker's, see phases. endpoint: where a server listens, host:port."""

    kind: str
    index: int
    pid: int
    state: Literal["running", "done", "failed"]
    exit_code: int = 0
    message: str = ""
    phase: str = ""
    endpoint: str = ""
    time: float = 0.0


def write(kind: str, index: int, state: Literal["running", "done", "failed"], **more: object) -> None:
    """Replaces this role's file atomically."""
    folder = os.environ.get(ENVIRONMENT)
    if not folder:
        return
    with _lock:  # the feed's thread says that it waits
        _write(Path(folder), kind, index, state, **more)


_lock = threading.Lock()


def _write(folder: Path, kind: str, index: int, state: Literal["running", "done", "failed"], **more: object) -> None:
    value = RoleState(kind, index, os.getpid(), state, time=time.time(), **more)  # type: ignore[arg-type]
    path = folder / f"{kind}-{index}.json"
    temporary = path.with_suffix(".new")
    temporary.write_bytes(orjson.dumps(asdict(value)))
    temporary.replace(path)


def read(folder: Path) -> list[RoleState]:
    """All roles that have said something."""
    return [RoleState(**orjson.loads(p.read_bytes())) for p in sorted(folder.glob("*.json"))]
