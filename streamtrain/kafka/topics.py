"""A job's topics: made with the right settings, refused with wrong ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import confluent_kafka as ck
from confluent_kafka.admin import ConfigResource, NewTopic, ResourceType

from streamtrain.errors import TopicMismatch
from streamtrain.kafka.clients import translate

TIMEOUT_S = 30.0


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


def _settings(names: TopicNames) -> dict[str, dict[str, str]]:
    """What must hold. LogAppendTime: backfilled logs must not expire by their own date."""
    return {
        names.samples: {"cleanup.policy": "delete", "message.timestamp.type": "LogAppendTime"},
        names.splits: {"cleanup.policy": "delete", "retention.ms": "-1", "retention.bytes": "-1"},
        names.rejects: {"cleanup.policy": "delete", "message.timestamp.type": "LogAppendTime"},
    }


def find(client: Any, names: TopicNames) -> dict[str, TopicInfo]:
    """The job's topics that there are. Raises BrokerUnavailable, KafkaError."""
    found = {}
    wanted = [names.samples, names.splits, names.rejects]
    for name, future in client.describe_topics(ck.TopicCollection(wanted), request_timeout=TIMEOUT_S).items():
        try:
            description = future.result()
        except ck.KafkaException as error:
            if error.args[0].code() == ck.KafkaError.UNKNOWN_TOPIC_OR_PART:
                continue
            raise translate(error, f"looking at topic {name}") from error
        found[name] = TopicInfo(name, str(description.topic_id), len(description.partitions))
    return found


def ensure_topics(client: Any, names: TopicNames, partitions: int, replication: int | None = None) -> TopicIds:
    """Makes the job's topics, or checks those there are; safe to call from several processes at once.

    Raises TopicMismatch naming the topic, the setting, what was expected and found.
    """
    before = find(client, names)
    pair = {names.samples, names.splits}
    if len(pair & set(before)) == 1:
        gone = (pair - set(before)).pop()
        # another process may just be making them: they come together
        before = find(client, names)
        if not pair <= set(before):
            raise TopicMismatch(
                f"topic {gone} does not exist, though the job's other topic does",
                remedy="Half of the job was deleted: delete the rest, or use a new stream.job.",
            )
    counts = {names.samples: partitions, names.splits: 1, names.rejects: 1}
    missing = [NewTopic(n, counts[n], replication or -1, config=_settings(names)[n]) for n in counts if n not in before]
    if missing:
        for name, future in client.create_topics(missing, operation_timeout=TIMEOUT_S).items():
            try:
                future.result()
            except ck.KafkaException as error:
                if error.args[0].code() != ck.KafkaError.TOPIC_ALREADY_EXISTS:
                    raise translate(error, f"making topic {name}") from error
    found = _wait_until_seen(client, names)
    _check(client, names, found, counts)
    return TopicIds(found[names.samples].topic_id, found[names.splits].topic_id)


def _wait_until_seen(client: Any, names: TopicNames) -> dict[str, TopicInfo]:
    """A new topic takes a moment until every request sees it."""
    from tenacity import Retrying, retry_if_result, stop_after_delay, wait_fixed

    retrying = Retrying(
        retry=retry_if_result(lambda found: len(found) < 3), wait=wait_fixed(0.1), stop=stop_after_delay(TIMEOUT_S)
    )
    return retrying(find, client, names)


def _check(client: Any, names: TopicNames, found: dict[str, TopicInfo], counts: dict[str, int]) -> None:
    for name, info in found.items():
        if info.partitions != counts[name]:
            raise TopicMismatch(
                f"topic {name} has {info.partitions} partitions, {counts[name]} were expected",
                remedy="Set stream.partitions to what the topic has, or use a new stream.job.",
            )
    resources = [ConfigResource(ResourceType.TOPIC, name) for name in found]
    for resource, future in client.describe_configs(resources, request_timeout=TIMEOUT_S).items():
        try:
            settings = future.result()
        except ck.KafkaException as error:
            raise translate(error, f"looking at the settings of topic {resource.name}") from error
        for key, expected in _settings(names)[resource.name].items():
            if settings[key].value != expected:
                raise TopicMismatch(
                    f"topic {resource.name}: {key} is {settings[key].value}, {expected} was expected",
                    remedy="Alter the topic's setting, or use a new stream.job.",
                )


def watermarks(consumer: Any, topic: str, partitions: Sequence[int]) -> dict[int, tuple[int, int]]:
    """(first, next) offset a partition. Raises BrokerUnavailable, KafkaError."""
    found = {}
    for partition in partitions:
        try:
            found[partition] = consumer.get_watermark_offsets(ck.TopicPartition(topic, partition), timeout=TIMEOUT_S)
        except ck.KafkaException as error:
            raise translate(error, f"looking at topic {topic}, partition {partition}") from error
    return found
