"""Whether a part of a job is alive and gets on, for the health checks of containers.

A part reports what it does in stream.state_dir, and touches its file while it works or waits: see part_state. A process
that hangs touches nothing. An agent touches its file for its role: not while the role is stopped or, a server, does not
answer.
"""

from __future__ import annotations

import time
from pathlib import Path

import orjson
import psutil

from streamtrain.runtime.part_state import PartState

#: Seconds without a sign of life: of an agent, which observes its role once a second, and of the bridge, which may wait
#: for the broker to commit.
ROLE_S, BRIDGE_S = 30.0, 150.0


def problem(folder: Path, part: str, within_s: float) -> str | None:
    """Why `part`, a file of that name in `folder`, is not healthy; None when it is."""
    path = folder / f"{part}.json"
    try:
        age = time.time() - path.stat().st_mtime
        state = PartState(**orjson.loads(path.read_bytes()))
    except FileNotFoundError:
        return f"{part} has reported nothing in {folder}"
    except (OSError, ValueError, TypeError) as error:
        return f"{path} cannot be read: {error}"
    if state.alive is None:
        return f"{part} runs on {state.host}, not here"
    if not state.alive:
        return f"{part}'s process {state.pid} has ended; it was last: {state.doing}"
    if psutil.Process(state.pid).status() == psutil.STATUS_STOPPED:
        return f"{part}'s process {state.pid} is stopped; it was last: {state.doing}"
    if age > within_s:
        return f"{part} gave no sign of life for {age:.0f} s; it was last: {state.doing}"
    return None
