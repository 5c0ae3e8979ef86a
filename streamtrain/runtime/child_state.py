"""How a child process tells its parent how it is and how it ended: a JSON file a child in the run's folder. One way for
all: servers, workers, the bridge, the roles and the comparison of a consistency check.

    {kind}-{index}.json    ChildState, replaced atomically

An exit code says less than that: Paddle's launcher can end with 0 after a crash, and a child's message is worth more
than its number. A child that was killed leaves `running`: failure() then goes by its process's exit code.

Environment variables, from the parent:

    STREAMTRAIN_RUN_DIR       the run's folder; without it nothing is written
    STREAMTRAIN_OWNER         who started this run of the trainer, and may start it again: see Run.clear_older
    STREAMTRAIN_SINCE         for a run that is started again: the newest run before the owner's first one
    STREAMTRAIN_HELD          for a role that is started ahead of its round: see hold()
    STREAMTRAIN_KEPT_SERVER   for a role that another process ends: a server starts no keeper
    STREAMTRAIN_ROUND         which round it is a role of: see engine/round_check.py
    STREAMTRAIN_EXCHANGE      for a role whose agent passes requests on: see exchange.py
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal, TypeAlias

import orjson
from pydantic import TypeAdapter, ValidationError

from streamtrain.contracts import json_codec
from streamtrain.errors import ChildFailed, StreamtrainError, TrainingError
from streamtrain.files import atomic_write
from streamtrain.masking import mask_text, printable
from streamtrain.stopping import Stopped

RUN_DIR = "STREAMTRAIN_RUN_DIR"
OWNER = "STREAMTRAIN_OWNER"
SINCE = "STREAMTRAIN_SINCE"
KEPT = "STREAMTRAIN_KEPT_SERVER"
HELD = "STREAMTRAIN_HELD"
EXCHANGE = "STREAMTRAIN_EXCHANGE"

Stage: TypeAlias = Literal["running", "done", "failed"]


@dataclass(frozen=True)
class ChildState:
    """kind: server, worker, bridge or comparison. time: of the last change, seconds since 1970. exit_code, message: of
    the error that it failed with. phase: a worker's, see phases. endpoint: where a server listens, host:port. stopped:
    done, but at a signal, before the end of its work."""

    kind: str
    index: int
    pid: int
    state: Stage
    exit_code: int = 0
    message: str = ""
    phase: str = ""
    endpoint: str = ""
    time: float = 0.0
    stopped: bool = False

    @property
    def name(self) -> str:
        return f"{self.kind} {self.index}"


_STATE = TypeAdapter(ChildState)


@dataclass
class Ending:
    """For a child that ends well to set. stopped: see ChildState."""

    stopped: bool = False


#: In the run's folder: the roles of the run may begin.
_RELEASED = "released"
#: Seconds between two looks of a role that is held.
_LOOK_S = 0.02

#: A worker writes in two threads: its own, and the feed's, which reports that it waits for Kafka.
_writing = threading.Lock()


def write(kind: str, index: int, state: Stage, **more: object) -> None:
    """Replaces this child's file. more: exit_code, message, phase, endpoint. Raises OSError."""
    folder = os.environ.get(RUN_DIR)
    if not folder:
        return
    with _writing:
        value = ChildState(kind, index, os.getpid(), state, time=time.time(), **more)  # type: ignore[arg-type]
        atomic_write(Path(folder) / f"{kind}-{index}.json", orjson.dumps(asdict(value)))


def read(folder: Path) -> list[ChildState]:
    """All children that have written a state. Raises TrainingError for a file that is none: the run's folder is ours
    alone, so something else has changed it."""
    states = []
    for path in sorted(folder.glob("*.json")):
        try:
            states.append(_STATE.validate_json(path.read_bytes()))
        except ValidationError as error:
            raise TrainingError(
                f"{path} is not the state of a child: {json_codec.first_problem(error)}",
                remedy="Something else writes into the run's folder below TMPDIR: start the job again.",
            ) from error
    return states


@contextlib.contextmanager
def reporting(kind: str, index: int = 0, **more: object) -> Iterator[Ending]:
    """Around all that a child does: writes running (with `more`), at its end done, or failed with the error that it
    ends with."""
    write(kind, index, "running", **more)
    ending = Ending()
    try:
        yield ending
    except Stopped:
        write(kind, index, "done", stopped=True)
        raise
    except StreamtrainError as error:
        write(kind, index, "failed", exit_code=error.exit_code, message=str(error))
        raise
    except Exception as error:
        write(kind, index, "failed", exit_code=1, message=printable(mask_text(f"{type(error).__name__}: {error}")))
        raise
    write(kind, index, "done", stopped=ending.stopped)


def hold(stop: threading.Event) -> None:
    """Where a role that is started ahead (HELD) waits for its round, with nothing touched: until release(). Raises
    Stopped."""
    released = Path(os.environ[RUN_DIR]) / _RELEASED
    while not released.exists():
        if stop.is_set():
            raise Stopped
        time.sleep(_LOOK_S)


def release(run_dir: Path) -> None:
    """Lets the roles go on that are held in this run. Raises OSError."""
    (run_dir / _RELEASED).touch()


def failure(name: str, exit_code: int, states: list[ChildState]) -> ChildFailed | None:
    """Why a single child has ended; None when it ended well. exit_code: of its process; states: of its run folder."""
    for state in states:
        if state.state == "failed":
            return ChildFailed(state.message, state.exit_code)
        if state.state == "done":
            return None
    if exit_code == 0:
        return None
    return ChildFailed(f"{name} {how_it_ended(exit_code)}", abs(exit_code) if exit_code > 0 else 1)


def how_it_ended(exit_code: int) -> str:
    """exit_code: of a process; that of a signal is below 0."""
    return f"was killed ({signal.Signals(-exit_code).name})" if exit_code < 0 else f"ended with exit code {exit_code}"
