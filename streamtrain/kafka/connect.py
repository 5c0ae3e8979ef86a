"""The Kafka that a config names."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from streamtrain.config import JobConfig
from streamtrain.errors import BrokerUnavailable
from streamtrain.kafka.embedded import EmbeddedBroker, find_running


@contextlib.contextmanager
def connected(config: JobConfig) -> Iterator[dict[str, str]]:
    """properties_of(), with the embedded broker started for the time where none runs. Raises KafkaError."""
    if not config.embedded or find_running(config.broker_dir) is not None:
        yield properties_of(config)
        return
    with EmbeddedBroker(config.broker_dir) as broker:
        yield {"bootstrap.servers": broker.bootstrap}


def properties_of(config: JobConfig) -> dict[str, str]:
    """librdkafka properties: the config's `kafka:`, or those of the running embedded broker.

    Raises BrokerUnavailable when it is the embedded broker and that does not run.
    """
    if not config.embedded:
        return config.kafka()
    bootstrap = find_running(config.broker_dir)
    if bootstrap is None:
        raise BrokerUnavailable(
            f"no embedded Kafka runs in {config.broker_dir}",
            remedy=f"Start one: streamtrain broker -m {config.path}; or name a cluster under kafka:.",
        )
    return {"bootstrap.servers": bootstrap}
