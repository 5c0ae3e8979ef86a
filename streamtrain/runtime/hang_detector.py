"""Which role hangs. Pure: samples in, a reason out.

A dead role is found by its process. A hung one is alive: frozen, deadlocked, or waiting for ever for another.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from streamtrain.contracts.phases import BUSY

#: Seconds that a role may be stopped (SIGSTOP).
STOPPED_S = 3.0
#: Seconds that a server may leave its endpoint unanswered, or all roles may be idle in the middle of work.
PATIENCE_S = 6.0
#: Seconds between two checks over which nothing is concluded.
GAP_S = 5.0
#: Processor seconds a second below which a role is idle; an idle server or worker uses about 0.01 (measured).
IDLE = 0.02


@dataclass(frozen=True)
class RoleSample:
    """A role at one moment. cpu: processor seconds used so far. running: on a processor or at the disk.
    healthy: a server's answer on its endpoint; None for a worker, or before its first answer."""

    role: str
    stopped: bool
    running: bool
    cpu: float
    phase: str = ""
    healthy: bool | None = None


@dataclass
class HangDetector:
    """Gets a sample of all roles about once a second; check() returns why one of them hangs, None while none does."""

    _past: deque[tuple[float, dict[str, RoleSample]]] = field(default_factory=deque)

    def check(self, now: float, samples: Sequence[RoleSample]) -> str | None:
        """now: seconds of a clock that only goes forward. The roles may change from call to call."""
        if self._past and now - self._past[-1][0] > GAP_S:
            self._past.clear()  # this process was held up itself: what the others did meanwhile is not known
        self._past.append((now, {s.role: s for s in samples}))
        while len(self._past) > 1 and self._past[1][0] <= now - PATIENCE_S:
            self._past.popleft()  # one sample at least PATIENCE_S old stays
        for s in samples:
            if self._all_since(now - STOPPED_S, s.role, lambda x: x.stopped):
                return f"{s.role} is frozen (its process is stopped)"
            unanswered = self._all_since(now - PATIENCE_S, s.role, lambda x: x.healthy is False)
            if unanswered and self._idle(now, [s]):
                return f"{s.role} hangs: no answer on its endpoint for {PATIENCE_S:.0f} s"
        workers = [s for s in samples if s.phase]
        busy = workers and all(self._all_since(now - PATIENCE_S, s.role, lambda x: x.phase in BUSY) for s in workers)
        if busy and self._idle(now, samples):
            phases = ", ".join(f"{s.role} {s.phase}" for s in workers)
            return f"all roles have been idle for {PATIENCE_S:.0f} s while {phases}"
        return None

    def _all_since(self, since: float, role: str, holds: Callable[[RoleSample], bool]) -> bool:
        """Whether it held in every sample of the role from `since` on, the last one before it included."""
        if self._past[0][0] > since:
            return False
        samples = []
        for at, (time, roles) in enumerate(self._past):
            later = self._past[at + 1][0] if at + 1 < len(self._past) else time
            if later >= since:
                samples.append(roles.get(role))
        return all(s is not None and holds(s) for s in samples)

    def _idle(self, now: float, samples: Sequence[RoleSample]) -> bool:
        """Whether these roles have together used hardly any processor time in the last PATIENCE_S seconds."""
        begin, before = self._past[0]
        if now - begin < PATIENCE_S:
            return False
        used = 0.0
        for s in samples:
            if s.role not in before:
                return False
            used += s.cpu - before[s.role].cpu
        running = any(roles[s.role].running for _, roles in self._past for s in samples if s.role in roles)
        return not running and used < IDLE * (now - begin) * len(samples)
