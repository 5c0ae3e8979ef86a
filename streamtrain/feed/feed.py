"""One worker's feed: plans from the marker log, rows in spool files, one pass ahead of the training."""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from streamtrain.contracts.codec import SchemaError
from streamtrain.contracts.network import NetworkFeed
from streamtrain.contracts.row_layout import RowLayout
from streamtrain.contracts.sample import SampleDecoder, SampleError
from streamtrain.errors import DataError, StreamtrainError, UnknownFormat
from streamtrain.failpoints import failpoint
from streamtrain.feed.groups import RowGroups, groups_of, joined
from streamtrain.feed.multislot import MultiSlotWriter, RowError
from streamtrain.feed.passes import PassBuilder, PassPlan, partition_owner
from streamtrain.feed.ranges import RangeReader
from streamtrain.feed.row_ids import RowIds, source_of
from streamtrain.feed.shuffle import Shuffle
from streamtrain.feed.spool import Spool
from streamtrain.kafka.marker_log import LogEntry, MarkerLog
from streamtrain.schedule import Schedule

log = logging.getLogger("streamtrain.feed")


@dataclass(frozen=True)
class FeedStart:
    """Where a feed begins: the next pass's number, the marker-log offset, an offset a partition."""

    pass_index: int
    marker_offset: int
    offsets: dict[int, int]


@dataclass(frozen=True)
class PassData:
    """A pass, read: its plan, and this worker's rows as MultiSlot text. groups: theirs, when they are asked for."""

    plan: PassPlan
    file: Path
    rows: int
    groups: RowGroups | None = None

    def release(self) -> None:
        self.file.unlink(missing_ok=True)


class Feed:
    """Reads and decodes the next pass in a thread while this one trains.

    properties: librdkafka's. spool: a folder for the text of passes. ins_ids: whether rows have theirs in it. shuffle:
    whether they come in a random order, the same each time that a pass is read, else as they arrive. group_slot: by
    which slot rows are grouped.
    """

    def __init__(
        self,
        properties: Mapping[str, str],
        *,
        job: str,
        samples: str,
        splits: str,
        topic_id: str,
        schedule: Schedule,
        feeds: Sequence[NetworkFeed],
        layout: RowLayout,
        start: FeedStart,
        worker: int,
        workers: int,
        spool: Path,
        ins_ids: bool = False,
        shuffle: bool = False,
        group_slot: int | None = None,
    ) -> None:
        self._spool = Spool(spool)
        self._stalled = False
        self._schedule = schedule
        self._samples = samples
        self._worker = worker
        self._workers = workers
        group = f"{job}.feed"
        self._markers = MarkerLog(properties, splits, group, start.marker_offset, on_wait=self._report_away)
        self._builder = PassBuilder(
            schedule, start.pass_index, topic_id, dict(start.offsets), len(start.offsets) or None
        )
        own = {p: o for p, o in start.offsets.items() if partition_owner(p, workers) == worker}
        self._reader = RangeReader(properties, samples, group, own, on_stall=self._report_stall)
        self._decoder = SampleDecoder(layout=layout)
        self._writer = MultiSlotWriter(feeds, layout)
        self._with_ids = ins_ids
        self._shuffle = shuffle
        self._group_slot = group_slot
        self._labels = len(layout.labels)
        self._closed = threading.Event()
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="feed")
        self._next: Future[PassData | None] = self._pool.submit(self._prepare)

    def ready(self, timeout_s: float) -> bool:
        """Whether the next pass is read (or the stream has ended, or failed) within the time."""
        return bool(wait([self._next], timeout_s).done)

    @property
    def kafka_is_away(self) -> bool:
        """Whether the feed waits for the broker, not for a split."""
        return self._stalled or self._markers.away

    def next_pass(self) -> PassData | None:
        """The next pass; the feed begins to read the one after it. None after the last pass of end_day.

        Waits for it. Raises what reading raised: DataError, TopicMismatch, KafkaError.
        """
        data = self._next.result()
        if data is not None:
            self._next = self._pool.submit(self._prepare)
        return data

    def close(self) -> None:
        self._closed.set()
        self._pool.shutdown(wait=True, cancel_futures=True)
        self._markers.close()
        self._reader.close()
        self._spool.close()

    def _prepare(self) -> PassData | None:
        plan = self._next_plan()
        if plan is None:
            return None
        for marker in plan.markers:
            try:
                self._decoder.add(marker.schema)
            except SchemaError as error:
                raise UnknownFormat(
                    f"the marker of {marker.day}/{marker.time} names a schema of rows that this version cannot read: "
                    f"{error}",
                    remedy="Start the version of streamtrain that wrote it, or a newer one; the pass was not trained.",
                ) from error
        own = {p: r for p, r in plan.ranges.items() if partition_owner(p, self._workers) == self._worker}
        ids = RowIds(plan.markers) if self._with_ids else None
        rows = 0
        order = Shuffle(plan.id) if self._shuffle else None
        parts: list[RowGroups] = []
        with self._spool.writer(f"{plan.id.day}-{plan.id.pass_id}.txt") as (file, out):
            for records in self._reader.read(own, self._closed.is_set):
                try:
                    batch = self._decoder.decode([value for _, _, value in records], places=self._with_ids)
                except SampleError as error:
                    partition, offset, _ = records[error.index]
                    raise not_a_row(f"topic {self._samples}, partition {partition}, offset {offset}", error) from error
                try:
                    text = self._writer.text(batch, ids.encode(records, batch) if ids is not None else None)
                except RowError as error:
                    partition, offset, _ = record = records[error.index]
                    source = source_of(record, plan.markers, self._decoder)
                    raise DataError(
                        f"{source} (topic {self._samples}, partition {partition}, offset {offset}): the row does not "
                        f"fit the network: {error}",
                        remedy="Change the network's feed so that it takes the row. What is in the topic stays there: "
                        "other rows need another stream.job. The pass was not trained.",
                    ) from error
                out.write(text)
                if order is not None:
                    order.add(records, text)
                if self._group_slot is not None:
                    parts.append(groups_of(batch, self._group_slot))
                rows += len(batch)
        groups = joined(parts, self._labels) if self._group_slot is not None else None
        if order is not None and rows > 1:
            file, places = self._shuffled(file, order)
            groups = groups.taken(places) if groups is not None else None
        self._stalled = False
        expected = plan.rows_of(self._worker, self._workers)
        if rows != expected and not self._closed.is_set():
            raise DataError(
                f"pass {plan.id}: {rows} rows were read, the markers say {expected}",
                remedy="The pass was not trained; check what wrote into the topic.",
            )
        failpoint("feed.spooled")
        return PassData(plan, file, rows, groups)

    def _shuffled(self, file: Path, order: Shuffle) -> tuple[Path, npt.NDArray[np.int64]]:
        """The rows of a file in their random order, in a file of its own, and that order; the other file is removed."""
        with self._spool.writer(f"{file.stem}.shuffled.txt") as (target, out):
            places = order.write(file, out)
        file.unlink(missing_ok=True)
        return target, places

    def _next_plan(self) -> PassPlan | None:
        if self._builder.index >= self._schedule.total_passes:
            return None
        while not self._closed.is_set():
            entry = self._markers.poll(0.2)
            if isinstance(entry, LogEntry):
                plan = self._builder.add(entry.offset, entry.marker)
                if plan is not None:
                    return plan
        return None

    def _report_stall(self, seconds: float, partition: int, offset: int) -> None:
        if seconds < 2:
            return
        self._stalled = True
        if int(seconds * 5) % 50 == 0:
            log.warning(
                "topic %s, partition %d: waiting for offset %d for %.0f s (broker away?)",
                self._samples, partition, offset, seconds,
            )  # fmt: skip

    def _report_away(self, seconds: float) -> None:
        log.warning("topic %s: the broker is away for %.0f s", self._samples, seconds)


def not_a_row(place: str, error: SampleError) -> StreamtrainError:
    """The error of a message that is no row, or one of a newer format. place: topic, partition and offset."""
    if error.unknown:
        return UnknownFormat(
            f"{place} is a row of a format that this version does not know: {error.reason}",
            remedy="A newer version of streamtrain wrote it: start that one, or a newer one; the pass was not trained.",
        )
    return DataError(
        f"{place} is not a row: {error.reason}",
        remedy="Something else wrote into the topic; the pass was not trained.",
    )
