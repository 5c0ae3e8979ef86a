"""Transactions of a group's offsets, by a producer that writes no messages: the trainer's fence.

While the broker is away librdkafka says that the same call may be made again: that settles what became of the
first one, and never does it twice. So each call here is made until it succeeds, or cannot.
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
from streamtrain.kafka.clients import FENCED_CODES, producer, reader, translate

log = logging.getLogger("streamtrain.kafka")

#: Seconds that a call may take before it is made again.
CALL_S = 8.0
#: Seconds after which a call is taken for stuck.
STUCK_S = 10.0


class OffsetTransactions:
    """Commits offsets of `group` in transactions of `transactional_id`; making one fences the one before it.

    check() raises Fenced when a newer one has taken over: it is asked when Kafka says that this producer is fenced,
    which may be by an older one that came later to Kafka, and before it is made anew. put() and commit() raise
    what check() raises. on_wait(what) while the broker is away.
    """

    def __init__(
        self,
        properties: Mapping[str, str],
        transactional_id: str,
        group: str,
        *,
        check: Callable[[], None] = lambda: None,
        on_wait: Callable[[str], None] = lambda _what: None,
    ) -> None:
        self._properties = dict(properties)
        self._id = transactional_id
        self._check = check
        self._what = f"committing the offsets of group {group} ({transactional_id})"
        self._on_wait = on_wait
        self._begin()
        #: A consumer of the group, which may only assign.
        self.group: Any = reader(properties, group)

    def _begin(self) -> None:
        self._producer: Any = producer(self._properties, self._id)
        self._insist(lambda: self._producer.init_transactions(CALL_S))

    def close(self) -> None:
        self.group.close()

    def put(self, offsets: Mapping[tuple[str, int], int], metadata: str) -> None:
        """Begins a transaction with `offsets` (topic, partition -> offset), each with `metadata`; once more
        when the broker aborted it meanwhile."""
        places = [ck.TopicPartition(t, p, o, metadata) for (t, p), o in offsets.items()]
        try:
            self._put(places)
        except _Aborted:
            self._abort()
            self._put(places)

    def commit(self) -> bool:
        """False when the transaction was aborted: nothing of it stands, it may be put again."""
        try:
            self._insist(lambda: self._producer.commit_transaction(CALL_S))
        except _Aborted:
            self._abort()
            return False
        except Fenced:
            self._check()
            log.warning("%s: fenced by an older one that came later to Kafka: made anew", self._what)
            self._begin()
            return False
        return True

    def _put(self, places: list[Any]) -> None:
        while True:
            try:
                self._insist(self._producer.begin_transaction)
                self._insist(lambda: self._send(places))
                return
            except _Stuck:
                log.warning("%s: the client does not come back after the broker was away: made anew", self._what)
                self._on_wait("waiting for Kafka")
            except Fenced:
                self._check()
                log.warning("%s: fenced by an older one that came later to Kafka: made anew", self._what)
            self._check()
            self._begin()

    def _send(self, places: list[Any]) -> None:
        """In a thread: librdkafka (2.16 and before, its issues 5456 and 5511) forgets the timeout of this call,
        and never comes back from it when the group's coordinator was restarted."""
        result: Future[None] = Future()
        metadata = self.group.consumer_group_metadata()

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
        self._insist(lambda: self._producer.abort_transaction(CALL_S))

    def _insist(self, call: Callable[[], None]) -> None:
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
                raise translate(error, self._what) from error

        def say(_state: Any) -> None:
            log.warning("%s: waiting for Kafka, %.0f s so far", self._what, time.monotonic() - begin)
            self._on_wait("waiting for Kafka")

        retrying = Retrying(
            retry=retry_if_exception_type(BrokerUnavailable),
            wait=wait_exponential_jitter(multiplier=0.2, max=5),
            stop=stop_never,
            before_sleep=say,
            reraise=True,
        )
        retrying(once)


class _Stuck(Exception):
    """The client does not come back from a call."""


class _Aborted(Exception):
    """The transaction can only be aborted."""
