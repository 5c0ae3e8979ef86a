"""Waits for a Kafka that is not there: their reasons, and their ends. Ports of this machine, no broker."""

from __future__ import annotations

import contextlib
import re
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from streamtrain.errors import BrokerUnavailable, NotAllowed
from streamtrain.kafka import causes
from streamtrain.kafka.waiting import Patience, Unreached, Waiting, report_waiting, wait_for_cluster
from streamtrain.stopping import GRACE_S, Stopped
from tests.support.processes import until

NOBODY = {"bootstrap.servers": "127.0.0.1:1"}


@contextlib.contextmanager
def port(answer: Callable[[socket.socket], None]) -> Iterator[str]:
    """host:port where each connection is handed to `answer`, and held."""
    held = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def run() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection = server.accept()[0]
                    held.append(connection)
                    with contextlib.suppress(OSError):
                        answer(connection)

        threading.Thread(target=run, daemon=True).start()
        yield f"127.0.0.1:{server.getsockname()[1]}"
        server.shutdown(socket.SHUT_RDWR)


def silent(_connection: socket.socket) -> None: ...


def plain(connection: socket.socket) -> None:
    connection.recv(100)
    connection.sendall(b"HTTP/1.0 400 Bad Request\r\n\r\n")


def closing(connection: socket.socket) -> None:
    connection.recv(100)
    connection.close()


def reason_of(properties: dict[str, str], expected: str) -> str:
    waiting = Waiting(properties)
    return str(until(lambda: expected in waiting.reason() and waiting.reason(), 20))


def test_waiting_ends_with_the_time_and_names_the_reason() -> None:
    said: list[str] = []
    with pytest.raises(BrokerUnavailable, match=r"asking 127\.0\.0\.1:1: the connection was refused"):
        wait_for_cluster(NOBODY, 1.0, said.append)
    assert said and len(set(said)) == 1  # one wait, one sentence
    pattern = r"waiting for Kafka at 127\.0\.0\.1:1 since \d{4}-\d\d-\d\d \d\d:\d\d:\d\d: the connection was refused.*"
    assert re.fullmatch(pattern, said[0])


def test_a_port_that_says_nothing() -> None:
    with port(silent) as address, pytest.raises(BrokerUnavailable, match="no answer so far"):
        wait_for_cluster({"bootstrap.servers": address}, 1.0)


def test_a_port_that_closes_each_connection_as_one_for_tls_does() -> None:
    with port(closing) as address:
        reason_of({"bootstrap.servers": address}, "it may want TLS or a login (kafka.security.protocol)")


def test_a_name_that_does_not_resolve() -> None:
    assert "does not resolve" in reason_of({"bootstrap.servers": "no-such-host.invalid:9092"}, "no-such-host.invalid")


def test_it_tells_whether_kafka_answers() -> None:
    assert not Waiting(NOBODY).answers()


def test_each_broker_has_its_reason() -> None:
    both = {"bootstrap.servers": "127.0.0.1:1,no-such-host.invalid:9092"}
    reason = reason_of(both, "does not resolve")
    assert until(lambda: "127.0.0.1:1: the connection was refused" in reason_of(both, "does not resolve")), reason


def test_tls_to_a_plaintext_port_is_given_up_after_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(causes, "LIMIT_S", 0.2)
    with port(plain) as address, pytest.raises(Unreached, match="the port does not speak TLS") as raised:
        wait_for_cluster({"bootstrap.servers": address, "security.protocol": "ssl"}, None)
    assert "kafka.security.protocol" in raised.value.remedy


def test_a_certificate_that_nobody_signed_is_waited_for(tmp_path: Path) -> None:
    import ssl

    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", certificate, "-subj",
         "/CN=nobody", "-days", "2", "-addext", "subjectAltName=IP:127.0.0.1"],
        check=True, capture_output=True,
    )  # fmt: skip
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)

    def tls(connection: socket.socket) -> None:
        connection.settimeout(5)
        with contextlib.suppress(ssl.SSLError):
            context.wrap_socket(connection, server_side=True)

    with port(tls) as address:
        waiting = Waiting({"bootstrap.servers": address, "security.protocol": "ssl"})
        assert "TLS handshake: unknown CA" in until(lambda: "TLS" in waiting.reason() and waiting.reason(), 20)
        assert waiting.refusal("asking") is None


def test_a_final_cause_ends_the_wait() -> None:
    waiting = Waiting(NOBODY)
    waiting._note(_Error("ssl://h:1/bootstrap: Receive failed: error:0A00045C:SSL routines::tlsv13 alert certificate "
                         "required: SSL alert number 116"))  # fmt: skip
    waiting._note(_Error("ssl://h:1/bootstrap: Disconnected: connection reset by peer"))
    refused = waiting.refusal("asking h:1")
    assert isinstance(refused, NotAllowed) and "client certificate" in refused.message
    assert "ssl.certificate.location" in refused.remedy


class _Error:
    def __init__(self, text: str) -> None:
        self._text = text

    def code(self) -> int:
        return int(causes.ck.KafkaError._TRANSPORT)

    def str(self) -> str:
        return self._text


def test_a_stop_ends_the_wait() -> None:
    stop = threading.Event()
    with pytest.raises(Stopped):
        wait_for_cluster(NOBODY, None, lambda _sentence: stop.set(), stop)


def test_a_call_that_is_under_way_has_a_moment_to_end() -> None:
    stop = threading.Event()
    said: list[str] = []
    patience = Patience(NOBODY, stop, said.append)
    patience.late("committing")
    stop.set()
    begin = time.monotonic()
    patience.check()
    with pytest.raises(Stopped):
        while True:
            patience.late("committing")
            time.sleep(0.1)
    assert time.monotonic() - begin >= GRACE_S and said


def test_the_log_has_each_sentence_once(caplog: pytest.LogCaptureFixture) -> None:
    import logging

    seen: list[str] = []
    report = report_waiting(logging.getLogger("test"), seen.append)
    for sentence in ("a", "a", "b", "b"):
        report(sentence)
    assert [r.message for r in caplog.records] == ["a", "b"] and seen == ["a", "a", "b", "b"]
