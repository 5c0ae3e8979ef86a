"""A job's topics, changed and read by hand."""

from collections.abc import Mapping
from typing import Any

import confluent_kafka as ck
from confluent_kafka.admin import AlterConfigOpType, ConfigEntry, ConfigResource, ResourceType

from streamtrain.kafka.topics import TopicNames


def set_topic(client: Any, topic: str, key: str, value: str) -> None:
    entry = ConfigEntry(key, value, incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=[entry])
    for future in client.incremental_alter_configs([resource]).values():
        future.result()


def delete_topics(client: Any, names: TopicNames) -> None:
    for future in client.delete_topics([names.samples, names.splits, names.rejects]).values():
        future.result()


def messages(kafka: Mapping[str, str], topic: str, partition: int = 0) -> list[Any]:
    """All committed messages of a partition, as the client gives them: by none of our readers."""
    consumer = ck.Consumer({**kafka, "group.id": "by hand", "enable.auto.commit": False,
                            "isolation.level": "read_committed"})  # fmt: skip
    place = ck.TopicPartition(topic, partition, 0)
    _, end = consumer.get_watermark_offsets(place, timeout=30)
    consumer.assign([place])
    found: list[Any] = []
    if not end:  # the position of what was never read is no offset
        consumer.close()
        return found
    while consumer.position([place])[0].offset < end:
        message = consumer.poll(0.2)
        if message is not None:
            assert message.error() is None, message.error()
            found.append(message)
    consumer.close()
    return found
