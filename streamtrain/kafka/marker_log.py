"""The marker log, `<job>.splits`, read in order."""

from __future__ import annotations

import contextlib
import enum
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final, Literal

import confluent_kafka as ck

from streamtrain.contracts.codec import DecodeError, UnknownSchema
from streamtrain.contracts.marker import Marker
from streamtrain.errors import BrokerUnavailable, DataError, RetentionPassed, TopicReplaced, UnknownFormat
from streamtrain.kafka.clients import UNKNOWN_CODES, is_away, is_gone, reader, translate
from streamtrain.kafka.open_transactions import held_back
from streamtrain.kafka.topics import TIMEOUT_S
from streamtrain.stopping import SLICE_S

#: Seconds between two questions whether the broker answers, while nothing comes.
ASK_S = 4.0


class _End(enum.Enum):
    """A type with one value."""

    END = "end"


#: What poll() returns at the end of the log.
END: Final = _End.END


@dataclass(frozen=True)
class LogEntry:
    """A marker, its offset, and `timestamp`: when it was written, seconds since 1970."""

    offset: int
    marker: Marker
    timestamp: float


class MarkerLog:
    """Reads committed markers from an offset on. Each object has a position of its own."""

    def __init__(
        self,
        properties: Mapping[str, str],
        topic: str,
        group: str,
        offset: int = 0,
        *,
        on_wait: Callable[[float], None] = lambda _seconds: None,
    ) -> None:
        """on_wait(seconds) now and then while the broker is away."""
        self._topic = topic
        self._on_wait = on_wait
        self._away_since: float | None = None
        self._asked = 0.0
        self._consumer: Any = reader({**properties, "enable.partition.eof": "true"}, group)
        self._consumer.assign([ck.TopicPartition(topic, 0, offset)])

    def __enter__(self) -> MarkerLog:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def away(self) -> bool:
        """Whether the broker did not answer when it was last asked."""
        return self._away_since is not None

    def close(self) -> None:
        self._consumer.close()

    def offsets(self, on_idle: Callable[[], None] = lambda: None) -> tuple[int, int]:
        """The first offset that the log still has, 0 while nothing was deleted, and the one that readers get to: that
        of the oldest open transaction, or the end. on_idle(): as to_end() has it. Raises KafkaError."""
        begin = time.monotonic()
        while True:
            try:
                found: tuple[int, int] = self._consumer.get_watermark_offsets(
                    ck.TopicPartition(self._topic, 0), timeout=SLICE_S
                )
            except ck.KafkaException as error:
                waited = time.monotonic() - begin
                if not is_away(error.args[0]) or waited > TIMEOUT_S:
                    what = f"reading the offsets of topic {self._topic}"
                    raise translate(error, what, f"Describe on topic {self._topic}") from error
                if waited > ASK_S:
                    self._away_since = self._away_since or begin
            else:
                self._away_since = None
                return found
            on_idle()
            time.sleep(SLICE_S)  # a refused connection is told at once

    def poll(self, timeout_s: float) -> LogEntry | Literal[_End.END] | None:
        """The next marker; None when the time is over; END when the end of the log was reached.

        Raises DataError for a message that is not a marker, UnknownFormat for a marker of a newer format,
        RetentionPassed when the offset is gone,
        BrokerUnavailable and KafkaError of the client.
        """
        message = self._consumer.poll(timeout_s)
        if message is None:
            self._ask_whether_away()
            return None
        error = message.error()
        if error is not None:
            code = error.code()
            if code == ck.KafkaError._PARTITION_EOF:
                return END
            if code in (ck.KafkaError._AUTO_OFFSET_RESET, ck.KafkaError.OFFSET_OUT_OF_RANGE):
                raise RetentionPassed(
                    f"topic {self._topic}: the marker log no longer has the offset asked for ({error.str()})",
                    remedy="It was deleted or cut: restore it, or start a new job (stream.job).",
                )
            if code == ck.KafkaError.GROUP_AUTHORIZATION_FAILED:
                return None  # librdkafka asks for the group's coordinator; reading assigned partitions needs no group
            if is_away(error):
                self._away_since = self._away_since or time.monotonic()
                return None  # librdkafka reconnects by itself
            if is_gone(self._consumer, self._topic, error):
                raise self._gone(error)
            if code in UNKNOWN_CODES:
                return None
            raise translate(error, f"reading {self._topic}", f"Read on topic {self._topic}")
        place = f"topic {self._topic}, partition 0, offset {message.offset()}"
        try:
            marker = Marker.decode(message.value() or b"", headers=message.headers() or ())
        except UnknownSchema as problem:
            raise UnknownFormat(
                f"{place} is a marker of a format that this version does not know: {problem}",
                remedy="A newer version of streamtrain wrote it: start that one, or a newer one. If something else "
                "wrote it, give this job a name of its own (stream.job).",
            ) from problem
        except DecodeError as problem:
            raise DataError(
                f"{place} is not a marker: {problem}",
                remedy="Something else wrote into the marker log; give this job a name of its own (stream.job).",
            ) from problem
        return LogEntry(message.offset(), marker, message.timestamp()[1] / 1000)

    def _gone(self, error: Any) -> TopicReplaced:
        return TopicReplaced(
            f"topic {self._topic} does not exist ({error.str()})",
            remedy="It was deleted: restore it, or start a new job (stream.job).",
        )

    def _ask_whether_away(self) -> None:
        """Asks the broker every few seconds: silence alone does not tell an idle log from a frozen broker."""
        now = time.monotonic()
        if now - self._asked < ASK_S:
            return
        try:
            self._consumer.get_watermark_offsets(ck.TopicPartition(self._topic, 0), timeout=1.0)
        except ck.KafkaException as error:
            if is_gone(self._consumer, self._topic, error.args[0]):
                raise self._gone(error.args[0]) from error
            self._away_since = self._away_since or now
            self._on_wait(now - self._away_since)
        else:
            self._away_since = None
        self._asked = time.monotonic()

    def to_end(self, on_idle: Callable[[], None] = lambda: None) -> Iterator[LogEntry]:
        """All markers up to the end of the log as it is now (the last stable offset). on_idle(): whenever none came for
        a second; what it raises comes out."""
        while (entry := self.poll(1.0)) is not END:
            if isinstance(entry, LogEntry):
                yield entry
            else:
                on_idle()


def hidden_from(properties: Mapping[str, str], topic: str, group: str) -> int | None:
    """The offset at which an open transaction holds readers back, when there are markers behind it; else None.

    Any producer's transaction does that, so a bridge may be held back from markers that it has committed itself. Raises
    KafkaError.
    """
    found = held_back(properties, [(topic, 0)])
    if not found:
        return None
    readable, _ = found[topic, 0]
    with contextlib.closing(reader({**properties, "enable.partition.eof": "true"}, group, uncommitted=True)) as all_:
        all_.assign([ck.TopicPartition(topic, 0, readable)])
        silent = 0
        while silent < ASK_S:
            message = all_.poll(1.0)
            if message is None:
                silent += 1
            elif (error := message.error()) is not None:
                if error.code() == ck.KafkaError._PARTITION_EOF:
                    return None
                passing = error.code() == ck.KafkaError.GROUP_AUTHORIZATION_FAILED or error.code() in UNKNOWN_CODES
                if not passing and not is_away(error):  # as in MarkerLog.poll()
                    raise translate(error, f"reading {topic}", f"Read on topic {topic}")
                silent += 1
            else:
                try:
                    Marker.decode(message.value() or b"", headers=message.headers() or ())
                except UnknownSchema:  # a newer version's
                    return readable
                except DecodeError:
                    continue
                return readable
    raise BrokerUnavailable(f"reading {topic} from offset {readable} on: no answer")
