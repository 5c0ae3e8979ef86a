"""Connections that end: uvicorn's HTTP/1.1 protocol with a time for everything that a client may keep it waiting for.

uvicorn waits without end for a request's headers, for the rest of a body that was answered already, and for a client
that does not read. Here each of these has its time, and where there are too many connections, the one that has kept the
server waiting longest is closed in favour of a new one.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any, ClassVar

import h11
import orjson
from uvicorn.protocols.http.h11_impl import H11Protocol

from streamtrain.serving.limits import HEAD_S, IDLE_S, Limits

#: Seconds that the last bytes of a connection that is closed have to leave; then it is cut.
CLOSE_S = 2.0
#: Seconds beyond a request's own limit after which its connection is cut: its client does not read the answer.
LATE_S = 5.0
_HEAD, _IDLE, _BODY, _ANSWER, _REST = "head", "idle", "body", "answer", "rest of a body"
_SECONDS = {_HEAD: HEAD_S, _REST: HEAD_S, _IDLE: IDLE_S + CLOSE_S}


class LimitedProtocol(H11Protocol):
    """One connection. `limits` is set by limited()."""

    limits: ClassVar[Limits]

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._timer: asyncio.TimerHandle | None = None
        self._waiting: tuple[str, int] = ("", 0)
        self._since = 0.0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._observe()
        if len(self.connections) > self.limits.connections and not self._close_another():
            self._refuse(503, "too many connections", retry=True)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._observe()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._observe()

    def connection_lost(self, exc: Exception | None) -> None:
        self._disarm()
        super().connection_lost(exc)

    def _phase(self) -> str:
        """What is awaited. The client has to act in all of them but _ANSWER."""
        cycle = self.cycle
        if cycle is not None and not cycle.response_complete:
            return _BODY if cycle.more_body else _ANSWER
        if self.conn.their_state is h11.SEND_BODY:
            return _REST
        return _IDLE if cycle is not None and not self.conn.trailing_data[0] else _HEAD

    def _observe(self) -> None:
        """Starts the time of what is awaited now, unless it runs already."""
        phase = self._phase()
        # a request has one time, for its body and its answer
        waiting = (_ANSWER if phase == _BODY else phase, id(self.cycle))
        if waiting != self._waiting:
            self._waiting, self._since = waiting, time.monotonic()
            self._arm(_SECONDS.get(phase, self.limits.request_s + LATE_S))

    def _arm(self, seconds: float) -> None:
        self._disarm()
        self._timer = self.loop.call_later(seconds, self._expired)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _expired(self) -> None:
        self._timer = None
        if self.transport.is_closing() or self._phase() not in (_HEAD, _IDLE):
            self.transport.abort()
        elif self._phase() == _HEAD and self.conn.trailing_data[0]:
            self._refuse(408, f"the request's headers did not arrive within {HEAD_S:.0f} s")
        else:
            self._close()

    def _refuse(self, status: int, reason: str, *, retry: bool = False) -> None:
        """An answer to a request whose headers were not read."""
        body = orjson.dumps({"error": reason})
        phrase = {408: "Request Timeout", 503: "Service Unavailable"}[status]
        head = f"HTTP/1.1 {status} {phrase}\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n"
        head += ("retry-after: 1\r\n" if retry else "") + "connection: close\r\n\r\n"
        self.transport.write(head.encode() + body)
        self._close()

    def _close(self) -> None:
        self.transport.close()
        self._arm(CLOSE_S)

    def _close_another(self) -> bool:
        """Cuts the connection whose client has kept the server waiting longest. False: all wait for the server."""
        others = [c for c in self.connections if c is not self and isinstance(c, LimitedProtocol)]
        waiting = [c for c in others if c._phase() != _ANSWER]
        if not waiting:
            return False
        oldest = min(waiting, key=lambda c: c._since)
        self.connections.discard(oldest)  # it is told of its end later
        oldest.transport.abort()
        return True


def limited(limits: Limits) -> type[LimitedProtocol]:
    """The protocol with these limits, for uvicorn's `http`."""
    return type("LimitedProtocol", (LimitedProtocol,), {"limits": limits})
