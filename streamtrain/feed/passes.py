"""Passes out of the marker log. Pure: every worker computes the same plan from the same log.

A pass's segment runs from the end of the last one up to the marker that completes the pass's last split; late
revisions between the two belong to it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from streamtrain.contracts.marker import Marker, Range
from streamtrain.errors import DataError, TopicReplaced
from streamtrain.schedule import PassId, Schedule


@dataclass(frozen=True)
class PassPlan:
    """What makes a pass.

    end_offset: the marker-log offset after the pass's last marker: where the next pass starts.
    ranges: per partition, in log order. rows: of all workers together.
    """

    id: PassId
    end_offset: int
    markers: tuple[Marker, ...]
    ranges: dict[int, tuple[Range, ...]]
    rows: int

    def rows_of(self, worker: int, workers: int) -> int:
        """Rows that worker `worker` of `workers` reads: those of its partitions."""
        return sum(r.rows for p, ranges in self.ranges.items() if partition_owner(p, workers) == worker for r in ranges)

    def ends(self, before: dict[int, int]) -> dict[int, int]:
        """The offset after this pass's last row, a partition; `before` where it has none."""
        return {**before, **{p: max(r.end_offset for r in ranges) for p, ranges in self.ranges.items()}}


def partition_owner(partition: int, workers: int) -> int:
    """Worker w of W reads the partitions p with p % W == w."""
    return partition % workers


@dataclass
class PassBuilder:
    """Turns markers, one after the other, into plans.

    `index`: number of the next pass (see Schedule.pass_at); `topic_id`: of the samples topic, if known.
    """

    schedule: Schedule
    index: int
    topic_id: str | None = None
    _markers: list[Marker] = field(default_factory=list)

    @property
    def next_sequence(self) -> int:
        """The first split without a marker so far."""
        new = sum(1 for m in self._markers if m.revision == 0)
        return self.index * self.schedule.split_per_pass + new

    def add(self, offset: int, marker: Marker) -> PassPlan | None:
        """Adds the marker at `offset`; returns a plan when it completes a pass.

        Raises DataError for a marker out of order, TopicReplaced for one of another samples topic.
        """
        if self.topic_id is not None and marker.topic_id != self.topic_id:
            raise TopicReplaced(
                f"the marker of {marker.day}/{marker.time} (marker log offset {offset}) names samples topic "
                f"{marker.topic_id}, but the topic there now is {self.topic_id}",
                remedy="The samples topic was recreated: start a new job (stream.job) from the logs.",
            )
        expected = self.next_sequence
        fits = marker.sequence == expected if marker.revision == 0 else marker.sequence < expected
        at = self.schedule.split(marker.sequence)
        if not fits or (at.day, at.time) != (marker.day, marker.time):
            raise DataError(
                f"the marker log has split {marker.day}/{marker.time} (number {marker.sequence}, revision "
                f"{marker.revision}) at offset {offset}, where number {expected} was expected",
                remedy="split_interval and start_day of a job must not change: restore them, or use a new stream.job.",
            )
        self._markers.append(marker)
        pass_id = self.schedule.pass_at(self.index)
        if marker.revision or marker.sequence != self.schedule.last_sequence(pass_id):
            return None
        markers, self._markers = tuple(self._markers), []
        self.index += 1
        return PassPlan(pass_id, offset + 1, markers, _ranges(markers), sum(m.rows for m in markers))


def _ranges(markers: Sequence[Marker]) -> dict[int, tuple[Range, ...]]:
    by_partition: dict[int, list[Range]] = {}
    for marker in markers:
        for r in marker.ranges:
            if r.rows:
                by_partition.setdefault(r.partition, []).append(r)
    return {p: tuple(sorted(ranges, key=lambda r: r.start_offset)) for p, ranges in sorted(by_partition.items())}
