"""A job's topics: created with the right settings, refused with wrong ones, waited for."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any, TypeAlias

import confluent_kafka as ck
from confluent_kafka.admin import AclOperation, ConfigResource, NewTopic, ResourceType
from tenacity import Retrying, stop_after_delay, wait_fixed
from tenacity.retry import retry_if_result

from streamtrain.errors import BrokerUnavailable, NotAllowed, PartitionsChanged, TopicMismatch, TopicReplaced
from streamtrain.kafka import clients
from streamtrain.kafka.clients import translate
from streamtrain.kafka.waiting import report_waiting, wait_for_cluster
from streamtrain.stopping import StopWatch

log = logging.getLogger("streamtrain.kafka")

#: (topic, partition)
Place: TypeAlias = tuple[str, int]
#: Operations that a part does, by topic. In a transaction Kafka only says that it cannot go on, and readers wait: so
#: they are asked for before.
Rights: TypeAlias = Mapping[str, Set[AclOperation]]

TIMEOUT_S = 30.0
#: Seconds until half of a job counts as just that.
HALF_S = 2.0


@dataclass(frozen=True)
class TopicNames:
    """Names of a job's topics."""

    job: str

    @property
    def samples(self) -> str:
        return f"{self.job}.samples"

    @property
    def splits(self) -> str:
        return f"{self.job}.splits"

    @property
    def rejects(self) -> str:
        return f"{self.job}.rejects"


@dataclass(frozen=True)
class TopicInfo:
    name: str
    topic_id: str
    partitions: int


@dataclass(frozen=True)
class TopicIds:
    samples: str
    splits: str


@dataclass(frozen=True)
class JobTopics:
    """The topics of a job as they are now."""

    names: TopicNames
    cluster_id: str
    samples_topic_id: str
    splits_topic_id: str
    partitions: int


def _settings(names: TopicNames) -> dict[str, dict[str, str]]:
    """What must hold. LogAppendTime: backfilled logs must not expire by their own date."""
    return {
        names.samples: {"cleanup.policy": "delete", "message.timestamp.type": "LogAppendTime"},
        names.splits: {"cleanup.policy": "delete", "retention.ms": "-1", "retention.bytes": "-1"},
        names.rejects: {"cleanup.policy": "delete", "message.timestamp.type": "LogAppendTime"},
    }


def bridge_rights(names: TopicNames) -> Rights:
    """Those of a bridge on the topics that exist."""
    write = AclOperation.WRITE
    return {names.samples: {write}, names.splits: {write, AclOperation.READ}, names.rejects: {write}}


def trainer_rights(names: TopicNames) -> Rights:
    """Those of a trainer on the topics: it has nothing to do with the rejects."""
    return {names.samples: {AclOperation.READ}, names.splits: {AclOperation.READ}}


def reader_rights(names: TopicNames) -> Rights:
    """Those of what looks on, `status`."""
    describe = {AclOperation.DESCRIBE}
    return {names.samples: describe, names.splits: {AclOperation.READ}, names.rejects: describe}


def find(client: Any, names: TopicNames, needed: Rights | None = None) -> dict[str, TopicInfo]:
    """Those of the job's topics that exist.

    needed: the topics that are asked for, and the rights that the caller needs on them; by default all three, with
    Describe. Raises NotAllowed naming all rights that are missing, BrokerUnavailable, KafkaError.
    """
    if needed is None:
        needed = {name: {AclOperation.DESCRIBE} for name in (names.samples, names.splits, names.rejects)}
    existing, missing = {}, []
    wanted = ck.TopicCollection(list(needed))
    futures = client.describe_topics(wanted, include_authorized_operations=True, request_timeout=TIMEOUT_S)
    for name, future in futures.items():
        try:
            description = future.result()
        except ck.KafkaException as error:
            code = error.args[0].code()
            if code == ck.KafkaError.TOPIC_AUTHORIZATION_FAILED:
                missing += _named(needed[name], name)  # not even Describe, which each of them includes
            elif code != ck.KafkaError.UNKNOWN_TOPIC_OR_PART:
                raise translate(error, f"describing topic {name}") from error
            continue
        existing[name] = TopicInfo(name, str(description.topic_id), len(description.partitions))
        if allowed := description.authorized_operations:  # an old broker does not say
            missing += _named(needed[name] - set(allowed), name)
    if missing:
        raise _lacking(", ".join(missing))
    return existing


def refuse_missing_group_right(client: Any, group: str) -> None:
    """Of a trainer on the job's group. Reading its offsets would wait for a coordinator that nobody tells.

    Raises NotAllowed, BrokerUnavailable, KafkaError.
    """
    futures = client.describe_consumer_groups([group], include_authorized_operations=True, request_timeout=TIMEOUT_S)
    try:
        allowed = futures[group].result().authorized_operations
    except ck.KafkaException as error:
        if error.args[0].code() in (ck.KafkaError.GROUP_ID_NOT_FOUND, *clients.COORDINATOR_CODES):
            return  # it does not exist yet, which says that one may ask for it
        raise translate(error, f"describing group {group}", group=group) from error
    if allowed and AclOperation.READ not in allowed:
        raise _lacking(f"Read on group {group}")


def _lacking(rights: str) -> NotAllowed:
    return NotAllowed(
        f"the user of kafka: lacks the right {rights}",
        remedy="Grant it (kafka-acls.sh), then start again; nothing was touched.",
    )


def _named(operations: Set[AclOperation], topic: str) -> list[str]:
    return [f"{operation} on topic {topic}" for operation in sorted(o.name.capitalize() for o in operations)]


def wait_for_topics(
    properties: Mapping[str, str],
    names: TopicNames,
    stop: threading.Event,
    on_wait: Callable[[str], None] = lambda _what: None,
) -> JobTopics:
    """Waits for the cluster and for the job's topics, which the bridge creates.

    on_wait(what) again and again while it waits. Raises Stopped; NotAllowed naming the rights that a trainer lacks on
    them; KafkaError when the cluster refuses us.
    """
    cluster = wait_for_cluster(properties, None, report_waiting(log, on_wait), stop)
    client = clients.admin(properties)
    watch = StopWatch(stop)
    logged = False
    needed = trainer_rights(names)
    while not {names.samples, names.splits} <= set(existing := watch.call(find, client, names, needed)):
        if not logged:
            log.info("waiting for the bridge to create the topics %s and %s", names.samples, names.splits)
            logged = True
        on_wait("waiting for the bridge to create the topics")
        watch.sleep(1)
    samples = existing[names.samples]
    splits = existing[names.splits]
    return JobTopics(names, cluster.cluster_id, samples.topic_id, splits.topic_id, samples.partitions)


def ensure_topics(client: Any, names: TopicNames, partitions: int, replication: int | None = None) -> TopicIds:
    """Creates the job's topics, or checks those that exist; safe to call from several processes at once.

    Raises TopicMismatch naming the topic, the setting, what was expected and found; NotAllowed naming the rights that a
    bridge lacks: when a topic may not be created, none is.
    """
    before = find(client, names, bridge_rights(names))
    pair = {names.samples, names.splits}
    if len(pair & set(before)) == 1:
        gone = (pair - set(before)).pop()
        # another process may just be creating them: they come together
        before = _find_until(client, names, pair, HALF_S)
        if not pair <= set(before):
            raise TopicReplaced(
                f"topic {gone} does not exist, though the job's other topic does",
                remedy="Half of the job was deleted: delete the rest, or use a new stream.job.",
            )
    counts = {names.samples: partitions, names.splits: 1, names.rejects: 1}
    missing = [NewTopic(n, counts[n], replication or -1, config=_settings(names)[n]) for n in counts if n not in before]
    if missing:
        # first without doing it: half of a job's topics would be refused at the next start
        _create(client, missing, validate_only=True)
        _create(client, missing, validate_only=False)
    existing = _find_until(client, names, set(counts), TIMEOUT_S)
    for name in counts:
        if name not in existing:
            raise BrokerUnavailable(
                f"topic {name} was created, but cannot be seen after {TIMEOUT_S:.0f} s",
                remedy="Check the broker's log.",
            )
    _check(client, names, existing, counts)
    return TopicIds(existing[names.samples].topic_id, existing[names.splits].topic_id)


def _create(client: Any, missing: Sequence[Any], *, validate_only: bool) -> None:
    """All in one request. Raises NotAllowed, KafkaError: which topics are refused, and which were made."""
    refused = []
    futures = client.create_topics(list(missing), operation_timeout=TIMEOUT_S, validate_only=validate_only)
    made = []
    for name, future in futures.items():
        try:
            future.result()
            made.append(name)
        except ck.KafkaException as error:
            if error.args[0].code() != ck.KafkaError.TOPIC_ALREADY_EXISTS:
                refused.append((name, error))
    if refused:
        names = ", ".join(name for name, _ in refused)
        done = "none was created" if validate_only or not made else f"{', '.join(made)} was created"
        first = refused[0][1]
        raise translate(first, f"creating topic {names} ({done})", f"Create on topic {names}") from first


def ids_of(existing: Mapping[str, TopicInfo], names: TopicNames) -> TopicIds | None:
    """The ids of the job's topics; None when one is missing."""
    if not {names.samples, names.splits} <= set(existing):
        return None
    return TopicIds(existing[names.samples].topic_id, existing[names.splits].topic_id)


def _find_until(client: Any, names: TopicNames, wanted: set[str], seconds: float) -> dict[str, TopicInfo]:
    """find(), repeated until `wanted` exist or the time is over: a new topic takes a moment to appear."""
    retrying = Retrying(
        retry=retry_if_result(lambda existing: not wanted <= set(existing)),
        wait=wait_fixed(0.1),
        stop=stop_after_delay(seconds),
        retry_error_callback=lambda state: state.outcome.result() if state.outcome else {},
    )
    existing: dict[str, TopicInfo] = retrying(find, client, names, bridge_rights(names))
    return existing


def _check(client: Any, names: TopicNames, existing: dict[str, TopicInfo], counts: dict[str, int]) -> None:
    for name, info in existing.items():
        if info.partitions != counts[name]:
            raise PartitionsChanged(
                f"topic {name} has {info.partitions} partitions, {counts[name]} were expected",
                remedy="Set stream.partitions to what the topic has, or use a new stream.job.",
            )
    for name, settings in _settings_of(client, existing):
        for key, expected in _settings(names)[name].items():
            actual = settings[key].value if key in settings else "not set"
            if actual != expected:
                raise TopicMismatch(
                    f"topic {name}: {key} is {actual}, {expected} was expected",
                    remedy="Alter the topic's setting, or use a new stream.job.",
                )


def message_limits(client: Any, names: TopicNames) -> dict[str, int]:
    """max.message.bytes of each of the job's topics, by its name. Raises BrokerUnavailable, KafkaError."""
    found = _settings_of(client, (names.samples, names.splits, names.rejects))
    return {name: int(settings["max.message.bytes"].value) for name, settings in found}


def _settings_of(client: Any, topics: Iterable[str]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """(topic, its settings by key). Raises BrokerUnavailable, NotAllowed, KafkaError."""
    resources = [ConfigResource(ResourceType.TOPIC, name) for name in topics]
    for resource, future in client.describe_configs(resources, request_timeout=TIMEOUT_S).items():
        try:
            yield resource.name, future.result()
        except ck.KafkaException as error:
            raise translate(
                error, f"reading the settings of topic {resource.name}", f"DescribeConfigs on topic {resource.name}"
            ) from error


def watermarks(consumer: Any, topic: str, partitions: Sequence[int]) -> dict[int, tuple[int, int]]:
    """(first, next) offset a partition. Raises BrokerUnavailable, KafkaError."""
    offsets = {}
    for partition in partitions:
        try:
            offsets[partition] = consumer.get_watermark_offsets(ck.TopicPartition(topic, partition), timeout=TIMEOUT_S)
        except ck.KafkaException as error:
            raise translate(
                error, f"reading the offsets of topic {topic}, partition {partition}", f"Describe on topic {topic}"
            ) from error
    return offsets
