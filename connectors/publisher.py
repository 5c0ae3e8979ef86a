"""One split, one Kafka transaction: rows, rejects and the marker commit together."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from streamtrain.connectors.delivery import Delivery, DeliveryFailed, Ranges, TooLarge
from streamtrain.connectors.lines import Message, numbered_lines
from streamtrain.connectors.parse_processes import ParseProcesses
from streamtrain.connectors.rows import LineParser, RejectError
from streamtrain.connectors.source import SourceReader
from streamtrain.connectors.tree import Tree
from streamtrain.contracts.marker import Marker, SourceFile, headers
from streamtrain.contracts.row_layout import RowLayout
from streamtrain.contracts.sample import SampleDecoder, schema_of
from streamtrain.errors import DataError, Fenced
from streamtrain.failpoints import failpoint
from streamtrain.kafka.marker_log import LogEntry
from streamtrain.kafka.topics import TopicNames
from streamtrain.masking import printable
from streamtrain.schedule import Split

log = logging.getLogger("streamtrain.bridge")

#: Rows in a row that go to one partition, then to the next: the same split always gives the same partitions.
CHUNK = 16
#: Bytes of a rejected line that are kept, and of a header.
REJECT_BYTES = 100_000
HEADER_BYTES = 4096
#: Bytes that a message takes beside its value, at most: a row's fate must not depend on the client's version.
OVERHEAD = 100
#: Seconds between two reports of how far a split is.
REPORT_S = 5.0


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


class Publisher:
    """Publishes splits in transactions of `<job>.bridge`: creating one fences the bridge before it.

    limits: max.message.bytes of each topic. layout: of the job's rows. parsing: makes messages of lines.
    on_rows(rows so far) now and then during a split. stop, on_wait: see Delivery.
    """

    def __init__(
        self,
        properties: Mapping[str, str],
        names: TopicNames,
        partitions: int,
        limits: Mapping[str, int],
        layout: RowLayout,
        parsing: ParseProcesses,
        *,
        on_rows: Callable[[Split, int], None] = lambda _split, _rows: None,
        stop: threading.Event | None = None,
        on_wait: Callable[[str], None] = lambda _sentence: None,
    ) -> None:
        self._names = names
        self._partitions = partitions
        self._limits = limits
        self._layout = layout
        self._parsing = parsing
        self._headers = headers(values=layout.has_values)
        self._on_rows = on_rows
        self._reported = 0.0
        self._delivery = Delivery(properties, names, limits, stop=stop, on_wait=on_wait)

    def publish(self, tree: Tree, work: Work, parse: LineParser) -> LogEntry:
        """Publishes the rows and the marker, and returns this; on any error the transaction is aborted.

        Raises DataError (a file, too many rejects), Unreadable, ParserDied, Overrun, Fenced, BrokerUnavailable,
        KafkaError; Stopped when it does not end soon after a stop.
        """
        delivery = self._delivery
        delivery.begin()
        self._reported = 0.0
        failpoint("bridge.begin")
        try:
            entry = self._send(tree, work, parse)
            failpoint("bridge.marked")
            delivery.commit()
            failpoint("bridge.committed")
        except Fenced:
            # Kafka fences a producer whose transaction timed out as it does one that was replaced
            delivery.abort()
            delivery.clock.check(f"split {work.split.path} was not published")
            raise
        except TooLarge as refused:
            delivery.abort()
            raise self._too_large(refused, work) from refused
        except BaseException:
            delivery.abort()
            raise
        return entry

    def _send(self, tree: Tree, work: Work, parse: LineParser) -> LogEntry:
        split = work.split
        sink = Ranges()
        tally = _Tally()
        parse.absent.begin()
        files = [self._send_file(tree, work, parse, index, tally, sink) for index in range(len(work.paths))]
        if tally.rejected > work.max_reject_ratio * (tally.rows + tally.rejected):
            raise DataError(
                f"split {split.path}: {tally.rejected} of {tally.rows + tally.rejected} lines do not parse, more than "
                f"stream.max_reject_ratio = {work.max_reject_ratio} allows; the first is {tally.example}",
                remedy="Correct the file, or raise the ratio; nothing of this split was published.",
            )
        if parse.absent.end(split.path, tally.rows + tally.rejected):
            log.warning("%s: a misspelt name leaves its slot empty, or at its default", parse.absent.sentence)
        if tally.not_rows:
            log.info("split %s: for %d lines the parse function returned no row", split.path, tally.not_rows)
        self._delivery.flush(sink)
        failpoint("bridge.flushed")
        ranges = sink.ranges
        if sum(r.rows for r in ranges) != tally.rows:
            raise DeliveryFailed(f"Kafka confirmed {sum(r.rows for r in ranges)} of {tally.rows} rows")
        marker = Marker(
            split.day, split.time, split.sequence, work.revision,
            "empty" if work.status == "data" and not tally.rows else work.status,
            work.topic_id, ranges, tally.rows, tally.rejected, tuple(files), schema_of(self._layout).text,
        )  # fmt: skip
        value = marker.encode()
        self._refuse_large_marker(work, value)
        self._delivery.produce(self._names.splits, 0, value, sink, self._headers)
        self._delivery.flush(sink)
        offset, written = sink.newest[self._names.splits]
        return LogEntry(offset, marker, written)

    def _send_file(
        self, tree: Tree, work: Work, parse: LineParser, index: int, tally: _Tally, sink: Ranges
    ) -> SourceFile:
        """The file number `index` of the work: its rows and rejects."""
        split, path = work.split, work.paths[index]
        name = tree.name(split, path)
        before = tally.rows
        with tree.open(split, path) as raw:
            source = SourceReader(raw, name, whole_lines=work.whole_lines)
            numbered = numbered_lines(source, work.skip.get(path), name, parse)
            number = 0

            def meanwhile() -> None:
                self._progress(split, tally, name, number)

            for number, line, message in self._parsing.messages(numbered, parse, name, index, meanwhile):
                try:
                    value = self._checked(message)
                except RejectError as reason:
                    tally.rejected += 1
                    tally.example = tally.example or f"{name}, line {number}: {reason}"
                    self._reject(split, path, number, line, str(reason), sink)
                    continue
                if value is None:
                    tally.not_rows += 1
                else:
                    partition = (tally.rows // CHUNK + split.sequence) % self._partitions
                    self._delivery.produce(self._names.samples, partition, value, sink)
                    tally.rows += 1
                    failpoint("bridge.row")
                self._progress(split, tally, name, number)
        if source.held:
            log.warning("%s: its last line has no line end and waits for the rest (changed_split: append)", name)
        return SourceFile(path, source.size, tally.rows - before, source.sha256)

    def _checked(self, message: Message) -> bytes | None:
        """A line's message, which Kafka takes; None when it is no row. Raises RejectError."""
        if isinstance(message, RejectError):
            raise message
        if message is not None and len(message) + OVERHEAD > self._delivery.limit:
            limit = f"kafka.message.max.bytes = {self._delivery.limit}"
            raise RejectError(f"its row takes {len(message)} bytes and {OVERHEAD} beside it, more than {limit}")
        return message

    def _reject(self, split: Split, path: str, number: int, line: bytes, reason: str, sink: Ranges) -> None:
        """Of the line as much is kept as a message takes."""
        given = {"day": split.day, "time": split.time, "file": path, "line": str(number), "reason": reason}
        headers = {key: printable(text).encode()[:HEADER_BYTES] for key, text in given.items()}
        taken = sum(len(key) + len(text) for key, text in headers.items()) + OVERHEAD
        room = min(self._delivery.limit, self._limits[self._names.rejects]) - taken
        self._delivery.produce(self._names.rejects, 0, line[: max(0, min(REJECT_BYTES, room))], sink, headers)

    def _progress(self, split: Split, tally: _Tally, name: str, number: int) -> None:
        """After the line of that number of the file `name`. Raises Overrun, Stopped."""
        self._delivery.patience.check()
        clock = self._delivery.clock
        elapsed = clock.tick()
        if elapsed > clock.timeout_s:
            clock.check(f"split {split.path} is at {name}, line {number}, with {tally.rows} rows,")
        if elapsed - self._reported >= REPORT_S:
            self._reported = elapsed
            self._on_rows(split, tally.rows)

    def _refuse_large_marker(self, work: Work, value: bytes) -> None:
        """A split of very many files has a large marker."""
        limits = {"kafka.message.max.bytes": self._delivery.limit,
                  f"max.message.bytes of topic {self._names.splits}": self._limits[self._names.splits]}  # fmt: skip
        key = min(limits, key=lambda name: limits[name])
        headers = sum(len(name) + len(text) for name, text in self._headers.items())
        if len(value) + headers + OVERHEAD > limits[key]:
            raise DataError(
                f"split {work.split.path}: the marker of its {len(work.paths)} files takes {len(value)} bytes, more "
                f"than {key} = {limits[key]}",
                remedy="Raise the limit, or write fewer files a split; nothing of this split was published.",
            )

    def _too_large(self, refused: TooLarge, work: Work) -> DataError:
        """What the broker refused as too large, by file and line."""
        topic, value = refused.topic, refused.value
        what = f"split {work.split.path}: a message of {len(value)} bytes"
        if topic == self._names.samples:
            row = SampleDecoder(layout=self._layout).decode([value], places=True)
            if row.files is not None and row.lines is not None:
                path = work.paths[int(row.files[0])]
                what = f"split {work.split.path}, file {path}, line {row.lines[0]}: its row of {len(value)} bytes"
        limit = self._limits.get(topic, 0)
        return DataError(
            f"{what} is larger than topic {topic} takes: its max.message.bytes is {limit}",
            remedy="Raise the topic's max.message.bytes; or set kafka.message.max.bytes to it, and such lines are "
            "rejected; nothing of this split was published.",
        )
