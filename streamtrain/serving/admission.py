"""Requests to the app, each with a time; bodies, read within their limits and a budget of all."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import orjson
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from streamtrain.serving.limits import BODIES, Limits
from streamtrain.serving.requests import Refused, too_long

#: Of an answer that says that the server is busy: seconds until the client may try again.
RETRY = {"Retry-After": "1"}


class Disconnected(Exception):
    """The client has gone: nobody reads an answer."""


class Bodies:
    """The bodies that are being read, or whose requests are not answered yet."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._held = 0

    @asynccontextmanager
    async def read(self, request: Request) -> AsyncIterator[bytes]:
        """The request's body, which counts as held until the end of the context.

        Raises Refused: 413 as soon as it is too long, 503 when all bodies together are. Raises Disconnected.
        """
        body = bytearray()
        try:
            while True:
                message = await request.receive()
                if message["type"] != "http.request":
                    raise Disconnected
                part = message.get("body", b"")
                self._held += len(part)
                body += part
                if len(body) > self._limits.body_bytes:
                    raise too_long(self._limits)
                if self._held > BODIES * self._limits.body_bytes:
                    raise Refused(503, "too many long bodies at once: try again", RETRY)
                if not message.get("more_body", False):
                    break
            yield bytes(body)
        finally:
            self._held -= len(body)


class Timed:
    """Ends a request after its time: 408 when its body has not arrived, else 503. What was answered in part is cut."""

    def __init__(self, app: ASGIApp, seconds: float) -> None:
        self._app = app
        self._seconds = seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        complete = started = False

        async def receiving() -> Message:
            nonlocal complete
            message = await receive()
            complete = not message.get("more_body", False)
            return message

        async def sending(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            await asyncio.wait_for(self._app(scope, receiving, sending), self._seconds)
        except (asyncio.TimeoutError, TimeoutError):
            if started:
                return
            waits = scope["method"] == "POST" and not complete
            reason = "the body did not arrive" if waits else "the request was not answered"
            await answer(send, 408 if waits else 503, f"{reason} within {self._seconds:g} s")


async def answer(send: Send, status: int, reason: str) -> None:
    """An answer without the app."""
    headers = [(b"content-type", b"application/json")]
    headers += [(key.lower().encode(), value.encode()) for key, value in RETRY.items()] if status == 503 else []
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": orjson.dumps({"error": reason})})
