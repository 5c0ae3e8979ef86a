"""`streamtrain serve` against clients that send too much, too little, or wrong things, by raw sockets."""

import contextlib
import json
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.jobs.test_serve import ask, run, serving
from tests.support.exports import Exports, vectors
from tests.support.networks import Network
from tests.support.processes import until
from tests.support.serving import DAY, KEYS, lines
from tests.support.sockets import connect, ended, error_of, exchange, head, post, read_answer

LIMITS = ("--max-body-bytes", "100000", "--max-rows", "50", "--max-features", "20", "--request-seconds", "4",
          "--max-requests", "4", "--max-connections", "40")  # fmt: skip


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory, networks: list[Network]) -> Path:
    exports = Exports(tmp_path_factory.mktemp("served") / "model")
    exports.full(DAY, 0, vectors(KEYS, 1), networks[0])
    return exports.root


@pytest.fixture(scope="module")
def server(model: Path) -> Iterator[tuple[str, "subprocess.Popen[str]"]]:
    with serving(model, *LIMITS) as (url, process):
        until(lambda: ask(f"{url}/healthz")[0] == 200)
        yield url, process
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
        assert process.stderr and "Traceback" not in (said := process.stderr.read()), said


@pytest.fixture
def url(server: tuple[str, "subprocess.Popen[str]"]) -> Iterator[str]:
    """And the server still predicts after the test."""
    yield server[0]
    status, answer = ask(f"{server[0]}/predict", {"rows": lines(20)})
    assert status == 200 and len(answer["predictions"]) == 20


ROWS = b'{"rows": ["7:2"]}'


def test_lengths_of_a_body(url: str) -> None:
    fits = b'{"rows": ["7:2"]}'.ljust(100_000)
    assert exchange(url, post(fits))[0] == 200
    status, reason = error_of(exchange(url, post(fits + b" ")))
    assert status == 413 and "100000 bytes (--max-body-bytes)" in reason
    # announced alone: it is refused before it is sent
    assert error_of(exchange(url, head("POST", "/predict", content_length=10**12)))[0] == 413
    assert error_of(exchange(url, head("POST", "/predict", content_length=10**12, expect="100-continue")))[0] == 413


def test_a_body_in_chunks_is_counted_while_it_is_read(url: str) -> None:
    begin = head("POST", "/predict", transfer_encoding="chunked", content_type="application/json")
    whole = b"%x\r\n%b\r\n0\r\n\r\n" % (len(ROWS), ROWS)
    assert exchange(url, begin + whole)[0] == 200
    with connect(url) as connection:
        connection.sendall(begin)
        for _ in range(11):  # never finished
            connection.sendall(b"2710\r\n" + b" " * 10_000 + b"\r\n")
        assert error_of(read_answer(connection))[0] == 413


@pytest.mark.parametrize(
    ("body", "status", "reason"),
    [
        (b"", 422, "not JSON"),
        (b"{", 422, "not JSON"),
        (b'{"rows": NaN}', 422, "not JSON"),
        (b'{"rows": [Infinity]}', 422, "not JSON"),
        (b'{"rows": ["\\ud800"]}', 422, "not JSON"),
        (b'{"rows": ["\xff"]}', 422, "not JSON"),
        (b'{"rows": ["\xed\xa0\x80"]}', 422, "not JSON"),
        (b"[" * 50_000, 422, "not JSON"),
        (b"[]", 422, "an object with the key rows"),
        (b'{"row": ["7:2"]}', 422, "an object with the key rows"),
        (b'{"rows": ["7:2"], "secret-secret": 1}', 422, "key 'secret-secret'"),
        (b'{"rows": "7:2"}', 422, "rows is not a list"),
        (b'{"rows": {"7:2": 1}}', 422, "rows is not a list"),
        (b'{"rows": ["7:2", 1e308]}', 422, "row 2 is neither a text nor an object"),
        (b'{"rows": ["7:2", null]}', 422, "row 2 is neither a text nor an object"),
        (json.dumps({"rows": ["7:2"] * 51}).encode(), 422, "51 rows, at most 50"),
        (json.dumps({"rows": ["1:2", "7:2 " * 21]}).encode(), 422, "row 2 has 21 features, at most 20"),
        (json.dumps({"rows": ["x" * 90_000]}).encode(), 422, "row 1 has 90000 characters"),
        (json.dumps({"rows": ["1:2", "a" * 700]}).encode(), 400, "row 2: 'aaaa"),
        (json.dumps({"rows": ["1:2", "\u0001\u001b[2J:2"]}).encode(), 400, r"row 2: '\x01\x1b[2J:2'"),
        (json.dumps({"rows": ["1:99999"]}).encode(), 400, "slot '99999' is not from 1 to 65535"),
    ],
    ids=lambda value: value[:30] if isinstance(value, bytes) else None,
)  # fmt: skip
def test_bodies_are_refused_without_an_echo(url: str, body: bytes, status: int, reason: str) -> None:
    found = error_of(exchange(url, post(body)))
    assert found[0] == status and reason in found[1], found


def test_content_types(url: str) -> None:
    for kind in ("application/json", "Application/JSON; charset=utf-8", "application/vnd.api+json"):
        assert exchange(url, post(ROWS, content_type=kind))[0] == 200
    assert exchange(url, head("POST", "/predict", content_length=len(ROWS)) + ROWS)[0] == 200
    for kind in ("application/x-www-form-urlencoded", "text/plain", "multipart/form-data; boundary=x", "x" * 300, ""):
        status, reason = error_of(exchange(url, post(ROWS, content_type=kind)))
        assert status == 415 and "the header Content-Type is" in reason and "-H 'Content-Type: app" in reason
    status, reason = error_of(exchange(url, post(ROWS, content_encoding="gzip")))
    assert status == 415 and "the header Content-Encoding is 'gzip'" in reason


def test_curl_without_a_content_type(url: str) -> None:
    done = subprocess.run(
        ["curl", "-s", "-d", '{"rows": ["7:2"]}', f"{url}/predict"], capture_output=True, check=True, timeout=30
    )
    assert "application/x-www-form-urlencoded" in json.loads(done.stdout)["error"]


def test_methods_and_routes(url: str) -> None:
    for path in ("/healthz", "/metrics"):
        status, headers, rest = exchange(url, head("HEAD", path), body=False)
        assert status == 200 and int(headers["content-length"]) > 0 and not rest
    status, headers, _ = exchange(url, head("HEAD", "/predict"), body=False)
    assert status == 405 and headers["allow"] == "POST"
    assert error_of(exchange(url, head("DELETE", "/healthz"))) == (405, "Method Not Allowed")
    assert error_of(exchange(url, head("GET", "/../../etc/passwd"))) == (404, "Not Found")
    status, _, document = exchange(url, head("GET", "/openapi.json"))
    assert status == 200 and "requestBody" in json.loads(document)["paths"]["/predict"]["post"]


def test_headers_that_are_too_long_or_none(url: str) -> None:
    for data in (b"\0\1\2\r\n\r\n", b"GET / FTP/1.1\r\n\r\n", head("GET", "/healthz", x="a" * 1_000_000)):
        with connect(url) as connection, contextlib.suppress(BrokenPipeError, ConnectionResetError):
            connection.sendall(data)
            # of a client that still sends when the server closes the kernel may drop the answer
            answer = ended(connection)
            assert answer.startswith(b"HTTP/1.1 400 ") or (not answer and len(data) > 1000)


def test_a_body_that_never_ends(url: str) -> None:
    """Byte by byte, so that something always comes."""
    with connect(url) as connection:
        connection.sendall(head("POST", "/predict", content_length=1000, content_type="application/json"))
        connection.settimeout(0.2)
        answer = b""
        begin = time.monotonic()
        while b"}" not in answer:
            assert time.monotonic() - begin < 60
            try:
                connection.sendall(b" ")
                answer += connection.recv(65536)
            except TimeoutError:
                continue
    assert answer.startswith(b"HTTP/1.1 408 ") and b"the body did not arrive within 4 s" in answer


def test_headers_that_never_end(url: str) -> None:
    """And a connection that sends nothing, one with the rest of a body that was answered."""
    silent, slow, rest = connect(url), connect(url), connect(url)
    with silent, slow, rest:
        slow.sendall(b"POST /predict HTTP/1.1\r\nhost:")
        rest.sendall(head("GET", "/healthz", content_length=1000) + b"x")
        assert read_answer(rest)[0] == 200
        slow.settimeout(0.2)
        answer = b""
        begin = time.monotonic()
        while not answer:
            assert time.monotonic() - begin < 60
            try:
                slow.sendall(b" ")
                rest.sendall(b"x")
                answer = slow.recv(65536)
            except TimeoutError:
                continue
            except (ConnectionResetError, BrokenPipeError):
                break
        assert answer.startswith(b"HTTP/1.1 408 ") and b"the request's headers did not arrive within 10 s" in answer
        assert ended(silent) == b"" and ended(rest) == b""


def connections_of(process: "subprocess.Popen[str]") -> int:
    return sum(c.status == psutil.CONN_ESTABLISHED for c in psutil.Process(process.pid).net_connections("tcp"))


def test_half_open_connections_take_no_descriptors(url: str, server: tuple[str, "subprocess.Popen[str]"]) -> None:
    """Ten times as many as are allowed, of all kinds; a new client is answered at once, and often."""
    starts = (b"", b"GET /healthz HTTP/1.1\r\n", head("POST", "/predict", content_length=50) + b"{")
    waiting: list[socket.socket] = []
    try:
        for number in range(400):
            waiting.append(connect(url))
            if start := starts[number % 3]:
                waiting[-1].sendall(start)
            if number % 40 == 39:
                assert exchange(url, head("GET", "/healthz"))[0] == 200
                assert exchange(url, post(ROWS))[0] == 200
        until(lambda: connections_of(server[1]) <= 40)
        assert exchange(url, head("GET", "/metrics"))[0] == 200
    finally:
        for connection in waiting:
            connection.close()


def test_too_many_requests_at_once(model: Path) -> None:
    """The others get 503 and when to try again; health and metrics answer meanwhile."""
    body = json.dumps({"rows": [" ".join(f"{key}:2" for key in range(1, 9000))] * 200}).encode()
    with serving(model, "--max-requests", "2", "--max-rows", "1000") as (url, process):
        until(lambda: ask(f"{url}/healthz")[0] == 200)
        connections = [connect(url) for _ in range(12)]
        answers: list[tuple[int, dict[str, str], bytes]] = []

        def send(connection: socket.socket) -> None:
            connection.sendall(post(body))
            answers.append(read_answer(connection))

        threads = [threading.Thread(target=send, args=(connection,)) for connection in connections]
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            assert exchange(url, head("GET", "/healthz"))[0] == 200
            assert exchange(url, head("GET", "/metrics"))[0] == 200
        for thread in threads:
            thread.join()
        found = sorted(status for status, _, _ in answers)
        assert set(found) == {200, 503} and found[0] == 200, found
        for answer in answers:
            if answer[0] == 503:
                assert answer[1]["retry-after"] == "1" and "try again" in error_of(answer)[1]
        assert f'streamtrain_requests_total{{status="503"}} {found.count(503)}.0' in ask(f"{url}/metrics")[1]
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0


def test_long_rows_take_little_memory(model: Path) -> None:
    """A body of 100 MB in one row is refused while it is read; one at the limit is computed."""
    with serving(model) as (url, process):
        until(lambda: ask(f"{url}/healthz")[0] == 200)
        assert ask(f"{url}/predict", {"rows": ["7:2 " * 9000] * 10})[0] == 200
        before = psutil.Process(process.pid).memory_info().rss
        begin = head("POST", "/predict", transfer_encoding="chunked", content_type="application/json")
        chunk = b"7:2 " * 250_000
        with connect(url) as connection:
            connection.sendall(begin + b'b\r\n{"rows": ["\r\n')
            answer = b""
            for _ in range(100):
                try:
                    connection.sendall(b"%x\r\n%b\r\n" % (len(chunk), chunk))
                except (BrokenPipeError, ConnectionResetError):
                    break
            answer = connection.recv(65536)
        assert answer.startswith(b"HTTP/1.1 413 ")
        assert psutil.Process(process.pid).memory_info().rss - before < 200 << 20


def test_limits_that_cannot_be(model: Path) -> None:
    done = run("serve", "--model", str(model), "--max-connections", "100000000")
    assert done.returncode == 2 and "--max-connections 100000000 needs" in done.stderr and "ulimit -n" in done.stderr
    done = run("serve", "--model", str(model), "--max-rows", "0")
    assert done.returncode == 2
