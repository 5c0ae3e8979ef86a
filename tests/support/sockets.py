"""HTTP by raw sockets: requests in parts, wrong ones, connections that only wait."""

from __future__ import annotations

import json
import socket
from typing import Any
from urllib.parse import urlsplit


def connect(url: str) -> socket.socket:
    parts = urlsplit(url)
    return socket.create_connection((parts.hostname, parts.port), 30)


def head(method: str, path: str, **headers: Any) -> bytes:
    """A request's line and headers. headers: content_type=.. is Content-Type."""
    lines = [f"{method} {path} HTTP/1.1", "host: test", *(f"{k.replace('_', '-')}: {v}" for k, v in headers.items())]
    return "\r\n".join([*lines, "", ""]).encode()


def post(body: bytes, **headers: Any) -> bytes:
    return (
        head("POST", "/predict", **{"content_type": "application/json", **headers, "content_length": len(body)}) + body
    )


def read_answer(connection: socket.socket, *, body: bool = True) -> tuple[int, dict[str, str], bytes]:
    """Status, headers in lower case, body. body: whether one follows, as none does after HEAD."""
    data = b""
    while b"\r\n\r\n" not in data:
        part = connection.recv(65536)
        assert part, f"the connection ended after {data!r}"
        data += part
    text, _, rest = data.partition(b"\r\n\r\n")
    first, *lines = text.decode().split("\r\n")
    headers = {key.lower(): value for key, _, value in (line.partition(": ") for line in lines)}
    while body and len(rest) < int(headers["content-length"]):
        rest += connection.recv(65536)
    return int(first.split()[1]), headers, rest


def exchange(url: str, data: bytes, *, body: bool = True) -> tuple[int, dict[str, str], bytes]:
    """One request on a connection of its own."""
    with connect(url) as connection:
        connection.sendall(data)
        return read_answer(connection, body=body)


def error_of(answer: tuple[int, dict[str, str], bytes]) -> tuple[int, str]:
    """Status and reason of a refusal, which has nothing else."""
    status, _, body = answer
    document = json.loads(body)
    assert list(document) == ["error"] and len(body) < 500, body
    return status, document["error"]


def ended(connection: socket.socket) -> bytes:
    """What comes until the server ends the connection."""
    data = b""
    try:
        while part := connection.recv(65536):
            data += part
    except ConnectionResetError:
        pass
    return data
