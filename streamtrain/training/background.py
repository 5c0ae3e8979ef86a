"""What goes on in another thread while the trainer does its next pass, and how long it holds the trainer up."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import Future, wait
from contextlib import contextmanager
from typing import Generic, Protocol, TypeVar

Result = TypeVar("Result")


class Stopwatch:
    """Adds up the times that are spent within it; another thread may ask for the sum at any time."""

    def __init__(self) -> None:
        #: The sum so far, and since when a time within runs: read and written at once.
        self._state: tuple[float, float | None] = (0.0, None)

    @contextmanager
    def __call__(self) -> Iterator[None]:
        self._state = (self._state[0], time.monotonic())
        try:
            yield
        finally:
            self._state = (self.seconds, None)

    @property
    def seconds(self) -> float:
        total, since = self._state
        return total + (time.monotonic() - since if since is not None else 0.0)


class Tables(Protocol):
    """A save that the servers are at, see engine/running_save.py."""

    def wait_for_tables(self) -> None: ...


class Background(Generic[Result]):
    """A save of the tables, and what is made of them. held: gets the time that the trainer waits."""

    def __init__(self, tables: Tables, work: Future[Result], held: Stopwatch) -> None:
        self._tables = tables
        self._work = work
        self._held = held

    @property
    def done(self) -> bool:
        return self._work.done()

    def wait_for_tables(self) -> None:
        """Until they may change. Raises what the save ends with."""
        with self._held():
            self._tables.wait_for_tables()

    def result(self) -> Result:
        """Waits; raises what the work ends with."""
        with self._held():
            return self._work.result()

    def give_time(self, seconds: float) -> str:
        """Waits so long at most, for a good end or a bad one; returns what is wrong, '' for a good end."""
        wait((self._work,), seconds)
        if not self._work.done():
            return f"it was not committed within {seconds:.0f} s"
        error = self._work.exception()
        return str(error) if error is not None else ""
