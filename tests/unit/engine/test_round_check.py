"""Whose server listens is read from what it says of its process."""

import os
import socketserver
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from streamtrain.engine.round_check import NAME, check_server, interpreter_options, own_gloo
from streamtrain.errors import TrainingError
from tests.support.paths import ROOT

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


#: Prints the name of the round that it is a role of.
ROLE = "from streamtrain.engine.round_check import round_name; print(round_name() or 'none')"


def names_of(arguments: list[str], **environment: str) -> list[str]:
    """The names that two roles get, whose parent's command line has the arguments."""
    code = f"import subprocess, sys\nfor _ in 'ab': subprocess.run([sys.executable, '-c', {ROLE!r}], check=True)"
    command = [sys.executable, "-c", code, *arguments]
    inherited = {n: v for n, v in os.environ.items() if n != NAME}
    given = {**inherited, "PADDLE_PSERVERS_IP_PORT_LIST": "127.0.0.1:1", "PYTHONPATH": str(ROOT), **environment}
    done = subprocess.run(command, env=given, capture_output=True, text=True, check=True)
    return done.stdout.split()


def test_roles_of_one_launcher_have_one_name() -> None:
    first, second = names_of(["fleetrun", "--server_num=1"])
    assert first == second != "none"
    assert first not in names_of(["/bin/fleetrun", "--server_num=1"])  # another launcher's
    assert "none" not in names_of(["paddle.distributed.launch"])


def test_others_may_have_several_parents() -> None:
    assert names_of(["start_roles.sh"]) == ["none", "none"]
    for option in ("--nnodes=2", "--master", "--ips=10.0.0.1,10.0.0.2"):
        assert names_of(["fleetrun", option]) == ["none", "none"]
    assert names_of(["fleetrun"], PADDLE_TRAINER_ENDPOINTS="127.0.0.2:3") == ["none", "none"]
    assert names_of(["start_roles.sh"], STREAMTRAIN_ROUND="its-own") == ["its-own", "its-own"]


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


def test_a_round_without_a_name_is_not_checked(hosts: pytest.MonkeyPatch) -> None:
    with answering(http_answer(*interpreter_options("abc"))) as endpoint:
        check_server(endpoint, 5)  # pytest is no launcher
        hosts.setenv(NAME, "")  # of a rendezvous that gives none
        check_server(endpoint, 5)


@pytest.mark.parametrize("text", [b"SSH-2.0-OpenSSH_9.6\r\n", b"HTTP/1.1 404 Not Found\r\ncontent-length: 2\r\n\r\nno"])
def test_no_server_of_paddles(hosts: pytest.MonkeyPatch, text: bytes) -> None:
    hosts.setenv(NAME, "abc")
    with answering(text) as endpoint, pytest.raises(TrainingError, match="what listens there is no server of this job"):
        check_server(endpoint, 5)


def test_a_server_that_ends_meanwhile_says_nothing(hosts: pytest.MonkeyPatch) -> None:
    hosts.setenv(NAME, "abc")
    with answering(b"") as endpoint, pytest.raises(ConnectionError):
        check_server(endpoint, 5)


def test_gloo_is_the_rounds_own(hosts: pytest.MonkeyPatch) -> None:
    with own_gloo():
        assert "SYS_JOB_ID" not in os.environ
    hosts.setenv(NAME, "abc")
    with own_gloo():
        assert os.environ["SYS_JOB_ID"] == "abc"
    hosts.setenv("SYS_JOB_ID", "the user's")
    with own_gloo():
        assert os.environ["SYS_JOB_ID"] == "the user's"
    assert os.environ["SYS_JOB_ID"] == "the user's"
