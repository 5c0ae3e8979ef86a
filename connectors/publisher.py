"""One split, one Kafka transaction: rows, rejects and the marker commit together."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import confluent_kafka as ck

from streamtrain.connectors.folders import printable
from streamtrain.connectors.rows import LineParser, RejectError
from streamtrain.connectors.source import MAX_LINE, SourceReader
from streamtrain.connectors.transaction_clock import TransactionClock
from streamtrain.connectors.tree import Tree
from streamtrain.contracts.marker import Marker, Range, SourceFile
from streamtrain.contracts.sample import SCHEMA, SampleDecoder, encode_sample
from streamtrain.errors import ConfigError, DataError, Fenced, StreamtrainError
from streamtrain.failpoints import failpoint
from streamtrain.kafka.clients import producer, producer_setting, translate
from streamtrain.kafka.topics import TopicNames
from streamtrain.schedule import Split

log = logging.getLogger("streamtrain.bridge")

#: Rows in a row that go to one partition, then to the next: the same split always gives the same partitions.
CHUNK = 16
#: Bytes of a rejected line that are kept, and of a header.
REJECT_BYTES = 100_000
HEADER_BYTES = 4096
#: Bytes that a message takes beside its value, at most: a row's fate must not depend on the client's version.
OVERHEAD = 100
#: A split may take as long as brokers allow by default (their transaction.max.timeout.ms).
TIMEOUT_MS = 900_000
#: Seconds between two reports of how far a split is.
REPORT_S = 5.0
_TOO_LARGE = {ck.KafkaError.MSG_SIZE_TOO_LARGE, ck.KafkaError.RECORD_LIST_TOO_LARGE}


@dataclass(frozen=True)
class Work:
    """What to publish: the files `paths` of a split, as that revision.

    skip: files of which the first `bytes` were published by an earlier revision, perhaps under another name.
    whole_lines: a last line without its line end waits for a later revision.
    """

    split: Split
    paths: list[str]
    topic_id: str
    max_reject_ratio: float
    status: Literal["data", "skipped"] = "data"
    revision: int = 0
    skip: Mapping[str, SourceFile] = field(default_factory=dict)
    whole_lines: bool = False


@dataclass
class _Tally:
    """Lines of a split so far; not_rows: the user's function returned None for them."""

    rows: int = 0
    rejected: int = 0
    not_rows: int = 0
    example: str = ""


class DeliveryFailed(Exception):
    """Kafka did not accept a message: the split must be aborted and published again."""


class _Ranges:
    """The offsets that Kafka gave to the rows, a range a partition; a delivery callback that never raises."""

    def __init__(self) -> None:
        self.ranges: dict[int, Range] = {}
        self.failed: Any = None
        self.failed_message: Any = None

    def delivered(self, error: Any, message: Any) -> None:
        if error is not None:
            self.confirmed(error, message)
            return
        partition, offset = message.partition(), message.offset()
        known = self.ranges.get(partition)
        if known is None:
            self.ranges[partition] = Range(partition, offset, offset + 1, 1)
        else:
            self.ranges[partition] = Range(
                partition, min(known.start_offset, offset), max(known.end_offset, offset + 1), known.rows + 1
            )

    def confirmed(self, error: Any, message: Any) -> None:
        if error is not None and self.failed is None:
            self.failed, self.failed_message = error, message


class Publisher:
    """A transactional producer, `<job>.bridge`: creating one fences the bridge before it.

    limits: max.message.bytes of each topic. on_rows(rows so far) now and then during a split.
    """

    def __init__(
        self,
        properties: Mapping[str, str],
        names: TopicNames,
        partitions: int,
        limits: Mapping[str, int],
        *,
        on_rows: Callable[[Split, int], None] = lambda _split, _rows: None,
    ) -> None:
        self._names = names
        self._partitions = partitions
        self._limits = limits
        self._on_rows = on_rows
        properties = {"transaction.timeout.ms": str(TIMEOUT_MS), **properties}
        self._timeout_s = producer_setting(properties, "transaction.timeout.ms") / 1000
        self._limit = producer_setting(properties, "message.max.bytes")
        # a batch of small rows must fit as well: then only a row that is too large by itself is refused
        batch = min(producer_setting(properties, "batch.size"), *limits.values())
        self._producer: Any = producer({**properties, "batch.size": str(batch)}, f"{names.job}.bridge")
        self._what = f"publishing to {names.samples} (transactional id {names.job}.bridge)"
        self._right = f"Write on topic {names.samples}, {names.splits} or {names.rejects}"
        self._clock = TransactionClock(self._timeout_s)
        self._reported = 0.0
        try:
            self._producer.init_transactions(60)
        except ck.KafkaException as error:
            what = f"starting the bridge's transactions (transactional id {names.job}.bridge)"
            if error.args[0].code() == ck.KafkaError.INVALID_TRANSACTION_TIMEOUT:
                raise ConfigError(
                    f"{what}: the broker does not allow kafka.transaction.timeout.ms = {self._timeout_s * 1000:.0f}",
                    remedy="Set it to the broker's transaction.max.timeout.ms, or less.",
                ) from error
            raise translate(error, what) from error

    def publish(self, tree: Tree, work: Work, parse: LineParser) -> Marker:
        """Publishes the rows and the marker; on any error the transaction is aborted.

        Raises DataError (a file, too many rejects), Unreadable, Overrun, Fenced, BrokerUnavailable, KafkaError.
        """
        self._call(self._producer.begin_transaction)
        self._clock = TransactionClock(self._timeout_s)
        self._reported = 0.0
        failpoint("bridge.begin")
        try:
            marker = self._send(tree, work, parse)
            failpoint("bridge.marked")
            with self._clock.waiting():
                self._call(self._producer.commit_transaction, 60)
            failpoint("bridge.committed")
        except Fenced:
            self._abort()
            # Kafka fences a producer whose transaction timed out as it does one that was replaced
            self._clock.check(f"split {work.split.path} was not published")
            raise
        except BaseException:
            self._abort()
            raise
        return marker

    def _abort(self) -> None:
        """Best effort: a producer that cannot abort is dropped, and the start of the next one aborts for it."""
        try:
            self._producer.purge()
            self._producer.abort_transaction(10)
        except ck.KafkaException:
            pass

    def _call(self, function: Any, *args: Any) -> None:
        try:
            function(*args)
        except ck.KafkaException as error:
            raise self._translated(error) from error

    def _translated(self, error: ck.KafkaException) -> StreamtrainError:
        """A fatal error gives no reason; the producer reports it, such as being fenced, when it cannot abort."""
        if error.args[0].code() == ck.KafkaError._FATAL:
            try:
                self._producer.abort_transaction(10)
            except ck.KafkaException as real:
                return translate(real, self._what, self._right)
        return translate(error, self._what, self._right)

    def _send(self, tree: Tree, work: Work, parse: LineParser) -> Marker:
        split = work.split
        sink = _Ranges()
        tally = _Tally()
        files = [self._send_file(tree, work, parse, index, tally, sink) for index in range(len(work.paths))]
        if tally.rejected > work.max_reject_ratio * (tally.rows + tally.rejected):
            raise DataError(
                f"split {split.path}: {tally.rejected} of {tally.rows + tally.rejected} lines do not parse, more than "
                f"stream.max_reject_ratio = {work.max_reject_ratio} allows; the first is {tally.example}",
                remedy="Correct the file, or raise the ratio; nothing of this split was published.",
            )
        if tally.not_rows:
            log.info("split %s: for %d lines the parse function returned no row", split.path, tally.not_rows)
        self._flush(sink, work)
        failpoint("bridge.flushed")
        ranges = tuple(sink.ranges[p] for p in sorted(sink.ranges))
        if sum(r.rows for r in ranges) != tally.rows:
            raise DeliveryFailed(f"Kafka confirmed {sum(r.rows for r in ranges)} of {tally.rows} rows")
        marker = Marker(
            split.day, split.time, split.sequence, work.revision,
            "empty" if work.status == "data" and not tally.rows else work.status,
            work.topic_id, ranges, tally.rows, tally.rejected, tuple(files), SCHEMA.text,
        )  # fmt: skip
        value = marker.encode()
        self._refuse_large_marker(work, value)
        self._produce(self._names.splits, 0, value, sink.confirmed)
        self._flush(sink, work)
        return marker

    def _send_file(
        self, tree: Tree, work: Work, parse: LineParser, index: int, tally: _Tally, sink: _Ranges
    ) -> SourceFile:
        """The file number `index` of the work: its rows and rejects."""
        split, path = work.split, work.paths[index]
        name = tree.name(split, path)
        before = tally.rows
        with tree.open(split, path) as raw:
            source = SourceReader(raw, name, whole_lines=work.whole_lines)
            for number, line in _numbered(source, work.skip.get(path), name, parse):
                try:
                    value = self._row(line, parse, index, number)
                except RejectError as reason:
                    tally.rejected += 1
                    tally.example = tally.example or f"{name}, line {number}: {reason}"
                    self._reject(split, path, number, line, str(reason), sink)
                    continue
                except DataError as error:
                    raise DataError(f"{name}, line {number}: {error.message}", remedy=error.remedy) from error
                if value is None:
                    tally.not_rows += 1
                else:
                    partition = (tally.rows // CHUNK + split.sequence) % self._partitions
                    self._produce(self._names.samples, partition, value, sink.delivered)
                    tally.rows += 1
                    failpoint("bridge.row")
                if sink.failed is not None:
                    self._flush(sink, work)
                self._progress(split, tally, f"{name}, line {number}")
        if source.held:
            log.warning("%s: its last line has no line end and waits for the rest (changed_split: append)", name)
        return SourceFile(path, source.size, tally.rows - before, source.sha256)

    def _row(self, line: bytes, parse: LineParser, index: int, number: int) -> bytes | None:
        """The line's message; None when it is no row. Raises RejectError."""
        if len(line) > MAX_LINE:
            raise RejectError(f"it is longer than {MAX_LINE} bytes")
        row = parse(line)
        if row is None:
            return None
        value = encode_sample(row.label, index, number, row.slots, row.feasigns)
        if len(value) + OVERHEAD > self._limit:
            raise RejectError(
                f"its row takes {len(value)} bytes, with {OVERHEAD} more than kafka.message.max.bytes = {self._limit}"
            )
        return value

    def _reject(self, split: Split, path: str, number: int, line: bytes, reason: str, sink: _Ranges) -> None:
        """Of the line as much is kept as a message takes."""
        given = {"day": split.day, "time": split.time, "file": path, "line": str(number), "reason": reason}
        headers = {key: printable(text).encode()[:HEADER_BYTES] for key, text in given.items()}
        taken = sum(len(key) + len(text) for key, text in headers.items()) + OVERHEAD
        room = min(self._limit, self._limits[self._names.rejects]) - taken
        self._produce(self._names.rejects, 0, line[: max(0, min(REJECT_BYTES, room))], sink.confirmed, headers)

    def _progress(self, split: Split, tally: _Tally, where: str) -> None:
        self._clock.tick()
        self._clock.check(f"split {split.path} is at {where}, with {tally.rows} rows,")
        elapsed = self._clock.elapsed
        if elapsed - self._reported >= REPORT_S:
            self._reported = elapsed
            self._on_rows(split, tally.rows)

    def _refuse_large_marker(self, work: Work, value: bytes) -> None:
        """A split of very many files has a large marker."""
        limits = {"kafka.message.max.bytes": self._limit,
                  f"max.message.bytes of topic {self._names.splits}": self._limits[self._names.splits]}  # fmt: skip
        key = min(limits, key=lambda name: limits[name])
        if len(value) + OVERHEAD > limits[key]:
            raise DataError(
                f"split {work.split.path}: the marker of its {len(work.paths)} files takes {len(value)} bytes, more "
                f"than {key} = {limits[key]}",
                remedy="Raise the limit, or write fewer files a split; nothing of this split was published.",
            )

    def _too_large(self, message: Any, work: Work) -> DataError:
        """What the broker refused as too large, by file and line."""
        topic, value = message.topic(), message.value() or b""
        what = f"split {work.split.path}: a message of {len(value)} bytes"
        if topic == self._names.samples:
            row = SampleDecoder().decode([value], places=True)
            if row.files is not None and row.lines is not None:
                path = work.paths[int(row.files[0])]
                what = f"split {work.split.path}, file {path}, line {row.lines[0]}: its row of {len(value)} bytes"
        limit = self._limits.get(topic, 0)
        return DataError(
            f"{what} is larger than topic {topic} takes: its max.message.bytes is {limit}",
            remedy="Raise the topic's max.message.bytes; or set kafka.message.max.bytes to it, and such lines are "
            "rejected; nothing of this split was published.",
        )

    def _produce(self, topic: str, partition: int, value: bytes, callback: Any, headers: Any = None) -> None:
        while True:
            try:
                self._producer.produce(topic, value, partition=partition, on_delivery=callback, headers=headers)
                break
            except BufferError:  # the queue is full and the message is not in it, so a second try is safe
                with self._clock.waiting():
                    self._drive(self._producer.poll, 0.1)
            except ck.KafkaException as error:
                raise self._translated(error) from error
        self._drive(self._producer.poll, 0)

    def _drive(self, function: Any, seconds: float) -> int:
        """poll() or flush(). The C library raises a fatal error in ways of its own: as a KafkaError that is not an
        exception class, or as a SystemError when a delivery callback ran after it. So everything is caught, and the
        producer reports what it was."""
        try:
            return int(function(seconds))
        except:  # noqa: E722
            kind, value = sys.exc_info()[:2]
            if kind in (KeyboardInterrupt, SystemExit):
                raise
            self._call(self._producer.abort_transaction, 10)
            raise DeliveryFailed(f"{self._what}: {value}") from None

    def _flush(self, sink: _Ranges, work: Work) -> None:
        with self._clock.waiting():
            left = self._drive(self._producer.flush, 60)
        if sink.failed is not None:
            if sink.failed.code() in _TOO_LARGE:
                raise self._too_large(sink.failed_message, work)
            # after a fatal error the messages only say "purged": the producer has the reason, such as being fenced
            self._call(self._producer.abort_transaction, 10)
            topic = sink.failed_message.topic()
            raise translate(sink.failed, self._what, f"Write on topic {topic}")
        if left:
            raise DeliveryFailed(f"{left} messages were not confirmed within 60 s")


def _numbered(
    source: SourceReader, skip: SourceFile | None, name: str, parse: LineParser
) -> Iterator[tuple[int, bytes]]:
    """Lines with their numbers from 1, blank ones left out; after the first skip.bytes, if given.

    Raises DataError when the skipped part is not what was published.
    """
    first = 1
    ends_line = True
    if skip is not None:
        digest, lines, ends_line = source.skip(skip.bytes)
        if digest != skip.sha256:
            raise DataError(
                f"{name} was rewritten after it was published (its first {skip.bytes} bytes differ)",
                remedy="Restore the file, or set stream.changed_split: ignore.",
            )
        first += lines
    for number, line in enumerate(source.lines(), first):
        if not ends_line and number == first and line.strip(b"\r"):
            raise DataError(
                f"{name}, line {number}: it was published without its line end, and goes on now: its row cannot be "
                "withdrawn",
                remedy="Restore the file as it was, or set stream.changed_split: ignore.",
            )
        if content := parse.content(line):
            yield number, content
