"""Open transactions that hold readers back: read_committed stops at the first offset of the oldest one.

confluent-kafka lacks these requests; kafka-python has them, and is used for nothing else.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import confluent_kafka as ck
from confluent_kafka.admin import OffsetSpec

from streamtrain.errors import KafkaError, NotAllowed
from streamtrain.kafka.clients import admin, translate
from streamtrain.kafka.topics import Place, TopicInfo

TIMEOUT_S = 10.0
#: librdkafka's names of the properties that kafka-python has under others.
_NAMES = {
    "bootstrap.servers": "bootstrap_servers",
    "security.protocol": "security_protocol",
    "sasl.mechanism": "sasl_mechanism",
    "sasl.mechanisms": "sasl_mechanism",
    "sasl.username": "sasl_plain_username",
    "sasl.password": "sasl_plain_password",
    "ssl.ca.location": "ssl_cafile",
    "ssl.certificate.location": "ssl_certfile",
    "ssl.key.location": "ssl_keyfile",
    "ssl.key.password": "ssl_password",
}


@dataclass(frozen=True)
class OpenTransaction:
    """An open transaction in a partition. readable_to: readers get offsets below it, of `end`.

    since, last_write: seconds since 1970; since is None when no coordinator knows the transaction.
    transactional_id: '' then.
    """

    topic: str
    partition: int
    readable_to: int
    end: int
    producer_id: int
    transactional_id: str
    since: float | None
    last_write: float


def open_transactions(properties: Mapping[str, str], topics: Mapping[str, TopicInfo]) -> list[OpenTransaction]:
    """Those in the given topics. Raises BrokerUnavailable, KafkaError; NotAllowed without Read on the topics, and
    Describe on the transactional ids of all that are open."""
    behind = held_back(properties, [(t.name, p) for t in topics.values() for p in range(t.partitions)])
    if not behind:
        return []
    from kafka import TopicPartition
    from kafka.admin import KafkaAdminClient

    logging.getLogger("kafka").setLevel(logging.ERROR)
    settings = {_NAMES[k]: v for k, v in properties.items() if k in _NAMES}
    try:
        client = KafkaAdminClient(**settings, client_id="streamtrain-status")
    except Exception as error:  # kafka-python has a tree of its own
        raise KafkaError(f"the open transactions cannot be listed: {error}") from error
    try:
        known = _known(client)
        result = []
        for place, state in client.describe_producers([TopicPartition(t, p) for t, p in behind]).items():
            readable, end = behind[place.topic, place.partition]
            for producer in state.active_producers:
                if producer.current_transaction_start_offset < 0:
                    continue
                name, since = known.get(producer.producer_id, ("", None))
                result.append(
                    OpenTransaction(
                        place.topic, place.partition, readable, end, producer.producer_id, name, since,
                        producer.last_timestamp / 1000,
                    )
                )  # fmt: skip
        return result
    except Exception as error:
        if "Authorization" in type(error).__name__:
            raise NotAllowed(
                f"the open transactions in {', '.join(sorted({t for t, _ in behind}))} cannot be listed: "
                f"{type(error).__name__}",
                remedy="Grant the user of kafka: the right Read on these topics, and Describe on their transactional "
                "ids.",
            ) from error
        raise KafkaError(f"the open transactions cannot be listed: {error}") from error
    finally:
        client.close()


def _known(client: Any) -> dict[int, tuple[str, float | None]]:
    """Transactional id and start, by producer id, of the transactions that the coordinators report as open."""
    listed = [t for transactions in client.list_transactions().values() for t in transactions]
    names = [
        t.transactional_id for t in listed if str(t.state.value) not in ("Empty", "CompleteCommit", "CompleteAbort")
    ]
    described = client.describe_transactions(names) if names else {}
    return {
        d.producer_id: (name, d.transaction_start_time_ms / 1000 if d.transaction_start_time_ms > 0 else None)
        for name, d in described.items()
    }


def held_back(properties: Mapping[str, str], places: Iterable[Place]) -> dict[Place, tuple[int, int]]:
    """(readable to, end) of those partitions where these differ. Raises BrokerUnavailable, KafkaError."""
    client = admin(properties)
    asked = [ck.TopicPartition(*place) for place in places]
    ends = []
    for level in (ck.IsolationLevel.READ_COMMITTED, ck.IsolationLevel.READ_UNCOMMITTED):
        futures = client.list_offsets(
            {place: OffsetSpec.latest() for place in asked}, isolation_level=level, request_timeout=TIMEOUT_S
        )
        try:
            ends.append({(p.topic, p.partition): future.result().offset for p, future in futures.items()})
        except ck.KafkaException as error:
            raise translate(error, "reading the ends of the topics") from error
    return {place: (ends[0][place], ends[1][place]) for place in ends[0] if ends[0][place] < ends[1][place]}
