"""The section kafka: as librdkafka judges it, without a broker."""

import socket
from pathlib import Path

import pytest

from streamtrain.kafka.properties import problems

GOOD = {"bootstrap.servers": "127.0.0.1:1"}
SSL = {"security.protocol": "ssl"}


def found(**properties: str) -> list[str]:
    """Property names have dots, which `_` stands for here."""
    return [str(p) for p in problems({**GOOD, **{k.replace("_", "."): v for k, v in properties.items()}})]


@pytest.mark.parametrize(
    "properties",
    [
        {},
        {"linger_ms": "5", "fetch_max_bytes": "50000000", "client_id": "x"},
        {"security_protocol": "sasl_ssl", "sasl_mechanism": "PLAIN", "sasl_username": "a", "sasl_password": "b"},
        {"bootstrap_servers": "a:1, b ,[::1]:9,SSL://c:2,fe80::1"},
    ],
)
def test_nothing_is_wrong(properties: dict[str, str]) -> None:
    assert found(**properties) == []


@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [
        ("bootstrap.server", "x", "No such configuration property"),
        ("linger.ms", "soon", "Invalid value"),
        ("compression.type", "zip", 'Invalid value "zip"'),
        ("security.protocol", "tls", 'Invalid value "tls"'),
        ("socket.timeout.ms", "1", "outside allowed range"),
        ("error_cb", "x", "function"),
        ("acks", "1", "exactly-once rests on it"),
        ("plugin.library.paths", "/nowhere.so", "/nowhere.so"),
        ("message.timeout.ms", "1000000", "transaction.timeout.ms"),
        ("max.poll.interval.ms", "3000", "session.timeout.ms"),
        ("bootstrap.servers", "a:b", "a port is from 1 to 65535"),
        ("bootstrap.servers", "a:70000", "a port is from 1 to 65535"),
        ("bootstrap.servers", "a:1,,b:1", "is no host:port"),
        ("bootstrap.servers", "http://a/b", "is no host:port"),
        ("ssl.ca.location", "/nowhere.pem", "/nowhere.pem: No such file"),
    ],
)
def test_a_property_is_named(key: str, value: str, reason: str) -> None:
    (problem,) = problems({**GOOD, key: value})
    assert str(problem).startswith(f"kafka.{key}") and reason in str(problem)


def test_all_of_them_at_once() -> None:
    lines = [str(p) for p in problems({"bootstrap.servers": "a:b", "linger.ms": "x", "nix": "1", "acks": "0"})]
    assert [line.split()[0].rstrip(":") for line in lines] == [
        "kafka.bootstrap.servers", "kafka.linger.ms", "kafka.nix", "kafka.acks",
    ]  # fmt: skip


def test_files_of_ssl_that_are_wrong(tmp_path: Path) -> None:
    text = tmp_path / "text.pem"
    text.write_text("no certificate")
    for key in ("ssl.ca.location", "ssl.certificate.location", "ssl.key.location"):
        (problem,) = problems({**GOOD, **SSL, key: str(text)})
        assert str(problem).startswith(f"kafka.{key}: ")
    (problem,) = problems({**GOOD, **SSL, "ssl.key.location": str(tmp_path)})
    assert str(problem).startswith(f"kafka.ssl.key.location: {tmp_path} is a folder")
    assert problems({**GOOD, **SSL, "ssl.ca.location": "probe"}) == []


def test_what_is_missing_is_named() -> None:
    assert found(security_protocol="sasl_ssl", sasl_mechanism="PLAIN")[0].startswith("kafka.sasl.username: ")
    assert found(security_protocol="sasl_ssl", sasl_mechanism="GSSAPI")[0].startswith("kafka.sasl.mechanism: ")


def test_a_secret_is_not_shown() -> None:
    (problem,) = problems({**GOOD, **SSL, "ssl.key.pem": "hunter2-hunter2"})
    assert "kafka.ssl.key.pem" in str(problem) and "hunter2" not in str(problem)


def test_no_broker_is_asked() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.5)
        assert problems({"bootstrap.servers": f"127.0.0.1:{server.getsockname()[1]}"}) == []
        with pytest.raises(TimeoutError):
            server.accept()
