"""The OffsetLog port made of lists: what a broker keeps of a group, and trainers that commit to it.

tests/jobs/test_offset_log.py holds it against the real one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from streamtrain.errors import Fenced
from streamtrain.kafka.topics import JobTopics, Place, TopicNames

TOPICS = JobTopics(TopicNames("job"), "cluster", "samples-id", "splits-id", 3)
#: Its marker log.
LOG = (TOPICS.names.splits, 0)


@dataclass
class Group:
    """What the broker keeps. epoch: of the newest producer; aborts: how many of the next commits it aborts."""

    topics: JobTopics = TOPICS
    epoch: int = 0
    committed: dict[Place, tuple[int, str | None]] = field(default_factory=dict)
    pending: tuple[dict[Place, int], str] | None = None
    ends: dict[Place, tuple[int, int]] = field(default_factory=dict)
    aborts: int = 0

    @property
    def marker_log(self) -> Place:
        return self.topics.names.splits, 0


class ListOffsetLog:
    """One trainer's side. check: raises Fenced when a newer trainer has taken over, as KafkaOffsetLog's.

    reached(name) before and after each change: where a test crashes or freezes a trainer.
    """

    def __init__(
        self, group: Group, check: Callable[[], None], reached: Callable[[str], None] = lambda _name: None
    ) -> None:
        self._group = group
        self._check = check
        self._reached = reached
        self._epoch = -1

    def take_over(self) -> None:
        self._reached("log.take_over")
        self._group.epoch += 1
        self._epoch = self._group.epoch
        self._group.pending = None
        self._reached("log.taken_over")

    def witness(self) -> tuple[int, str | None]:
        return self._group.committed.get(self._group.marker_log, (-1, None))

    def watermarks(self) -> Mapping[Place, tuple[int, int]]:
        names = self._group.topics.names
        places = [*((names.samples, p) for p in range(self._group.topics.partitions)), (names.splits, 0)]
        return {place: self._group.ends.get(place, (0, 0)) for place in places}

    def fence(self, offsets: Mapping[Place, int], text: str) -> None:
        assert self._epoch >= 0, "nobody has taken over"
        while self._epoch != self._group.epoch:
            self._check()
            self.take_over()
        self._group.pending = (dict(offsets), text)
        self._reached("log.fenced")

    def commit(self) -> bool:
        self._reached("log.commit")
        if self._epoch != self._group.epoch:
            self._check()
            self.take_over()
            return False
        pending, self._group.pending = self._group.pending, None
        assert pending is not None, "nothing was fenced"
        if self._group.aborts:
            self._group.aborts -= 1
            return False
        self._group.committed.update({place: (offset, pending[1]) for place, offset in pending[0].items()})
        self._reached("log.committed")
        return True

    def close(self) -> None:
        pass


def never_replaced() -> None:
    """A `check` for the only trainer there is."""


def replaced() -> None:
    """A `check` for a trainer that a newer one has replaced."""
    raise Fenced("a newer trainer has taken over")
