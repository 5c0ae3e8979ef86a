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

    `index`: number of the next pass (see Schedule.pass_at); `topic_id`: of the samples topic, if known; `ends`: offset
    after the last row of a marker, by partition; `partitions`: of the samples topic, if known.
    """

    schedule: Schedule
    index: int
    topic_id: str | None = None
    ends: dict[int, int] = field(default_factory=dict)
    partitions: int | None = None
    _markers: list[Marker] = field(default_factory=list)

    @property
    def next_sequence(self) -> int:
        """The first split without a marker so far."""
        new = sum(1 for m in self._markers if m.revision == 0)
        return self.index * self.schedule.split_per_pass + new

    def add(self, offset: int, marker: Marker) -> PassPlan | None:
        """Adds the marker at `offset`; returns a plan when it completes a pass.

        Raises DataError for a marker out of order or with impossible ranges, TopicReplaced for one of another samples
        topic.
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
        self._check_ranges(offset, marker)
        self._markers.append(marker)
        pass_id = self.schedule.pass_at(self.index)
        if marker.revision or marker.sequence != self.schedule.last_sequence(pass_id):
            return None
        markers, self._markers = tuple(self._markers), []
        self.index += 1
        return PassPlan(pass_id, offset + 1, markers, _ranges(markers), sum(m.rows for m in markers))

    def _check_ranges(self, offset: int, marker: Marker) -> None:
        """The bridge writes one transaction after the other, so a partition's ranges follow each other. Ranges that
        overlap would train rows twice; empty ones that claim rows would be waited for without end."""
        problem = None
        for r in marker.ranges:
            if self.partitions is not None and not 0 <= r.partition < self.partitions:
                problem = f"rows, but the topic has {self.partitions} partitions"
            elif r.rows < 0 or r.end_offset - r.start_offset < r.rows:
                problem = f"{r.rows} rows between the offsets {r.start_offset} and {r.end_offset}"
            elif r.start_offset < self.ends.get(r.partition, 0):
                problem = f"offset {r.start_offset}, which is before {self.ends[r.partition]}, the end of earlier rows"
            if problem is not None:
                raise DataError(
                    f"the marker of {marker.day}/{marker.time} (marker log offset {offset}) says of partition "
                    f"{r.partition}: {problem}",
                    remedy="Something else wrote into the marker log; give this job a name of its own (stream.job).",
                )
            self.ends[r.partition] = max(self.ends.get(r.partition, 0), r.end_offset)
        if sum(r.rows for r in marker.ranges) != marker.rows:
            raise DataError(
                f"the marker of {marker.day}/{marker.time} (marker log offset {offset}) says {marker.rows} rows, its "
                f"ranges have {sum(r.rows for r in marker.ranges)}",
                remedy="Something else wrote into the marker log; give this job a name of its own (stream.job).",
            )


def _ranges(markers: Sequence[Marker]) -> dict[int, tuple[Range, ...]]:
    by_partition: dict[int, list[Range]] = {}
    for marker in markers:
        for r in marker.ranges:
            if r.rows:
                by_partition.setdefault(r.partition, []).append(r)
    return {p: tuple(sorted(ranges, key=lambda r: r.start_offset)) for p, ranges in sorted(by_partition.items())}
