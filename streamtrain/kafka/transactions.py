"""The group's offsets, committed in transactions by a producer that writes no messages: the trainer's fence in Kafka.

While the broker is away librdkafka says that the same call may be made again: that settles what became of the first
one, and never does it twice. So each call here is repeated until it succeeds, or cannot.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from typing import Any

import confluent_kafka as ck
from tenacity import Retrying, retry_if_exception_type, stop_never, wait_exponential_jitter

from streamtrain.errors import BrokerUnavailable, Fenced
from streamtrain.kafka import topics as kafka_topics
from streamtrain.kafka.clients import FENCED_CODES, admin, committed, producer, reader, translate
from streamtrain.kafka.topics import JobTopics, Place

log = logging.getLogger("streamtrain.kafka")

#: Seconds that a call may take before it is repeated.
CALL_S = 8.0
#: Seconds after which a call counts as stuck.
STUCK_S = 10.0


class KafkaOffsetLog:
    """Commits offsets of the group `<job>` in transactions of `<job>.trainer`: checkpoint.commit's OffsetLog.

    check() raises Fenced when a newer trainer has taken over. It is called when Kafka says that this producer is
    fenced, which may be by an older trainer that came later to Kafka, and before the producer is recreated. fence() and
    commit() raise what check() raises. on_wait(what) while the broker is away.
    """

    def __init__(
        self,
        properties: Mapping[str, str],
        topics: JobTopics,
        *,
        check: Callable[[], None],
        on_wait: Callable[[str], None] = lambda _what: None,
    ) -> None:
        job = topics.names.job
        self._properties = dict(properties)
        self._topics = topics
        self._id = f"{job}.trainer"
        self._check = check
        self._what = f"committing the offsets of group {job} ({self._id})"
        self._on_wait = on_wait
        self._producer: Any = None
        self._group: Any = reader(properties, job)  # a consumer of the group, which may only assign

    def close(self) -> None:
        self._group.close()

    def take_over(self) -> None:
        """Fences the trainer before this one. Waits for the broker. Raises NotAllowed, with nothing fenced, when the
        user may not use the group or the transactional id."""
        self._repeat(lambda: kafka_topics.refuse_missing_group_right(admin(self._properties), self._topics.names.job))
        self._producer = producer(self._properties, self._id)
        self._repeat(lambda: self._producer.init_transactions(CALL_S))

    def witness(self) -> tuple[int, str | None]:
        """The committed marker-log offset, -1 when there is none, and its metadata.

        Waits for the broker, also for a group's coordinator that a new cluster is just making. Raises KafkaError.
        """
        place = (self._topics.names.splits, 0)
        found: list[tuple[int, str | None]] = []
        self._repeat(
            lambda: found.append(committed(self._group, [place], self._topics.names.job).get(place, (-1, None)))
        )
        return found[0]

    def watermarks(self) -> dict[Place, tuple[int, int]]:
        """(first, next) offset of each partition of the samples topic, and of the marker log.

        Raises BrokerUnavailable, KafkaError.
        """
        names = self._topics.names
        samples = kafka_topics.watermarks(self._group, names.samples, range(self._topics.partitions))
        splits = kafka_topics.watermarks(self._group, names.splits, [0])
        return {**{(names.samples, p): w for p, w in samples.items()}, (names.splits, 0): splits[0]}

    def fence(self, offsets: Mapping[Place, int], text: str) -> None:
        """Begins a transaction with `offsets`, each with `text` as its metadata; repeated once when the broker aborted
        it meanwhile."""
        places = [ck.TopicPartition(t, p, o, text) for (t, p), o in offsets.items()]
        try:
            self._put(places)
        except _Aborted:
            self._abort()
            self._put(places)

    def commit(self) -> bool:
        """False when the transaction was aborted: nothing of it is committed, it may be fenced again."""
        try:
            self._repeat(lambda: self._producer.commit_transaction(CALL_S))
        except _Aborted:
            self._abort()
            return False
        except Fenced:
            self._check()
            log.warning("%s: fenced by an older trainer that came later to Kafka: producer recreated", self._what)
            self.take_over()
            return False
        return True

    def _put(self, places: list[Any]) -> None:
        while True:
            try:
                self._repeat(self._producer.begin_transaction)
                self._repeat(lambda: self._send(places))
                return
            except _Stuck:
                log.warning("%s: the client did not return after the broker was away: producer recreated", self._what)
                self._on_wait("waiting for Kafka")
            except Fenced:
                self._check()
                log.warning("%s: fenced by an older trainer that came later to Kafka: producer recreated", self._what)
            self._check()
            self.take_over()

    def _send(self, places: list[Any]) -> None:
        """In a thread: librdkafka (2.16 and before, its issues 5456 and 5511) forgets the timeout of this call, and
        never returns from it when the group's coordinator was restarted."""
        result: Future[None] = Future()
        metadata = self._group.consumer_group_metadata()

        def call(transactional: Any) -> None:
            try:
                result.set_result(transactional.send_offsets_to_transaction(places, metadata, CALL_S))
            except BaseException as error:
                result.set_exception(error)

        threading.Thread(target=call, args=(self._producer,), daemon=True, name="send offsets").start()
        try:
            result.result(STUCK_S)
        except FutureTimeout as error:
            raise _Stuck from error

    def _abort(self) -> None:
        self._repeat(lambda: self._producer.abort_transaction(CALL_S))

    def _repeat(self, call: Callable[[], None]) -> None:
        begin = time.monotonic()

        def once() -> None:
            try:
                call()
            except ck.KafkaException as error:
                problem = error.args[0]
                if problem.code() not in FENCED_CODES and not problem.fatal():
                    if problem.txn_requires_abort():
                        raise _Aborted(str(problem)) from error
                    if problem.retriable():
                        raise BrokerUnavailable(f"{self._what}: {problem.str()}") from error
                group = self._topics.names.job
                raise translate(error, self._what, transactional_id=self._id, group=group) from error

        def report(_state: Any) -> None:
            log.warning("%s: waiting for Kafka, %.0f s so far", self._what, time.monotonic() - begin)
            self._on_wait("waiting for Kafka")

        retrying = Retrying(
            retry=retry_if_exception_type(BrokerUnavailable),
            wait=wait_exponential_jitter(multiplier=0.2, max=5),
            stop=stop_never,
            before_sleep=report,
            reraise=True,
        )
        retrying(once)


class _Stuck(Exception):
    """The client does not return from a call."""


class _Aborted(Exception):
    """The transaction can only be aborted."""
