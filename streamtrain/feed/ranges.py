"""Rows of offset ranges, read from Kafka.

Partitions are assigned, never subscribed to; a range is read up to its stated end, never to EOF. Rows of aborted
transactions are not delivered (read_committed), and control records take offsets, so rows are counted, not derived.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import wait
from typing import Any

import confluent_kafka as ck
from confluent_kafka import IsolationLevel
from confluent_kafka.admin import OffsetSpec

from streamtrain.contracts.marker import Range
from streamtrain.errors import DataError, RetentionPassed, TopicReplaced
from streamtrain.kafka.clients import UNKNOWN_CODES, admin, is_away, is_gone, reader, translate

#: (partition, offset, value)
Record = tuple[int, int, bytes]
BATCH = 128
#: Records of a partition that may wait for the next pass; then it pauses until they are taken.
EARLY = 4000
#: Seconds without a record after which the topic is asked whether a range can be reached, and between two questions.
ASK_S = 5.0


class RangeReader:
    """Reads one worker's partitions forward, pass by pass; records that arrive early are kept for the next pass."""

    def __init__(
        self,
        properties: Mapping[str, str],
        topic: str,
        group: str,
        starts: Mapping[int, int],
        *,
        on_stall: Callable[[float, int, int], None] = lambda _seconds, _partition, _offset: None,
    ) -> None:
        """starts: offset to begin at, a partition. on_stall(seconds, partition, offset) while no record arrives."""
        self._topic = topic
        self._early: dict[int, deque[Record]] = {p: deque() for p in starts}
        self._on_stall = on_stall
        self._paused: set[int] = set()
        self._ask_after = ASK_S
        self._admin: Any = admin(properties)
        self._consumer: Any = reader(properties, group)
        self._consumer.assign([ck.TopicPartition(topic, p, o) for p, o in sorted(starts.items())])

    def close(self) -> None:
        self._consumer.close()

    def read(
        self, ranges: Mapping[int, Sequence[Range]], cancelled: Callable[[], bool] = lambda: False
    ) -> Iterator[list[Record]]:
        """All rows of `ranges` in batches of at most BATCH; must be used to its end.

        Raises DataError when a range holds fewer or more rows than its marker says, RetentionPassed when
        its offsets are no longer there. Ends early once `cancelled()` is true.
        """
        todo = {p: _Progress(self._topic, p, ranges[p]) for p in ranges if ranges[p]}
        batch: list[Record] = []
        for p in list(todo):
            batch = []
            early = self._early[p]
            while early and not todo[p].done:
                if todo[p].add(early.popleft(), batch):
                    continue
            yield from _sliced(batch)
            if todo[p].done:
                del todo[p]
        self._resume()
        waiting_since = time.monotonic()
        self._ask_after = ASK_S
        while todo and not cancelled():
            messages = self._consumer.consume(BATCH, 0.2)
            if not messages:
                p, progress = next(iter(todo.items()))
                waited = time.monotonic() - waiting_since
                self._on_stall(waited, p, progress.next_offset)
                self._refuse_unreachable(waited, todo.values(), cancelled)
                continue
            waiting_since = time.monotonic()
            self._ask_after = ASK_S
            batch = []
            for message in messages:
                if message.error() is not None:
                    self._raise_for(message.error())
                    continue
                record = (message.partition(), message.offset(), message.value() or b"")
                current = todo.get(record[0])
                if current is None:
                    self._keep(record)
                    continue
                current.add(record, batch)
                if current.done:
                    del todo[record[0]]
            if batch:
                yield batch

    def _refuse_unreachable(self, waited_s: float, waiting: Iterable[_Progress], cancelled: Callable[[], bool]) -> None:
        """A marker becomes visible after its rows: what a partition does not have yet it never will. Raises DataError.

        Without a broker that answers nothing is concluded.
        """
        if waited_s < self._ask_after:
            return
        self._ask_after = waited_s + ASK_S
        for progress in waiting:
            place = ck.TopicPartition(self._topic, progress.partition)
            latest = self._admin.list_offsets(
                {place: OffsetSpec.latest()}, isolation_level=IsolationLevel.READ_UNCOMMITTED, request_timeout=ASK_S
            )
            while not (asked := latest[place]).done():
                if cancelled():
                    return
                wait([asked], 0.2)
            try:
                end = asked.result().offset
            except ck.KafkaException:
                return
            progress.refuse_after(end)

    def _keep(self, record: Record) -> None:
        """For the next pass. librdkafka drops what it has prefetched of a paused partition, and fetches it again."""
        partition = record[0]
        self._early[partition].append(record)
        if len(self._early[partition]) >= EARLY and partition not in self._paused:
            self._consumer.pause([ck.TopicPartition(self._topic, partition)])
            self._paused.add(partition)

    def _resume(self) -> None:
        again = {p for p in self._paused if len(self._early[p]) < EARLY}
        if again:
            self._consumer.resume([ck.TopicPartition(self._topic, p) for p in again])
            self._paused -= again

    def _raise_for(self, error: Any) -> None:
        code = error.code()
        if is_away(error):
            return  # librdkafka reconnects by itself
        if code == ck.KafkaError.GROUP_AUTHORIZATION_FAILED:
            return  # librdkafka asks for the group's coordinator; reading assigned partitions needs no group
        if code in (ck.KafkaError._AUTO_OFFSET_RESET, ck.KafkaError.OFFSET_OUT_OF_RANGE):
            raise RetentionPassed(
                f"topic {self._topic} no longer has an offset that is needed ({error.str()})",
                remedy="Retention has deleted it, or the topic was recreated: restore it, or start a new job.",
            )
        if is_gone(self._consumer, self._topic, error):
            raise TopicReplaced(
                f"topic {self._topic} does not exist ({error.str()})",
                remedy="It was deleted: restore it, or start a new job (stream.job).",
            )
        if code in UNKNOWN_CODES:
            return  # the broker is away, or was: the client asks for the topic again
        raise translate(error, f"reading {self._topic}", f"Read on topic {self._topic}")


class _Progress:
    """How far one partition is read."""

    def __init__(self, topic: str, partition: int, ranges: Sequence[Range]) -> None:
        self._topic = topic
        self.partition = partition
        self._ranges = list(ranges)
        self._at = 0
        self._rows = 0
        self.next_offset = ranges[0].start_offset

    @property
    def done(self) -> bool:
        return self._at == len(self._ranges)

    def add(self, record: Record, batch: list[Record]) -> bool:
        """Adds the record to `batch` if a range has it. Raises DataError when rows are missing."""
        offset = record[1]
        current = self._ranges[self._at]
        if offset < current.start_offset:
            return False
        if offset >= current.end_offset:
            self._fail(current, f"offset {offset} arrived before its last row")
        batch.append(record)
        self._rows += 1
        self.next_offset = offset + 1
        if offset == current.end_offset - 1:
            if self._rows != current.rows:
                self._fail(current, "the topic holds a different number")
            self._at += 1
            self._rows = 0
        return True

    def refuse_after(self, end: int) -> None:
        """Raises DataError when a range needs an offset that is not before `end`, the partition's next offset."""
        for current in self._ranges[self._at :]:
            if current.end_offset > end:
                self._fail(current, f"the partition ends at offset {end}")

    def _fail(self, current: Range, why: str) -> None:
        raise DataError(
            f"topic {self._topic}, partition {self.partition}, offsets {current.start_offset} to "
            f"{current.end_offset}: the marker says {current.rows} rows, {self._rows} were read; {why}",
            remedy="The topic was written by something else or cut; the pass was not trained.",
        )


def _sliced(records: list[Record]) -> Iterator[list[Record]]:
    for i in range(0, len(records), BATCH):
        yield records[i : i + BATCH]
