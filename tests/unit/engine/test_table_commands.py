"""Saves and loads that servers are asked for over HTTP."""

import base64
import http.server
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from streamtrain.engine.table_commands import load_tables, save_table
from streamtrain.errors import CheckpointError


@contextmanager
def servers(*answers: tuple[int, bytes]) -> Iterator[tuple[list[str], list[tuple[str, Any]]]]:
    """Endpoints, and what they were asked."""
    asked: list[tuple[str, Any]] = []

    def handler(status: int, body: bytes) -> type[http.server.BaseHTTPRequestHandler]:
        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                asked.append((self.path, json.loads(self.rfile.read(int(self.headers["Content-Length"])))))
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_arguments: object) -> None: ...

        return Handler

    running = [http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler(*answer)) for answer in answers]
    threads = [threading.Thread(target=server.serve_forever, args=(0.01,)) for server in running]
    for thread in threads:
        thread.start()
    try:
        yield [f"127.0.0.1:{server.server_address[1]}" for server in running], asked
    finally:
        for server, thread in zip(running, threads, strict=True):
            server.shutdown()
            thread.join()
            server.server_close()


GOOD = (200, b'{"err_code":0,"err_msg":""}')
BAD = (200, b'{"err_code":1,"err_msg":"server internal error"}')


def test_each_server_is_asked() -> None:
    with servers(GOOD, GOOD) as (endpoints, asked):
        save_table(endpoints, 3, Path("/a folder"), 4)
    assert len(asked) == 2 and asked[0] == asked[1]
    path, request = asked[0]
    assert path == "/PsService/service"
    params = [base64.b64decode(text).decode() for text in request.pop("params")]
    assert params == ["/a folder", "4"] and request == {"cmd_id": 5, "table_id": 3, "client_id": 0}


@pytest.mark.parametrize("answer", [BAD, (500, b"overcrowded"), (200, b"<html>"), (200, b"{}"), (200, b"null")])
def test_a_server_that_does_not_save(answer: tuple[int, bytes]) -> None:
    with (
        servers(GOOD, answer) as (endpoints, _),
        pytest.raises(CheckpointError, match="did not save table 0") as caught,
    ):
        save_table(endpoints, 0, Path("/x"), 4)
    assert endpoints[1] in caught.value.message


def test_a_server_that_is_gone() -> None:
    with servers(GOOD) as (endpoints, _):
        pass
    with pytest.raises(CheckpointError, match=r"did not save table 0: .*refused"):
        save_table(endpoints, 0, Path("/x"), 4)


def test_the_dense_tables_count_is_no_failure() -> None:
    with servers(BAD) as (endpoints, _):
        save_table(endpoints, 1, Path("/x"), 0, dense=True)
    with servers((500, b"no")) as (endpoints, _), pytest.raises(CheckpointError):
        save_table(endpoints, 1, Path("/x"), 0, dense=True)


def test_each_server_loads_each_table() -> None:
    with servers(GOOD, GOOD) as (endpoints, asked):
        load_tables(endpoints, 3, Path("/a folder"))
    assert sorted(request["table_id"] for _, request in asked) == [0, 0, 1, 1, 2, 2]
    for _, request in asked:
        assert request["cmd_id"] == 7
        assert [base64.b64decode(text).decode() for text in request["params"]] == ["/a folder", "0"]


@pytest.mark.parametrize("answer", [BAD, (500, b"overcrowded"), (200, b"{}")])
def test_a_server_that_does_not_load(answer: tuple[int, bytes]) -> None:
    with (
        servers(GOOD, answer) as (endpoints, _),
        pytest.raises(CheckpointError, match="did not load table") as caught,
    ):
        load_tables(endpoints, 2, Path("/x"))
    assert endpoints[1] in caught.value.message and "serverlog" in caught.value.remedy
