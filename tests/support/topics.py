"""A job's topics, changed by hand."""

from typing import Any

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
