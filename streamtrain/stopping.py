"""How a wait ends at a stop: whatever waits looks at the stop's event at least once a second.

A call into a C library runs no signal handler of Python until it returns. So such a call is made in slices of at most
SLICE_S where it may be repeated, and in a thread of its own where it may not.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any, TypeVar

#: Seconds that one call into a C library may take.
SLICE_S = 0.5
#: Seconds that work in progress (a transaction, a commit) has to end by itself after a stop.
GRACE_S = 1.5

Result = TypeVar("Result")


class Stopped(Exception):
    """A wait ended since its process is to stop. No error: nothing is half done that a restart does not settle."""


class StopWatch:
    """A stop's event, and for how long it has been set: since it was first looked at. event: None: there is none."""

    def __init__(self, event: threading.Event | None = None) -> None:
        self._event = event or threading.Event()
        self._since: float | None = None

    def check(self, grace_s: float = 0.0) -> None:
        """Raises Stopped once the event has been set for `grace_s` seconds."""
        if not self._event.is_set():
            return
        now = time.monotonic()
        self._since = self._since or now
        if now - self._since >= grace_s:
            raise Stopped

    def sleep(self, seconds: float) -> None:
        """Raises Stopped as soon as the event is set."""
        if self._event.wait(seconds):
            raise Stopped

    def call(self, function: Callable[..., Result], *args: Any, tick: Callable[[], None] | None = None) -> Result:
        """Returns or raises what the function does, run in a thread; tick() five times a second meanwhile.

        Raises Stopped as soon as the event is set: the thread is left to itself, and ends with the process.
        """
        self.check()
        outcome: list[Any] = []
        failed: list[BaseException] = []
        ended = threading.Event()

        def run() -> None:
            try:
                outcome.append(function(*args))
            except BaseException as error:
                failed.append(error)
            finally:
                ended.set()

        threading.Thread(target=run, daemon=True, name=f"call of {getattr(function, '__name__', 'a function')}").start()
        while not ended.wait(0.2):
            self.check()
            if tick is not None:
                tick()
        if failed:
            raise failed[0]
        result: Result = outcome[0]
        return result
