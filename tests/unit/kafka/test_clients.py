"""Errors of confluent-kafka as ours, and properties that exactness rests on; no broker is asked."""

import confluent_kafka as ck
import pytest

from streamtrain.errors import BrokerUnavailable, ConfigError, Fenced, KafkaError, NotAllowed, StreamtrainError
from streamtrain.kafka import clients


@pytest.mark.parametrize(
    ("code", "kind", "remedy"),
    [
        (ck.KafkaError._TRANSPORT, BrokerUnavailable, "bootstrap.servers"),
        (ck.KafkaError._ALL_BROKERS_DOWN, BrokerUnavailable, "bootstrap.servers"),
        (ck.KafkaError._FENCED, Fenced, "has taken over"),
        (ck.KafkaError.INVALID_PRODUCER_EPOCH, Fenced, "has taken over"),
        (ck.KafkaError.SASL_AUTHENTICATION_FAILED, NotAllowed, "sasl.password under kafka:"),
        (ck.KafkaError._AUTHENTICATION, NotAllowed, "sasl.password under kafka:"),
        (ck.KafkaError.TOPIC_AUTHORIZATION_FAILED, NotAllowed, "Grant it"),
        (ck.KafkaError.GROUP_AUTHORIZATION_FAILED, NotAllowed, "Grant it"),
        (ck.KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED, NotAllowed, "Grant it"),
        (ck.KafkaError.CLUSTER_AUTHORIZATION_FAILED, NotAllowed, "Grant it"),
        (ck.KafkaError._SSL, KafkaError, "passwords under kafka:"),
        (ck.KafkaError.UNKNOWN, KafkaError, "broker's log"),
    ],
)
def test_each_code_has_its_error(code: int, kind: type[StreamtrainError], remedy: str) -> None:
    for error in (ck.KafkaError(code), ck.KafkaException(ck.KafkaError(code))):
        found = clients.translate(error, "reading t")
        assert type(found) is kind and found.message.startswith("reading t: ") and remedy in found.remedy


def test_a_missing_right_is_named() -> None:
    refused = ck.KafkaError(ck.KafkaError.TOPIC_AUTHORIZATION_FAILED)
    assert "lacks the right Write on topic t" in clients.translate(refused, "publishing", "Write on topic t").message
    refused = ck.KafkaError(ck.KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED)
    message = clients.translate(refused, "publishing", "Write on topic t").message
    assert "Write on the transactional id" in message and "topic t" not in message


@pytest.mark.parametrize("key", sorted(clients.GUARDED))
def test_what_exactness_rests_on_cannot_be_set(key: str) -> None:
    for make in (clients.admin, lambda p: clients.reader(p, "g"), lambda p: clients.producer(p, "t")):
        with pytest.raises(ConfigError, match=f"kafka.{key} cannot be set"):
            make({"bootstrap.servers": "127.0.0.1:1", key: "x"})


def test_a_property_that_librdkafka_does_not_know_is_named() -> None:
    with pytest.raises(ConfigError, match=r"no\.such\.property"):
        clients.admin({"bootstrap.servers": "127.0.0.1:1", "no.such.property": "x"})
