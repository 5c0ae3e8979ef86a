"""The group's offsets, committed in transactions by a producer that writes no messages: the trainer's fence in Kafka.

While the broker is away librdkafka says that the same call may be made again: that settles what became of the first
one, and never does it twice. So each call here is repeated until it succeeds, or cannot.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

import confluent_kafka as ck

from streamtrain.errors import BrokerUnavailable, Fenced
from streamtrain.kafka import topics as kafka_topics
from streamtrain.kafka.clients import FENCED_CODES, admin, committed, producer, reader, translate
from streamtrain.kafka.topics import JobTopics, Place
from streamtrain.kafka.waiting import Patience
from streamtrain.stopping import SLICE_S, StopWatch

log = logging.getLogger("streamtrain.kafka")

#: Seconds that the offsets may take to be sent before that is repeated, and after which the call counts as stuck.
CALL_S, STUCK_S = 8.0, 10.0
#: Seconds between two calls.
PAUSE_S = 0.2


class KafkaOffsetLog:
    """Commits offsets of the group `<job>` in transactions of `<job>.trainer`: checkpoint.commit's OffsetLog.

    check() raises Fenced when a newer trainer has taken over. It is called when Kafka says that this producer is
    fenced, which may be by an older trainer that came later to Kafka, and before the producer is recreated. fence() and
    commit() raise what check() raises. on_wait(sentence) while the broker is away, on_answer() once it answers again.
    Once `stop` is set, a call that the broker does not answer raises Stopped: what is fenced and not committed is
    settled by the next start.
    """

    def __init__(
        self,
        properties: Mapping[str, str],
        topics: JobTopics,
        *,
        check: Callable[[], None],
        on_wait: Callable[[str], None] = lambda _what: None,
        on_answer: Callable[[], None] = lambda: None,
        stop: threading.Event | None = None,
    ) -> None:
        job = topics.names.job
        self._stop = stop
        self._patience = Patience(properties, stop, on_wait, log, on_answer)
        self._properties = dict(properties)
        self._topics = topics
        self._id = f"{job}.trainer"
        self._check = check
        self._what = f"committing the offsets of group {job} ({self._id})"
        self._producer: Any = None
        self._group: Any = reader(properties, job)  # a consumer of the group, which may only assign

    def close(self) -> None:
        self._group.close()

    def take_over(self) -> None:
        """Fences the trainer before this one. Waits for the broker. Raises NotAllowed, with nothing fenced, when the
        user may not use the group or the transactional id."""
        refuse = kafka_topics.refuse_missing_group_right
        watch, group = StopWatch(self._stop), self._topics.names.job
        self._repeat(lambda: watch.call(refuse, admin(self._properties), group))
        self._producer = producer(self._properties, self._id)
        self._repeat(lambda: self._producer.init_transactions(SLICE_S))

    def witness(self) -> tuple[int, str | None]:
        """The committed marker-log offset, -1 when there is none, and its metadata.

        Waits for the broker, also for a group's coordinator that a new cluster is just making. Raises KafkaError.
        """
        place = (self._topics.names.splits, 0)
        found: list[tuple[int, str | None]] = []

        def ask() -> None:
            offsets = StopWatch(self._stop).call(committed, self._group, [place], self._topics.names.job)
            found.append(offsets.get(place, (-1, None)))

        self._repeat(ask)
        return found[0]

    def watermarks(self) -> dict[Place, tuple[int, int]]:
        """(first, next) offset of each partition of the samples topic, and of the marker log.

        Raises BrokerUnavailable, KafkaError.
        """
        names = self._topics.names
        watch = StopWatch(self._stop)
        samples = watch.call(kafka_topics.watermarks, self._group, names.samples, range(self._topics.partitions))
        splits = watch.call(kafka_topics.watermarks, self._group, names.splits, [0])
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
            self._repeat(lambda: self._producer.commit_transaction(SLICE_S))
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
            except Fenced:
                self._check()
                log.warning("%s: fenced by an older trainer that came later to Kafka: producer recreated", self._what)
            self._check()
            self.take_over()

    def _send(self, places: list[Any]) -> None:
        """In a thread: librdkafka (2.16 and before, its issues 5456 and 5511) forgets the timeout of this call, and
        never returns from it when the group's coordinator was restarted."""
        metadata = self._group.consumer_group_metadata()
        begin = time.monotonic()

        def look() -> None:
            seconds = time.monotonic() - begin
            if seconds > SLICE_S:
                self._patience.late(self._what)
            if seconds > STUCK_S:
                raise _Stuck

        StopWatch().call(self._producer.send_offsets_to_transaction, places, metadata, CALL_S, tick=look)

    def _abort(self) -> None:
        self._repeat(lambda: self._producer.abort_transaction(SLICE_S))

    def _repeat(self, call: Callable[[], None]) -> None:
        """Raises Stopped, _Aborted, Fenced, NotAllowed, KafkaError."""
        while True:
            try:
                call()
            except BrokerUnavailable:
                pass
            except ck.KafkaException as error:
                problem = error.args[0]
                final = problem.code() in FENCED_CODES or problem.fatal()
                if not final and problem.txn_requires_abort():
                    raise _Aborted(str(problem)) from error
                group = self._topics.names.job
                ours = translate(error, self._what, transactional_id=self._id, group=group)
                if final or not (problem.retriable() or isinstance(ours, BrokerUnavailable)):
                    raise ours from error
            else:
                self._patience.answered()
                return
            self._patience.late(self._what)
            time.sleep(PAUSE_S)


class _Stuck(Exception):
    """The client does not return from a call."""


class _Aborted(Exception):
    """The transaction can only be aborted."""
