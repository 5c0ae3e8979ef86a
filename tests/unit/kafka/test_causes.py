"""What librdkafka 2.16 says of a connection that fails, measured, and how it is sorted."""

import confluent_kafka as ck
import pytest

from streamtrain.kafka.causes import Cause, sort
from streamtrain.kafka.handshake import describe

E = ck.KafkaError
TLS = "ssl://127.0.0.1:9093/bootstrap: "
VERIFY = (
    "SSL handshake failed: error:0A000086:SSL routines::certificate verify failed: broker certificate could not be "
    "verified, verify that ssl.ca.location is correctly configured or root CA certificates are installed (install "
    "ca-certificates package)"
)


def sorted_as(code: int, text: str) -> Cause:
    cause = sort(code, text)
    assert cause is not None
    return cause


@pytest.mark.parametrize(
    ("code", "text", "kind", "reason"),
    [
        (
            E._TRANSPORT, "127.0.0.1:1/bootstrap: Connect to ipv4#127.0.0.1:1 failed: Connection refused (after 0ms in "
            "state CONNECT, 1 identical error(s) suppressed)", "transient", "the connection was refused",
        ),
        (
            E._RESOLVE, "nowhere:9092/bootstrap: Failed to resolve 'nowhere:9092': Name or service not known (after "
            "1ms in state CONNECT)", "transient", "the name nowhere does not resolve: Name or service not known",
        ),
        (
            E._TRANSPORT, "10.0.0.9:9092/1: Connection setup timed out in state CONNECT (after 30029ms in state "
            "CONNECT)", "transient", "timeout: Connection setup timed out",
        ),
        (E._TRANSPORT, "h:9092/1: Disconnected (after 7ms in state UP)", "transient", "Disconnected"),
        (E._SSL, TLS + VERIFY + " (after 1ms in state SSL_HANDSHAKE)", "transient", "certificate cannot be verified"),
        (
            E._TRANSPORT, TLS + "error:0A000086:SSL routines::certificate verify failed (after 1ms in state "
            "SSL_HANDSHAKE)", "transient", "certificate cannot be verified",
        ),
        (
            E._SSL, TLS + "SSL handshake failed: error:0A00010B:SSL routines::wrong version number (after 0ms in state "
            "SSL_HANDSHAKE)", "unknown", "the port does not speak TLS (a plaintext port?)",
        ),
        (
            E._TRANSPORT, TLS + "SSL handshake failed: Disconnected: connection reset by peer: connecting to a "
            "PLAINTEXT broker listener? (after 0ms in state SSL_HANDSHAKE)", "unknown", "does not speak TLS",
        ),
        (
            E._TRANSPORT, TLS + "Receive failed: error:0A00045C:SSL routines::tlsv13 alert certificate required: SSL "
            "alert number 116 (after 0ms in state APIVERSION_QUERY)", "final", "wants a client certificate",
        ),
        (
            E._TRANSPORT, TLS + "Receive failed: error:0A000418:SSL routines::tlsv1 alert unknown ca: SSL alert number "
            "48 (after 0ms in state APIVERSION_QUERY)", "final", "refuses the client certificate (unknown ca)",
        ),
        (
            E._SSL, TLS + "SSL handshake failed: error:0A000410:SSL routines::ssl/tls alert handshake failure: SSL "
            "alert number 40 (after 2ms in state SSL_HANDSHAKE)", "unknown", "(handshake failure)",
        ),
        (
            E._BAD_MSG, "h:9093/bootstrap: Receive failed: Invalid response size 1213486160 (0..100000000): increase "
            "receive.message.max.bytes (after 2ms in state APIVERSION_QUERY)", "unknown", "does not speak Kafka",
        ),
        (
            E._AUTHENTICATION, "sasl_plaintext://h:9092/bootstrap: SASL authentication error: Authentication failed: "
            "Invalid username or password (after 8ms in state AUTH_REQ)", "final", "authentication failed: SASL",
        ),
        (E._FAIL, "something new", "unknown", "something new"),
    ],
)  # fmt: skip
def test_each_sentence_is_sorted(code: int, text: str, kind: str, reason: str) -> None:
    cause = sorted_as(code, text)
    assert cause.kind == kind and reason in cause.reason
    assert "(after" not in cause.reason and "bootstrap:" not in cause.reason
    assert kind == "transient" or cause.remedy


def test_the_address_is_the_brokers() -> None:
    text = "ssl://[::1]:9093/2: Disconnected (after 7ms in state UP)"
    assert sorted_as(E._TRANSPORT, text).address == "[::1]:9093"
    assert sorted_as(E._TRANSPORT, "Disconnected").address == ""


def test_that_all_brokers_are_down_is_no_cause() -> None:
    assert sort(E._ALL_BROKERS_DOWN, "1/1 brokers are down") is None


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (10, "has expired"), (9, "is not valid yet"), (62, "host name mismatch"), (64, "is not of broker.example"),
        (19, "unknown CA"), (20, "unknown CA"), (7, "certificate signature failure"),
    ],
)  # fmt: skip
def test_a_refused_certificate_has_its_reason(code: int, words: str) -> None:
    assert words in describe(code, "certificate signature failure", "broker.example")
