"""A job's topics: created with the right settings, refused with wrong ones, waited for."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import confluent_kafka as ck
from confluent_kafka.admin import AclOperation, ConfigResource, NewTopic, ResourceType
from tenacity import Retrying, stop_after_delay, wait_fixed
from tenacity.retry import retry_if_result

from streamtrain.errors import BrokerUnavailable, NotAllowed, PartitionsChanged, TopicMismatch, TopicReplaced
from streamtrain.kafka import clients
from streamtrain.kafka.clients import translate

log = logging.getLogger("streamtrain.kafka")

#: (topic, partition)
Place: TypeAlias = tuple[str, int]

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


def find(client: Any, names: TopicNames) -> dict[str, TopicInfo]:
    """Those of the job's topics that exist. Raises BrokerUnavailable, KafkaError."""
    existing = {}
    wanted = [names.samples, names.splits, names.rejects]
    for name, future in client.describe_topics(ck.TopicCollection(wanted), request_timeout=TIMEOUT_S).items():
        try:
            description = future.result()
        except ck.KafkaException as error:
            if error.args[0].code() == ck.KafkaError.UNKNOWN_TOPIC_OR_PART:
                continue
            raise translate(error, f"describing topic {name}", f"Describe on topic {name}") from error
        existing[name] = TopicInfo(name, str(description.topic_id), len(description.partitions))
    return existing


def wait_for_topics(
    properties: Mapping[str, str],
    names: TopicNames,
    stop: threading.Event,
    on_wait: Callable[[str], None] = lambda _what: None,
) -> JobTopics | None:
    """Waits for the cluster and for the job's topics, which the bridge creates; None when stopped before.

    on_wait(what) again and again while it waits. Raises KafkaError when the cluster refuses us.
    """
    cluster = clients.wait_for_cluster(properties, None, clients.report_waiting(log, on_wait))
    client = clients.admin(properties)
    logged = False
    while not {names.samples, names.splits} <= set(existing := find(client, names)):
        if not logged:
            log.info("waiting for the bridge to create the topics %s and %s", names.samples, names.splits)
            logged = True
        on_wait("waiting for the bridge to create the topics")
        if stop.wait(1):
            return None
    samples = existing[names.samples]
    splits = existing[names.splits]
    return JobTopics(names, cluster.cluster_id, samples.topic_id, splits.topic_id, samples.partitions)


def ensure_topics(client: Any, names: TopicNames, partitions: int, replication: int | None = None) -> TopicIds:
    """Creates the job's topics, or checks those that exist; safe to call from several processes at once.

    Raises TopicMismatch naming the topic, the setting, what was expected and found; NotAllowed when one of them may not
    be created: then none is.
    """
    before = find(client, names)
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
    existing: dict[str, TopicInfo] = retrying(find, client, names)
    return existing


def _check(client: Any, names: TopicNames, existing: dict[str, TopicInfo], counts: dict[str, int]) -> None:
    for name, info in existing.items():
        if info.partitions != counts[name]:
            raise PartitionsChanged(
                f"topic {name} has {info.partitions} partitions, {counts[name]} were expected",
                remedy="Set stream.partitions to what the topic has, or use a new stream.job.",
            )
    resources = [ConfigResource(ResourceType.TOPIC, name) for name in existing]
    for resource, future in client.describe_configs(resources, request_timeout=TIMEOUT_S).items():
        try:
            settings = future.result()
        except ck.KafkaException as error:
            raise translate(
                error, f"reading the settings of topic {resource.name}", f"DescribeConfigs on topic {resource.name}"
            ) from error
        for key, expected in _settings(names)[resource.name].items():
            actual = settings[key].value if key in settings else "not set"
            if actual != expected:
                raise TopicMismatch(
                    f"topic {resource.name}: {key} is {actual}, {expected} was expected",
                    remedy="Alter the topic's setting, or use a new stream.job.",
                )


def refuse_missing_rights(client: Any, names: TopicNames) -> None:
    """Of a bridge on its topics. In a transaction Kafka only says that it cannot go on: so they are asked for before.

    Raises NotAllowed naming all that are missing, BrokerUnavailable, KafkaError.
    """
    write = AclOperation.WRITE
    needed = {names.samples: {write}, names.splits: {write, AclOperation.READ}, names.rejects: {write}}
    wanted = ck.TopicCollection(list(needed))
    missing = []
    futures = client.describe_topics(wanted, include_authorized_operations=True, request_timeout=TIMEOUT_S)
    for name, future in futures.items():
        try:
            allowed = future.result().authorized_operations
        except ck.KafkaException as error:
            raise translate(error, f"describing topic {name}", f"Describe on topic {name}") from error
        if allowed:  # an old broker does not say
            lacking = sorted(operation.name.capitalize() for operation in needed[name] - set(allowed))
            missing += [f"{right} on topic {name}" for right in lacking]
    if missing:
        raise NotAllowed(
            f"the user of kafka: lacks the right {', '.join(missing)}",
            remedy="Grant it (kafka-acls.sh), then start again; nothing was published.",
        )


def message_limits(client: Any, names: TopicNames) -> dict[str, int]:
    """max.message.bytes of each of the job's topics, by its name. Raises BrokerUnavailable, KafkaError."""
    limits = {}
    resources = [ConfigResource(ResourceType.TOPIC, name) for name in (names.samples, names.splits, names.rejects)]
    for resource, future in client.describe_configs(resources, request_timeout=TIMEOUT_S).items():
        try:
            limits[resource.name] = int(future.result()["max.message.bytes"].value)
        except ck.KafkaException as error:
            raise translate(
                error, f"reading the settings of topic {resource.name}", f"DescribeConfigs on topic {resource.name}"
            ) from error
    return limits


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
