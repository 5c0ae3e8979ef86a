"""Clients of confluent-kafka, set up so that exactness holds; their errors, translated."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import confluent_kafka as ck
from confluent_kafka.admin import AdminClient

from streamtrain.errors import BrokerUnavailable, ConfigError, Fenced, KafkaError, NotAllowed, StreamtrainError
from streamtrain.kafka.causes import LOGIN, LOGIN_REMEDY, sort
from streamtrain.masking import MASK, is_secret

log = logging.getLogger("streamtrain.kafka")

#: Properties that exactly-once rests on: `kafka:` cannot set them.
GUARDED = frozenset(
    {
        "isolation.level", "enable.auto.commit", "enable.auto.offset.store", "transactional.id",
        "enable.idempotence", "acks", "request.required.acks", "auto.offset.reset", "group.id",
    }
)  # fmt: skip
_PRODUCER_ONLY = ("linger.", "batch.", "compression.", "queue.buffering.", "transaction.", "message.send.")
_CONSUMER_ONLY = ("fetch.", "queued.", "session.", "max.poll.", "enable.partition.eof", "check.crcs")
_CLIENTS_ONLY = (*_PRODUCER_ONLY, *_CONSUMER_ONLY)
FENCED_CODES = {
    ck.KafkaError._FENCED,
    ck.KafkaError.INVALID_PRODUCER_EPOCH,
    getattr(ck.KafkaError, "PRODUCER_FENCED", ck.KafkaError._FENCED),
}
#: Codes for a topic that does not exist; clients also report them for one that they lost while the broker was away.
UNKNOWN_CODES = {
    ck.KafkaError.UNKNOWN_TOPIC_OR_PART,
    ck.KafkaError._UNKNOWN_TOPIC,
    ck.KafkaError._UNKNOWN_PARTITION,
}
#: Codes for a coordinator that is being made or moved.
COORDINATOR_CODES = {
    ck.KafkaError.COORDINATOR_NOT_AVAILABLE,
    ck.KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
    ck.KafkaError.NOT_COORDINATOR,
}
_AWAY = {
    ck.KafkaError._TRANSPORT,
    ck.KafkaError._ALL_BROKERS_DOWN,
    ck.KafkaError._TIMED_OUT,
    ck.KafkaError._MSG_TIMED_OUT,
    ck.KafkaError._RESOLVE,
    ck.KafkaError.REQUEST_TIMED_OUT,
    *COORDINATOR_CODES,
    ck.KafkaError.BROKER_NOT_AVAILABLE,
    ck.KafkaError.LEADER_NOT_AVAILABLE,
    ck.KafkaError.NETWORK_EXCEPTION,
    ck.KafkaError.UNSTABLE_OFFSET_COMMIT,
    ck.KafkaError.CONCURRENT_TRANSACTIONS,
}
#: What to do about these.
AWAY_REMEDY = "Check that the broker runs and that kafka.bootstrap.servers is right."
#: Codes of a connection that could not be made, or was lost.
_UNREACHABLE = {
    ck.KafkaError._TRANSPORT,
    ck.KafkaError._RESOLVE,
    ck.KafkaError._SSL,
    ck.KafkaError._TIMED_OUT,
    ck.KafkaError._BAD_MSG,
}
#: Codes for a missing right, and the rights that it may be where the caller does not know.
_RIGHTS = {
    ck.KafkaError.TOPIC_AUTHORIZATION_FAILED: "Describe, DescribeConfigs, Create, Read or Write on the topic",
    ck.KafkaError.GROUP_AUTHORIZATION_FAILED: "Read on the group",
    ck.KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED: "Write on the transactional id",
    ck.KafkaError.CLUSTER_AUTHORIZATION_FAILED: "IdempotentWrite, Create or Describe on the cluster",
}

#: What the making of a client raises for its properties; TypeError: a key of confluent_kafka that wants a function.
_REFUSALS = (ck.KafkaException, TypeError, ValueError)
#: How librdkafka begins what it says of all properties together.
_AS_A_WHOLE = "Failed to create "

#: Seconds for which a topic must be unknown to the broker until it counts as deleted.
GONE_S = 2.0


@dataclass(frozen=True)
class ClusterInfo:
    """cluster_id as Kafka gives it; brokers: how many answered."""

    cluster_id: str
    brokers: int


def translate(
    error: Any, what: str, right: str = "", *, transactional_id: str = "", group: str = ""
) -> StreamtrainError:
    """A confluent_kafka KafkaError or KafkaException as one of ours; `what` was being done.

    right: the right that it needs on a topic, such as "Write on topic x". transactional_id, group: those that it uses.
    """
    if isinstance(error, ck.KafkaException):
        error = error.args[0]
    code = error.code()
    text = f"{what}: {error.str()} ({error.name()})"
    if code in FENCED_CODES:
        return Fenced(text, remedy="A newer instance of this job has taken over; this one has changed nothing.")
    if code in _RIGHTS:
        named = {
            ck.KafkaError.TOPIC_AUTHORIZATION_FAILED: right,
            ck.KafkaError.GROUP_AUTHORIZATION_FAILED: group and f"Read on group {group}",
            ck.KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED: transactional_id
            and f"Write on transactional id {transactional_id}",
        }
        missing = named.get(code) or _RIGHTS[code]
        return NotAllowed(
            f"{text}: the user of kafka: lacks the right {missing}",
            remedy="Grant it (kafka-acls.sh), then start again.",
        )
    if code in LOGIN:
        return NotAllowed(text, remedy=LOGIN_REMEDY)
    if code == ck.KafkaError._SSL:
        return KafkaError(text, remedy="Check the security settings and passwords under kafka:.")
    if code in _AWAY:
        return BrokerUnavailable(text, remedy=AWAY_REMEDY)
    return KafkaError(text, remedy="Check the broker's log.")


def _build(kind: Any, properties: Mapping[str, str], ours: Mapping[str, Any], other: Sequence[str]) -> Any:
    """`other`: beginnings of keys that are for another kind of client, left out here."""
    for key in properties:
        if key in GUARDED:
            raise guarded(key)
    given = {k: _text(v) for k, v in properties.items() if not k.startswith(tuple(other))}
    try:
        return kind({**_SHARED, **ours, **given}, logger=log)
    except _REFUSALS as error:
        reason = _reason(error)
        raise _refusal(_named(reason, given), reason, given) from error


def guarded(key: str) -> ConfigError:
    """For a property of `kafka:` that is one of GUARDED."""
    return ConfigError(f"kafka.{key} cannot be set: exactly-once rests on it", remedy="Remove it.")


def refusal_of(key: str, value: str) -> ConfigError | None:
    """What librdkafka says against one property alone, whatever the other ones are; None: nothing."""
    quiet = logging.getLogger(f"{log.name}.check")
    quiet.propagate = False
    quiet.addHandler(logging.NullHandler())
    try:
        ck.Producer({key: value, "log_level": 0}, logger=quiet)
    except _REFUSALS as error:
        reason = _reason(error)
        return None if reason.startswith(_AS_A_WHOLE) else _refusal(key, reason, {key: value})
    return None


def _reason(error: Exception) -> str:
    text = error.args[0].str() if isinstance(error, ck.KafkaException) else str(error)
    return " ".join(text.split())


def _named(reason: str, given: Mapping[str, str]) -> str:
    """The property that librdkafka's words are about: a given one, or else one that it misses; empty: none."""
    if "SASL mechanism" in reason:
        return next((key for key in given if key.startswith("sasl.mechanism")), "sasl.mechanism")
    missing = re.search(r"\b[a-z]+(\.[a-z]+)+\b", reason)
    return max((key for key in given if key in reason), key=len, default=missing[0] if missing else "")


def _refusal(key: str, reason: str, given: Mapping[str, str]) -> ConfigError:
    """key: the property that it is about; empty: not known."""
    for secret in (v for k, v in given.items() if is_secret(k) and v):
        reason = reason.replace(secret, MASK)
    reason = reason.removeprefix(_AS_A_WHOLE).partition(": ")[2] if reason.startswith(_AS_A_WHOLE) else reason
    return ConfigError(f"kafka{'.' if key else ''}{key}: {reason}", remedy="See librdkafka's list of properties.")


def _text(value: Any) -> str:
    """A scalar as librdkafka writes it."""
    return str(value).lower() if isinstance(value, bool) else str(value)


_SHARED: dict[str, Any] = {"reconnect.backoff.max.ms": 2000, "log.connection.close": False}
_PRODUCER: dict[str, Any] = {
    "acks": "all",
    "enable.idempotence": True,
    "linger.ms": 5,
    "compression.type": "lz4",
    "transaction.timeout.ms": 600_000,
    "queue.buffering.max.kbytes": 32 * 1024,
    "queue.buffering.max.messages": 100_000,
    "message.max.bytes": 16_000_000,
    "batch.size": 1_000_000,
}
_CONSUMER: dict[str, Any] = {
    "isolation.level": "read_committed",
    "enable.auto.commit": False,
    "auto.offset.reset": "error",
    "queued.max.messages.kbytes": 16 * 1024,
    "fetch.wait.max.ms": 100,
    "fetch.error.backoff.ms": 100,
}


def producer_setting(properties: Mapping[str, str], key: str) -> int:
    """A number that a producer of these properties has. Raises ConfigError."""
    value = properties.get(key, _PRODUCER[key])
    try:
        return int(value)
    except ValueError as error:
        raise ConfigError(f"kafka.{key}: {value!r} is not a whole number", remedy="Correct it.") from error


def producer(properties: Mapping[str, str], transactional_id: str) -> Any:
    """A transactional producer; init_transactions() fences the one before it. Raises ConfigError."""
    return _build(ck.Producer, properties, {**_PRODUCER, "transactional.id": transactional_id}, _CONSUMER_ONLY)


def reader(properties: Mapping[str, str], group_id: str, *, uncommitted: bool = False) -> Any:
    """A consumer for assign(): committed rows only, offsets are never guessed. uncommitted: those of open transactions
    too. Raises ConfigError."""
    level = {"isolation.level": "read_uncommitted"} if uncommitted else {}
    return _build(ck.Consumer, properties, {**_CONSUMER, **level, "group.id": group_id}, _PRODUCER_ONLY)


def admin(properties: Mapping[str, str]) -> Any:
    """An AdminClient. Raises ConfigError."""
    return _build(AdminClient, properties, {}, _CLIENTS_ONLY)


def asking_client(properties: Mapping[str, str], on_error: Callable[[Any], None]) -> Any:
    """An AdminClient that hands what librdkafka reports (KafkaError) to on_error, and logs nothing. Raises ConfigError.

    Its requests only report "transport failure": the cause goes to on_error alone.
    """
    return _build(AdminClient, properties, {"error_cb": on_error, "log_level": 0}, _CLIENTS_ONLY)


def is_away(error: Any) -> bool:
    """Whether a consumer's `error` says that the broker cannot be reached: librdkafka reconnects by itself, and whoever
    waits asks for the reason (see waiting). False for what no retry mends."""
    if error.code() not in {*_UNREACHABLE, ck.KafkaError._ALL_BROKERS_DOWN}:
        return False
    cause = sort(error.code(), error.str())
    return cause is None or cause.kind != "final"


def is_gone(consumer: Any, topic: str, error: Any) -> bool:
    """Whether `error` says that the topic does not exist, and the broker confirms it for GONE_S seconds."""
    if error.code() not in UNKNOWN_CODES:
        return False
    begin = time.monotonic()
    while time.monotonic() - begin < GONE_S:
        try:
            metadata = consumer.list_topics(topic, timeout=1.0).topics.get(topic)
        except ck.KafkaException:
            return False  # the broker is away
        if metadata is not None and (metadata.error is None or metadata.error.code() not in UNKNOWN_CODES):
            return False
        time.sleep(0.3)
    return True


def committed(
    group: Any, places: Sequence[tuple[str, int]], name: str
) -> dict[tuple[str, int], tuple[int, str | None]]:
    """(offset, metadata) the group has committed, a (topic, partition); those without are left out. group: a consumer
    of the group of that name.

    Raises BrokerUnavailable, KafkaError.
    """
    what = f"reading the committed offsets of group {name}"
    try:
        partitions = group.committed([ck.TopicPartition(t, p) for t, p in places], timeout=30)
    except ck.KafkaException as error:
        raise translate(error, what, group=name) from error
    for place in partitions:
        if place.error is not None:  # an error does not mean "nothing committed"
            of = f"{what} of topic {place.topic}, partition {place.partition}"
            raise translate(place.error, of, f"Read on topic {place.topic}", group=name)
    return {(p.topic, p.partition): (p.offset, p.metadata) for p in partitions if p.offset >= 0}
