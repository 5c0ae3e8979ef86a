"""A transactional producer that counts what Kafka confirms, and tells why it does not."""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

import confluent_kafka as ck

from streamtrain.connectors.transaction_clock import TransactionClock
from streamtrain.contracts.marker import Range
from streamtrain.errors import ConfigError, StreamtrainError
from streamtrain.kafka.clients import producer, producer_setting, translate
from streamtrain.kafka.topics import TopicNames
from streamtrain.kafka.waiting import Patience
from streamtrain.stopping import SLICE_S, Stopped

#: A split may take as long as brokers allow by default (their transaction.max.timeout.ms).
TIMEOUT_MS = 900_000
#: Seconds that the broker has to confirm what was sent, or to settle a transaction; and to abort one.
ANSWER_S, ABORT_S = 60.0, 10.0
#: Messages between two looks at what was confirmed.
POLL_EVERY = 16
#: Seconds between two calls.
PAUSE_S = 0.1
_TOO_LARGE = {ck.KafkaError.MSG_SIZE_TOO_LARGE, ck.KafkaError.RECORD_LIST_TOO_LARGE}


class DeliveryFailed(Exception):
    """Kafka did not accept a message: the split must be aborted and published again."""


class TooLarge(Exception):
    """The broker refuses a message of this topic and value as too large."""

    def __init__(self, topic: str, value: bytes) -> None:
        super().__init__(topic)
        self.topic = topic
        self.value = value


class Ranges:
    """The offsets that Kafka gave to the rows, a range a partition; a delivery callback that never raises."""

    def __init__(self) -> None:
        self._bounds: dict[int, list[int]] = {}  # first offset, end, rows
        #: Offset and time, seconds since 1970, of the newest other message, by its topic.
        self.newest: dict[str, tuple[int, float]] = {}
        self.failed: Any = None
        self.failed_message: Any = None

    def delivered(self, error: Any, message: Any) -> None:
        if error is not None:
            self.confirmed(error, message)
            return
        offset = message.offset()
        bounds = self._bounds.setdefault(message.partition(), [offset, offset, 0])
        if offset < bounds[0]:
            bounds[0] = offset
        if offset >= bounds[1]:
            bounds[1] = offset + 1
        bounds[2] += 1

    @property
    def ranges(self) -> tuple[Range, ...]:
        """By partition, ascending."""
        return tuple(Range(partition, *bounds) for partition, bounds in sorted(self._bounds.items()))

    def confirmed(self, error: Any, message: Any) -> None:
        """The first failure counts, and before it one that no retry fixes: it makes others fail."""
        if error is not None and (self.failed is None or error.code() in _TOO_LARGE):
            self.failed, self.failed_message = error, message
        elif error is None:
            self.newest[message.topic()] = message.offset(), message.timestamp()[1] / 1000


class Delivery:
    """A transactional producer, `<job>.bridge`: creating one fences the bridge before it.

    limits: max.message.bytes of each topic. limit: kafka.message.max.bytes. clock: of the transaction.
    on_wait(sentence) while the broker does not answer; once `stop` is set, that raises Stopped.
    Raises BrokerUnavailable, NotAllowed, ConfigError, KafkaError.
    """

    def __init__(
        self,
        properties: Mapping[str, str],
        names: TopicNames,
        limits: Mapping[str, int],
        *,
        stop: threading.Event | None = None,
        on_wait: Callable[[str], None] = lambda _sentence: None,
    ) -> None:
        self._names = names
        self._stop = stop or threading.Event()
        self.patience = Patience(properties, stop, on_wait)
        properties = {"transaction.timeout.ms": str(TIMEOUT_MS), **properties}
        self._timeout_s = producer_setting(properties, "transaction.timeout.ms") / 1000
        self.limit = producer_setting(properties, "message.max.bytes")
        # a batch of small rows must fit as well: then only a row that is too large by itself is refused
        batch = min(producer_setting(properties, "batch.size"), *limits.values())
        self._producer: Any = producer({**properties, "batch.size": str(batch)}, f"{names.job}.bridge")
        self._what = f"publishing to {names.samples} (transactional id {names.job}.bridge)"
        self._right = f"Write on topic {names.samples}, {names.splits} or {names.rejects}"
        self.clock = TransactionClock(self._timeout_s)
        self._produced = 0
        try:
            self._repeated(self._producer.init_transactions, ANSWER_S)
        except ck.KafkaException as error:
            what = "starting the bridge's transactions"
            if error.args[0].code() == ck.KafkaError.INVALID_TRANSACTION_TIMEOUT:
                raise ConfigError(
                    f"{what}: the broker does not allow kafka.transaction.timeout.ms = {self._timeout_s * 1000:.0f}",
                    remedy="Set it to the broker's transaction.max.timeout.ms, or less.",
                ) from error
            raise translate(error, what, transactional_id=f"{names.job}.bridge") from error

    def begin(self) -> None:
        self._call(self._producer.begin_transaction)
        self.clock = TransactionClock(self._timeout_s)

    def commit(self) -> None:
        with self.clock.waiting():
            self._call(self._repeated, self._producer.commit_transaction, ANSWER_S)

    def abort(self) -> None:
        """Best effort: a producer that cannot abort is dropped, and the start of the next one aborts for it."""
        with contextlib.suppress(ck.KafkaException, StreamtrainError, Stopped):
            self._producer.purge()
            self._repeated(self._producer.abort_transaction, 0 if self._stop.is_set() else ABORT_S)

    def _repeated(self, function: Any, seconds: float) -> None:
        """A call that librdkafka allows to be repeated until it is settled, in slices. Raises KafkaException when it
        is not after `seconds`, and what Patience.late() raises."""
        deadline = time.monotonic() + seconds
        while True:
            try:
                function(SLICE_S)
            except ck.KafkaException as error:
                # at a slice's end librdkafka gives its last reason to wait, such as a coordinator that is loading
                if not error.args[0].retriable() or time.monotonic() > deadline:
                    raise
                self.patience.late(self._what)
                time.sleep(PAUSE_S)
            else:
                self.patience.answered()
                return

    def _call(self, function: Any, *args: Any) -> None:
        try:
            function(*args)
        except ck.KafkaException as error:
            raise self._translated(error) from error

    def _translated(self, error: ck.KafkaException) -> StreamtrainError:
        """A fatal error gives no reason; the producer reports it, such as being fenced, when it cannot abort."""
        if error.args[0].code() == ck.KafkaError._FATAL:
            try:
                self._repeated(self._producer.abort_transaction, ABORT_S)
            except ck.KafkaException as real:
                return translate(real, self._what, self._right)
        return translate(error, self._what, self._right)

    def produce(self, topic: str, partition: int, value: bytes, sink: Ranges, headers: Any = None) -> None:
        """Raises what flush() raises."""
        counted = sink.confirmed if headers is not None or topic == self._names.splits else sink.delivered
        begin = 0.0
        while True:
            try:
                self._producer.produce(topic, value, partition=partition, on_delivery=counted, headers=headers)
                break
            except BufferError:  # the queue is full and the message is not in it, so a second try is safe
                begin = begin or time.monotonic()
                with self.clock.waiting():
                    self._drive(self._producer.poll, 0.1)
                if time.monotonic() - begin > SLICE_S:
                    self.patience.late(self._what)
            except ck.KafkaException as error:
                self._drive(self._producer.poll, 1)  # an earlier message may have failed, with the reason
                self._refuse_failed(sink)
                raise self._translated(error) from error
        if begin:
            self.patience.answered()
        self._produced += 1
        if not self._produced % POLL_EVERY:
            self._drive(self._producer.poll, 0)
            self._refuse_failed(sink)

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
            self._call(self._repeated, self._producer.abort_transaction, ABORT_S)
            raise DeliveryFailed(f"{self._what}: {value}") from None

    def flush(self, sink: Ranges) -> None:
        """Waits until all is confirmed. Raises TooLarge, DeliveryFailed, Fenced, BrokerUnavailable, KafkaError."""
        deadline = time.monotonic() + ANSWER_S
        with self.clock.waiting():
            while left := self._drive(self._producer.flush, SLICE_S):
                self._refuse_failed(sink)
                if time.monotonic() > deadline:
                    raise DeliveryFailed(f"{left} messages were not confirmed within {ANSWER_S:.0f} s")
                self.patience.late(self._what)
        self.patience.answered()
        self._refuse_failed(sink)

    def _refuse_failed(self, sink: Ranges) -> None:
        if sink.failed is None:
            return
        if sink.failed.code() in _TOO_LARGE:
            raise TooLarge(sink.failed_message.topic(), sink.failed_message.value() or b"")
        # after a fatal error the messages only say "purged": the producer has the reason, such as being fenced
        self._call(self._repeated, self._producer.abort_transaction, ABORT_S)
        raise translate(sink.failed, self._what, f"Write on topic {sink.failed_message.topic()}")
