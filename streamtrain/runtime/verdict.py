"""How a run of all roles ended, judged from what was observed of them. Pure."""

from __future__ import annotations

import random
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from streamtrain.contracts import phases
from streamtrain.errors import FINAL
from streamtrain.runtime.child_state import ChildState, how_it_ended

#: Seconds that all roles have to come up, and that workers have to end after SIGTERM.
START_S = 120.0
STOP_S = 60.0
#: Seconds after a stop for which worker 0, which alone commits, may be seen to work on nothing: see is_quiet.
QUIET_S = 3.0
#: Seconds of the first pause before a restart, and of the longest one; up to JITTER_S more.
FIRST_PAUSE_S, LONGEST_PAUSE_S, JITTER_S = 0.5, 30.0, 1.0


@dataclass(frozen=True)
class Observed:
    """Of one moment.

    states: of all roles so far. dead: ids of processes that are gone although their state is still `running`.
    hang: why a role hangs. unreported: exit codes of roles that have ended without a state, by name. elapsed: seconds
    since the start; stopping: seconds since the workers were asked to end, None if they were not. quiet: seconds for
    which is_quiet() has held since then.
    """

    states: Sequence[ChildState]
    dead: Collection[int] = ()
    hang: str | None = None
    unreported: Mapping[str, int] = field(default_factory=dict)
    elapsed: float = 0.0
    stopping: float | None = None
    quiet: float = 0.0


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
            # fleetrun and others may send SIGTERM to all workers when one of the processes dies
            dead = [s for s in states if s.state == "running" and s.pid in observed.dead]
            why = f", after {dead[0].name} (process {dead[0].pid}) died" if dead else ""
            return Verdict(False, f"{stopped[0]} was {phases.STOPPED}, before the end of the stream{why}")
        return Verdict(True)
    if observed.stopping is not None:
        return _stopped(observed, started, workers)
    for state in sorted(states, key=lambda s: s.kind != "worker"):  # a server ends after its workers
        if state.state == "running" and state.pid in observed.dead:
            return Verdict(False, f"{state.name} (process {state.pid}) died")
    if observed.hang is not None:
        return Verdict(False, observed.hang)
    if observed.unreported:
        name, code = next(iter(observed.unreported.items()))
        return Verdict(False, f"{name} {how_it_ended(code)} before it had begun")
    if len(states) < servers + workers and observed.elapsed > START_S:
        return Verdict(False, f"not all roles came up within {START_S:.0f} s")
    return None


def _stopped(observed: Observed, started: Sequence[ChildState], workers: int) -> Verdict | None:
    """Whether nothing is left that the workers should finish: then the rest of them is ended."""
    if any(s.state == "running" and s.pid in observed.dead for s in observed.states):
        return Verdict(False, "a role died while the workers were asked to end")
    if not has_begun([s.phase for s in started if s.state == "running"], workers - _ended(started)):
        return Verdict(False, "stopped before the workers had begun")
    if observed.hang is not None:
        return Verdict(False, observed.hang)
    if observed.quiet > QUIET_S:
        return Verdict(False, "stopped while nothing was worked on")
    if observed.stopping is not None and observed.stopping > STOP_S:
        return Verdict(False, f"the workers did not end within {STOP_S:.0f} s")
    return None


def _ended(started: Sequence[ChildState]) -> int:
    return sum(s.state != "running" for s in started)


def has_begun(running: Sequence[str], expected: int) -> bool:
    """running: the phases of the workers that run, of `expected`. While one of them is starting (it imports Paddle, or
    joins the servers), nothing is loaded and no pass is begun: that takes all of them."""
    return len(running) >= expected and phases.STARTING not in running


def is_quiet(phase: str, *, done: bool) -> bool:
    """Of worker 0, which alone commits: whether it has ended, or can do nothing. The others may wait for it without end
    then. While it waits for a split it saves what is done, as soon as it hears of the stop."""
    return done or phase.startswith(f"{phases.WAITING} Kafka")


def pause_before_restart(fruitless: int) -> float:
    """Seconds. fruitless: restarts in a row without a pass that was not reached before; at 0 there is no pause."""
    if not fruitless:
        return 0.0
    growing = FIRST_PAUSE_S * 2.0 ** min(fruitless - 1, 30)
    return min(LONGEST_PAUSE_S, growing) + random.uniform(0, JITTER_S)
