"""How long a transaction has been open, and what took so long: Kafka only says that the producer is fenced."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import Literal

Cause = Literal["work", "kafka", "still"]


class Overrun(Exception):
    """The transaction was open for longer than kafka.transaction.timeout.ms, when Kafka aborts it.

    cause: what took most of that time. work: reading and parsing, so a second try ends like the first; kafka: waiting
    for it; still: one step alone, a process that was stopped or a single line.
    """

    def __init__(self, message: str, cause: Cause) -> None:
        super().__init__(message)
        self.cause = cause


class TransactionClock:
    """Measures from its creation on. tick() at each step of the work; `with waiting():` around waits for Kafka."""

    def __init__(self, timeout_s: float, now: Callable[[], float] = time.monotonic) -> None:
        self.timeout_s = timeout_s
        self._now = now
        self._begin = self._last = now()
        self._waited = 0.0
        self._longest = 0.0

    def tick(self) -> float:
        """Returns the seconds from its creation on."""
        now = self._now()
        if now - self._last > self._longest:
            self._longest = now - self._last
        self._last = now
        return now - self._begin

    @contextlib.contextmanager
    def waiting(self) -> Iterator[None]:
        self.tick()
        begin = self._last
        try:
            yield
        finally:
            self._last = self._now()
            self._waited += self._last - begin

    def check(self, what: str) -> None:
        """Raises Overrun when the time is over. what: how far the work is."""
        elapsed = self.tick()
        if elapsed <= self.timeout_s:
            return
        still = self._longest if self._longest > self.timeout_s / 2 else 0.0
        times: dict[Cause, float] = {"work": elapsed - self._waited - still, "kafka": self._waited, "still": still}
        raise Overrun(
            f"{what} after {elapsed:.0f} s, of which {self._waited:.0f} s were spent waiting for Kafka: longer than "
            f"kafka.transaction.timeout.ms ({self.timeout_s * 1000:.0f}) allows",
            max(times, key=lambda cause: times[cause]),
        )
