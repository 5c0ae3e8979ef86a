"""A job's topics: made with the right settings, refused with wrong ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import confluent_kafka as ck
from confluent_kafka.admin import ConfigResource, NewTopic, ResourceType
from tenacity import Retrying, stop_after_delay, wait_fixed
from tenacity.retry import retry_if_result

from streamtrain.errors import BrokerUnavailable, PartitionsChanged, TopicMismatch, TopicReplaced
from streamtrain.kafka.clients import translate

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


def describe(client: Any, names: TopicNames) -> dict[str, TopicInfo]:
    """Like find(); raises TopicMismatch when samples or splits is missing."""
    found = find(client, names)
    for name in (names.samples, names.splits):
        if name not in found:
            raise TopicMismatch(f"topic {name} does not exist", remedy="Start the bridge: it makes the job's topics.")
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
        before = _look_until(client, names, pair, HALF_S)
        if not pair <= set(before):
            raise TopicReplaced(
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
    found = _look_until(client, names, set(counts), TIMEOUT_S)
    for name in counts:
        if name not in found:
            raise BrokerUnavailable(
                f"topic {name} was made, but cannot be seen after {TIMEOUT_S:.0f} s", remedy="Look at the broker's log."
            )
    _check(client, names, found, counts)
    return TopicIds(found[names.samples].topic_id, found[names.splits].topic_id)


def ids_of(found: dict[str, TopicInfo], names: TopicNames) -> TopicIds | None:
    """The ids of the job's topics; None when one is missing."""
    if not {names.samples, names.splits} <= set(found):
        return None
    return TopicIds(found[names.samples].topic_id, found[names.splits].topic_id)


def _look_until(client: Any, names: TopicNames, wanted: set[str], seconds: float) -> dict[str, TopicInfo]:
    """find(), again and again until `wanted` are there or the time is over: a new topic takes a moment."""
    retrying = Retrying(
        retry=retry_if_result(lambda found: not wanted <= set(found)),
        wait=wait_fixed(0.1),
        stop=stop_after_delay(seconds),
        retry_error_callback=lambda state: state.outcome.result() if state.outcome else {},
    )
    found: dict[str, TopicInfo] = retrying(find, client, names)
    return found


def _check(client: Any, names: TopicNames, found: dict[str, TopicInfo], counts: dict[str, int]) -> None:
    for name, info in found.items():
        if info.partitions != counts[name]:
            raise PartitionsChanged(
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
            found_value = settings[key].value if key in settings else "not set"
            if found_value != expected:
                raise TopicMismatch(
                    f"topic {resource.name}: {key} is {found_value}, {expected} was expected",
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
