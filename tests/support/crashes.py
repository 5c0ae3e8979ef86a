"""Crashes and freezes within one process, at the points that code names by failpoint() and that the offset log reaches.

A crash is a Crash out of the N-th point that a call reaches. A frozen call runs in a thread that waits at its N-th
point until it is thawed, as a process does that was stopped (SIGSTOP) there.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from streamtrain.failpoints import intercepted


class Crash(BaseException):
    """The process has died here. No handler of the code under test may catch it."""


class _Plan(threading.local):
    """What the running thread is to do at its points."""

    arrive: Callable[[str], None] | None = None


_plan = _Plan()


def reached(name: str) -> None:
    if _plan.arrive is not None:
        _plan.arrive(name)


@contextmanager
def points() -> Iterator[None]:
    """Within it crash_at() and Frozen work."""
    with intercepted(reached):
        yield


@contextmanager
def crash_at(at: str | int) -> Iterator[list[str]]:
    """Raises Crash at the first point of that name, or at the at-th point, counted from 0. Yields the names that were
    reached."""
    names: list[str] = []

    def arrive(name: str) -> None:
        names.append(name)
        if at in (name, len(names) - 1):
            _plan.arrive = None  # a dead process reaches nothing more
            raise Crash(name)

    before, _plan.arrive = _plan.arrive, arrive
    try:
        yield names
    finally:
        _plan.arrive = before


class Frozen:
    """`call` in a thread, frozen at a point as crash_at() takes it; `frozen` is False when it ended before that."""

    def __init__(self, call: Callable[[], object], at: str | int) -> None:
        self._call = call
        self._at = at
        self._stopped = threading.Event()
        self._thawed = threading.Event()
        self.names: list[str] = []
        self.error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        self._stopped.wait()

    @property
    def frozen(self) -> bool:
        return self._thread.is_alive() and not self._thawed.is_set()

    def thaw(self) -> BaseException | None:
        """Lets it run to its end; what it raised."""
        self._thawed.set()
        self._thread.join()
        return self.error

    def _run(self) -> None:
        _plan.arrive = self._arrive
        try:
            self._call()
        except BaseException as error:
            self.error = error
        finally:
            self._thawed.set()
            self._stopped.set()

    def _arrive(self, name: str) -> None:
        self.names.append(name)
        if self._at in (name, len(self.names) - 1) and not self._stopped.is_set():
            self._stopped.set()
            self._thawed.wait()
