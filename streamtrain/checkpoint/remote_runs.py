"""The runs of a trainer that a store knows: `runs/{number}-{token}`, an object each, with its owner's name.

They say which of two runs is newer. They fence nothing by themselves, since a store has no rename: what fences is the
witness in Kafka, which names the digest of the one checkpoint that is committed.
"""

from __future__ import annotations

import re
import uuid

from streamtrain.contracts.pointer import RUNS
from streamtrain.errors import Fenced
from streamtrain.object_store import ObjectStore

#: Older runs that stay listed.
_KEPT = 3
_NAME = re.compile(r"([1-9][0-9]{0,17})-([0-9a-f]{32})")


class RemoteRuns:
    """Raises CheckpointError for what the store refuses, after retries. It owns nothing until claim()."""

    def __init__(self, objects: ObjectStore) -> None:
        self.objects = objects
        self._own: tuple[int, str] | None = None

    @property
    def number(self) -> int:
        """This run's; 0 before claim()."""
        return self._own[0] if self._own is not None else 0

    def newest_number(self) -> int:
        """The greatest number of a run so far; 0 when there was none."""
        return max((number for number, _ in self._runs()), default=0)

    def claim(self, owner: str) -> None:
        """Takes a number over all others', which no other run has: the names of pointers tell runs by it.

        Of runs that take one number at once those that see another one there take a greater one, each its own.
        """
        own = (self.newest_number() + 1, uuid.uuid4().hex)
        self.objects.put(_path(*own), owner.encode())
        while others := [run for run in self._runs() if run[0] == own[0] and run != own]:
            taken, own = own, (self.newest_number() + 1 + sum(other < own for other in others), own[1])
            self.objects.put(_path(*own), owner.encode())
            self.objects.delete(_path(*taken))
        self._own = own
        for run in sorted(run for run in self._runs() if run != own)[:-_KEPT]:
            self.objects.delete(_path(*run))

    def check_newest(self) -> None:
        """Raises Fenced when a newer run has been claimed."""
        if self._own is not None and max(self._runs(), default=self._own) > self._own:
            raise Fenced(
                f"a newer trainer has taken over {self.objects.location.shown}",
                remedy="This one has changed nothing; end one of the two.",
            )

    def check_owner(self, owner: str, since: int) -> None:
        """For a run that is started again: raises Fenced when somebody else has taken over since. since:
        newest_number() before `owner` started its first run."""
        for number, token in self._runs():
            if number <= since:
                continue
            try:
                other = self.objects.get(_path(number, token)).decode("utf-8", "replace")
            except FileNotFoundError:  # a newer run has deleted it
                continue
            if other not in ("", owner):
                raise Fenced(
                    f"a newer trainer has taken over {self.objects.location.shown} while this one was down",
                    remedy="The newer one continues there; this one has changed nothing.",
                )

    def _runs(self) -> list[tuple[int, str]]:
        matches = map(_NAME.fullmatch, self.objects.directories(RUNS))
        return [(int(match[1]), match[2]) for match in matches if match]


def _path(number: int, token: str) -> str:
    return f"{RUNS}/{number}-{token}"
