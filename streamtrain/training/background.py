"""What goes on in another thread while the trainer does its next pass, and how long it holds the trainer up."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from concurrent.futures import Future, wait
from contextlib import contextmanager
from typing import Generic, Protocol, TypeVar

Result = TypeVar("Result")


class Stopwatch:
    """Adds up the times that are spent within it; another thread may ask for the sum at any time."""

    def __init__(self) -> None:
        self._sum = 0.0
        self._since: float | None = None

    @contextmanager
    def __call__(self) -> Iterator[None]:
        self._since = time.monotonic()
        try:
            yield
        finally:
            self._sum, self._since = self.seconds, None

    @property
    def seconds(self) -> float:
        since = self._since
        return self._sum + (time.monotonic() - since if since is not None else 0.0)


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

    def give_time(self, seconds: float) -> None:
        """Waits so long at most, for a good end or a bad one."""
        with contextlib.suppress(Exception):
            wait((self._work,), seconds)
