"""How a run of all roles ended, judged from what was observed of them. Pure."""

from __future__ import annotations

import random
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from streamtrain.errors import FINAL
from streamtrain.runtime.child_state import ChildState

#: Seconds that all roles have to come up, and that workers have to end after SIGTERM.
START_S = 120.0
STOP_S = 60.0
#: Seconds of the first pause before a restart, and of the longest one; up to JITTER_S more.
FIRST_PAUSE_S, LONGEST_PAUSE_S, JITTER_S = 0.5, 30.0, 1.0


@dataclass(frozen=True)
class Observed:
    """Of one moment.

    states: of all roles so far. dead: ids of processes that are gone although their state is still `running`.
    hang: why a role hangs. launcher_code: the launcher's exit code, None while it runs. elapsed: seconds since the
    start; stopping: seconds since the workers were asked to end, None if they were not.
    """

    states: Sequence[ChildState]
    dead: Collection[int] = ()
    hang: str | None = None
    launcher_code: int | None = None
    elapsed: float = 0.0
    stopping: float | None = None


@dataclass(frozen=True)
class Verdict:
    """done: all workers ended well; else the reason. failed: the role whose error a restart cannot fix."""

    done: bool
    reason: str = ""
    failed: ChildState | None = None


def judge(observed: Observed, servers: int, workers: int) -> Verdict | None:
    """None while the run of `servers` and `workers` roles runs as it should."""
    states = observed.states
    if failed := [s for s in states if s.state == "failed"]:
        first = min(failed, key=lambda s: s.time)
        return Verdict(False, f"{first.name}: {first.message}", first if first.exit_code in FINAL else None)
    started = [s for s in states if s.kind == "worker"]
    if len(started) == workers and all(s.state == "done" for s in started):
        if observed.stopping is None and (stopped := [s.name for s in started if s.stopped]):
            # Paddle's launcher sends SIGTERM to all workers when one of its processes dies.
            return Verdict(False, f"{stopped[0]} was stopped by a signal, before the end of the stream")
        return Verdict(True)
    for state in sorted(states, key=lambda s: s.kind != "worker"):  # a server ends after its workers
        if state.state == "running" and state.pid in observed.dead:
            return Verdict(False, f"{state.name} (process {state.pid}) died")
    if observed.hang is not None:
        return Verdict(False, observed.hang)
    if observed.launcher_code is not None and len(started) < workers:
        return Verdict(False, f"the launcher ended with exit code {observed.launcher_code}")
    if len(states) < servers + workers and observed.elapsed > START_S:
        return Verdict(False, f"not all roles came up within {START_S:.0f} s")
    if observed.stopping is not None:
        if observed.stopping > STOP_S:
            return Verdict(False, f"the workers did not end within {STOP_S:.0f} s")
        if not started:
            return Verdict(False, "stopped before the workers were up")
    return None


def pause_before_restart(fruitless: int) -> float:
    """Seconds. fruitless: restarts in a row without a pass that was not reached before; at 0 there is no pause."""
    if not fruitless:
        return 0.0
    growing = FIRST_PAUSE_S * 2.0 ** min(fruitless - 1, 30)
    return min(LONGEST_PAUSE_S, growing) + random.uniform(0, JITTER_S)
