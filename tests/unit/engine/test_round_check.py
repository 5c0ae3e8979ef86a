"""Whose server listens is read from what it says of its process."""

import os
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from streamtrain.engine.round_check import NAME, check_server, interpreter_options, own_gloo, round_name
from streamtrain.errors import TrainingError

#: As Paddle 3.0.0's server answers, with the process's id and its arguments.
ANSWER = 'pid : 11675\r\nprocess_cmdline : "/venv/bin/python\n{}\n-u\nrole.py\n"\r\n'


@contextmanager
def answering(text: bytes) -> Iterator[str]:
    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            while self.rfile.readline().strip():
                pass
            self.wfile.write(text)

    with socketserver.TCPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


def http_answer(*arguments: str) -> bytes:
    body = ANSWER.format("\n".join(arguments)).encode()
    return b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(body) + body


@pytest.fixture
def hosts(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """One machine's roles, started by a launcher."""
    monkeypatch.delenv(NAME, raising=False)
    monkeypatch.delenv("SYS_JOB_ID", raising=False)
    monkeypatch.setenv("PADDLE_PSERVERS_IP_PORT_LIST", "127.0.0.1:1,127.0.0.1:2")
    monkeypatch.setenv("PADDLE_TRAINER_ENDPOINTS", "127.0.0.1:3")
    return monkeypatch


def test_a_round_of_a_name(hosts: pytest.MonkeyPatch) -> None:
    hosts.setenv(NAME, "abc")
    with answering(http_answer(*interpreter_options("abc"))) as endpoint:
        check_server(endpoint, 5)
    for other in ("abcd", "ab", "xabc", ""):
        with (
            answering(http_answer(*interpreter_options(other))) as endpoint,
            pytest.raises(
                TrainingError, match=f"server {endpoint}: process 11675 listens there, which is no server of"
            ),
        ):
            check_server(endpoint, 5)


def test_a_round_of_one_launcher(hosts: pytest.MonkeyPatch) -> None:
    name = round_name()
    assert str(os.getppid()) in name
    with answering(http_answer(*interpreter_options(name))) as endpoint:
        check_server(endpoint, 5)
    with answering(http_answer(*interpreter_options(f"{name}0"))) as endpoint:
        with pytest.raises(TrainingError, match="process 11675 listens there, which is no server of this job"):
            check_server(endpoint, 5)
        hosts.setenv("PADDLE_TRAINER_ENDPOINTS", "127.0.0.2:3")  # several launchers
        check_server(endpoint, 5)
        hosts.setenv("PADDLE_TRAINER_ENDPOINTS", "127.0.0.1:3")
        hosts.setenv(NAME, "")  # of a rendezvous that gives none
        check_server(endpoint, 5)


@pytest.mark.parametrize("text", [b"SSH-2.0-OpenSSH_9.6\r\n", b"HTTP/1.1 404 Not Found\r\n\r\nno", b""])
def test_no_server_of_paddles(hosts: pytest.MonkeyPatch, text: bytes) -> None:
    hosts.setenv(NAME, "abc")
    with answering(text) as endpoint, pytest.raises((TrainingError, OSError)) as caught:
        check_server(endpoint, 5)
    if isinstance(caught.value, TrainingError):
        assert "what listens there is no server of this job" in caught.value.message


def test_gloo_is_the_rounds_own(hosts: pytest.MonkeyPatch) -> None:
    with own_gloo():
        assert os.environ["SYS_JOB_ID"] == round_name()
    assert "SYS_JOB_ID" not in os.environ
    hosts.setenv(NAME, "abc")
    with own_gloo():
        assert os.environ["SYS_JOB_ID"] == "abc"
    hosts.setenv("SYS_JOB_ID", "the user's")
    with own_gloo():
        assert os.environ["SYS_JOB_ID"] == "the user's"
    assert os.environ["SYS_JOB_ID"] == "the user's"
