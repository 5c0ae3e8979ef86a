"""One split, one Kafka transaction: rows, rejects and the marker commit together."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import confluent_kafka as ck

from streamtrain.connectors.formats import LineParser, RejectError
from streamtrain.connectors.tree import MAX_LINE, SourceReader, Tree
from streamtrain.contracts.marker import HEADERS, Marker, Range, SourceFile
from streamtrain.contracts.sample import SCHEMA, encode_sample
from streamtrain.errors import DataError, StreamtrainError
from streamtrain.failpoints import failpoint
from streamtrain.kafka.clients import producer, translate
from streamtrain.kafka.topics import TopicNames
from streamtrain.schedule import Split

#: Rows in a row that go to one partition, then to the next: the same split always gives the same partitions.
CHUNK = 16
#: Bytes of a rejected line that are kept.
REJECT_BYTES = 100_000


@dataclass(frozen=True)
class Work:
    """What to publish: the files `paths` of a split, as that revision.

    skip: files of which the first `bytes` were published by an earlier revision.
    """

    split: Split
    paths: list[str]
    topic_id: str
    max_reject_ratio: float
    status: Literal["data", "skipped"] = "data"
    revision: int = 0
    skip: Mapping[str, SourceFile] = field(default_factory=dict)


class DeliveryFailed(Exception):
    """Kafka did not accept a message: the split must be aborted and published again."""


class _Ranges:
    """The offsets that Kafka gave to the rows, a range a partition; a delivery callback that never raises."""

    def __init__(self) -> None:
        self.ranges: dict[int, Range] = {}
        self.failed: Any = None

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

    def confirmed(self, error: Any, _message: Any) -> None:
        if error is not None and self.failed is None:
            self.failed = error


class Publisher:
    """A transactional producer, `<job>.bridge`: creating one fences the bridge before it."""

    def __init__(self, properties: Mapping[str, str], names: TopicNames, job: str, partitions: int) -> None:
        self._names = names
        self._partitions = partitions
        self._producer: Any = producer(properties, f"{job}.bridge")
        self._what = f"publishing to {names.samples}"
        try:
            self._producer.init_transactions(60)
        except ck.KafkaException as error:
            raise translate(error, f"starting the bridge's transactions ({job}.bridge)") from error

    def publish(self, tree: Tree, work: Work, parse: LineParser) -> Marker:
        """Publishes the rows and the marker; on any error the transaction is aborted.

        Raises DataError (a file, too many rejects), Fenced, BrokerUnavailable, KafkaError.
        """
        self._call(self._producer.begin_transaction)
        failpoint("bridge.begin")
        try:
            marker = self._send(tree, work, parse)
            failpoint("bridge.marked")
            self._call(self._producer.commit_transaction, 60)
            failpoint("bridge.committed")
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
                return translate(real, self._what)
        return translate(error, self._what)

    def _send(self, tree: Tree, work: Work, parse: LineParser) -> Marker:
        split = work.split
        sink = _Ranges()
        files: list[SourceFile] = []
        rows = rejected = 0
        example = ""
        for index, path in enumerate(work.paths):
            before = rows
            with tree.open(split, path) as raw:
                source = SourceReader(raw, path=tree.name(split, path))
                for number, line in _numbered(source, work.skip.get(path), tree.name(split, path)):
                    try:
                        if len(line) > MAX_LINE:
                            raise RejectError(f"it is longer than {MAX_LINE} bytes")
                        row = parse(line)
                    except RejectError as reason:
                        rejected += 1
                        example = example or f"{tree.name(split, path)}, line {number}: {reason}"
                        headers = {
                            "day": split.day, "time": split.time, "file": path,
                            "line": str(number), "reason": str(reason),
                        }  # fmt: skip
                        self._produce(self._names.rejects, 0, line[:REJECT_BYTES], sink.confirmed, headers)
                        continue
                    value = encode_sample(row.label, index, number, row.slots, row.feasigns)
                    partition = (rows // CHUNK + split.sequence) % self._partitions
                    self._produce(self._names.samples, partition, value, sink.delivered)
                    rows += 1
                    failpoint("bridge.row")
                    if sink.failed is not None:
                        break
                files.append(SourceFile(path, source.size, rows - before, source.sha256))
        if rejected > work.max_reject_ratio * (rows + rejected):
            raise DataError(
                f"split {split.path}: {rejected} of {rows + rejected} lines do not parse, more than "
                f"stream.max_reject_ratio = {work.max_reject_ratio} allows; the first is {example}",
                remedy="Correct the file, or raise the ratio; nothing of this split was published.",
            )
        self._flush(sink)
        failpoint("bridge.flushed")
        ranges = tuple(sink.ranges[p] for p in sorted(sink.ranges))
        if sum(r.rows for r in ranges) != rows:
            raise DeliveryFailed(f"Kafka confirmed {sum(r.rows for r in ranges)} of {rows} rows")
        marker = Marker(
            split.day, split.time, split.sequence, work.revision,
            "empty" if work.status == "data" and not rows else work.status,
            work.topic_id, ranges, rows, rejected, tuple(files), SCHEMA.text,
        )  # fmt: skip
        self._produce(self._names.splits, 0, marker.encode(), sink.confirmed, HEADERS)
        self._flush(sink)
        return marker

    def _produce(self, topic: str, partition: int, value: bytes, callback: Any, headers: Any = None) -> None:
        while True:
            try:
                self._producer.produce(topic, value, partition=partition, on_delivery=callback, headers=headers)
                break
            except BufferError:  # the queue is full and the message is not in it, so a second try is safe
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

    def _flush(self, sink: _Ranges) -> None:
        left = self._drive(self._producer.flush, 60)
        if sink.failed is not None:
            # after a fatal error the messages only say "purged": the producer has the reason, such as being fenced
            self._call(self._producer.abort_transaction, 10)
            raise translate(sink.failed, self._what)
        if left:
            raise DeliveryFailed(f"{left} messages were not confirmed within 60 s")


def _numbered(source: SourceReader, skip: SourceFile | None, name: str) -> Iterator[tuple[int, bytes]]:
    """Lines with their numbers from 1, blank ones left out; after the first skip.bytes, if given.

    Raises DataError when the skipped part is not what was published.
    """
    first = 1
    if skip is not None:
        digest, lines = source.skip(skip.bytes)
        if digest != skip.sha256:
            raise DataError(
                f"{name} was rewritten after it was published (its first {skip.bytes} bytes differ)",
                remedy="Restore the file, or set stream.changed_split: ignore.",
            )
        first += lines
    for number, line in enumerate(source.lines(), first):
        if line := line.strip(b" \t\r"):
            yield number, line
