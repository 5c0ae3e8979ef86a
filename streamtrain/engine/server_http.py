"""What Paddle's servers answer over HTTP, on the port where they serve: brpc's builtin services, and its JSON form of
Paddle's own commands."""

from __future__ import annotations

import http.client
import socket

#: A connection without an answer is asked after 30 s, then every 10 s, three times, whether the other side is there.
_ALIVE = [
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    *(
        (socket.IPPROTO_TCP, getattr(socket, name), value)
        for name, value in (("TCP_KEEPIDLE", 30), ("TCP_KEEPINTVL", 10), ("TCP_KEEPCNT", 3))
        if hasattr(socket, name)  # Linux
    ),
]


def ask(endpoint: str, path: str, *, body: str | None = None, timeout_s: float | None = None) -> tuple[int, str]:
    """Status and text of the answer, 64 kB of it at most. endpoint: host:port, asked without any proxy. body: JSON, to
    be posted. timeout_s: None: as long as the other side is there.

    Raises OSError when there is no answer, http.client.HTTPException when it is not HTTP.
    """
    host, _, port = endpoint.rpartition(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=timeout_s)
    try:
        connection.connect()
        for option in _ALIVE:
            connection.sock.setsockopt(*option)
        if body is None:
            connection.request("GET", path)
        else:
            connection.request("POST", path, body, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        return answer.status, answer.read(1 << 16).decode("utf-8", "replace")
    finally:
        connection.close()
