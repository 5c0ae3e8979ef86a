"""A connection between two agents that know the same secret: nothing is sent, and nothing acted on, before both have
proved it.

    rendezvous -> agent   streamtrain-1 NONCE         32 random bytes, in hex, of this connection alone
    agent -> rendezvous   NONCE PROOF                 HMAC-SHA256 of both nonces
    rendezvous -> agent   PROOF, or refused
    then, both ways       MAC JSON                    {"kind": .., ..}

Both proofs, and the keys of the two directions, are HMACs of both nonces under different labels, so that no line of one
connection, or of one direction, is worth anything in another one. A message's MAC covers its number in its direction:
none can be repeated, left out or exchanged. The messages are authentic, not secret: they hold a job's name, the
addresses of its roles and how they are.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import secrets
from typing import Any

import orjson

from streamtrain.errors import ConfigError, PeerLost

#: Bytes of the longest line.
LIMIT = 1 << 18
#: Characters of the longest message of an error.
TEXT = 8000
#: Seconds that the proofs of both sides may take together.
PROVE_S = 5.0

GREETING = b"streamtrain-1 "
REFUSED = b"refused"
_HEX = 64


class Refused(Exception):
    """The other side knows another secret, or none. The message says what it sent instead of a proof."""


class Channel:
    """A proved connection. Sending and receiving each belong to one task at a time."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, send_key: bytes, receive_key: bytes
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._send_key = send_key
        self._receive_key = receive_key
        self._sent = 0
        self._received = 0

    async def send(self, kind: str, **values: Any) -> None:
        """Raises OSError when the connection is closed."""
        if isinstance(text := values.get("message"), str):
            values["message"] = text[:TEXT]
        payload = orjson.dumps({"kind": kind, **values})
        self._writer.write(_message_mac(self._send_key, self._sent, payload) + b" " + payload + b"\n")
        self._sent += 1
        await self._writer.drain()

    async def receive(self, timeout_s: float) -> dict[str, Any]:
        """The next message. Raises PeerLost at the end of the connection, after timeout_s without a message, and for
        one that is not the other side's."""
        line = await _line(self._reader, timeout_s)
        mac, _, payload = line.partition(b" ")
        if not hmac.compare_digest(mac, _message_mac(self._receive_key, self._received, payload)):
            raise PeerLost("a message on its connection was not its own, was changed or repeated")
        self._received += 1
        try:
            value = orjson.loads(payload)
        except ValueError as error:
            raise PeerLost(f"it sent what is no message: {error}") from error
        if not isinstance(value, dict) or not isinstance(value.get("kind"), str):
            raise PeerLost("it sent a message without a kind")
        return value

    def close(self) -> None:
        self._writer.close()


async def admit(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, secret: bytes) -> Channel:
    """The rendezvous's side. Raises Refused for a peer without the secret, which is told so, and PeerLost for one that
    sends nothing within PROVE_S seconds, or leaves."""
    ours = secrets.token_hex(32).encode()
    writer.write(GREETING + ours + b"\n")
    theirs, _, proof = (await _line(reader, PROVE_S)).partition(b" ")
    if not _is_hex(theirs) or not _is_hex(proof):
        raise Refused("it does not speak as a role of a job")
    if not hmac.compare_digest(proof, _proof(secret, b"agent", ours, theirs)):
        writer.write(REFUSED + b"\n")
        raise Refused("it has another secret, or none")
    writer.write(_proof(secret, b"rendezvous", ours, theirs) + b"\n")
    return Channel(
        reader, writer, _key(secret, b"to agent", ours, theirs), _key(secret, b"to rendezvous", ours, theirs)
    )


async def introduce(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, secret: bytes, at: str) -> Channel:
    """An agent's side; at: host:port of the rendezvous.

    Raises ConfigError when both sides have different secrets, PeerLost for what is no rendezvous, is silent or leaves.
    """
    greeting = await _line(reader, PROVE_S)
    theirs = greeting.removeprefix(GREETING)
    if not greeting.startswith(GREETING) or not _is_hex(theirs):
        raise PeerLost(f"what listens at {at} is no rendezvous of this version")
    ours = secrets.token_hex(32).encode()
    writer.write(ours + b" " + _proof(secret, b"agent", theirs, ours) + b"\n")
    answer = await _line(reader, PROVE_S)
    if not hmac.compare_digest(answer, _proof(secret, b"rendezvous", theirs, ours)):
        raise ConfigError(
            f"worker 0 at {at} has another STREAMTRAIN_SECRET than this role, or one of both has none",
            remedy="Give all roles of the job the same secret.",
        )
    return Channel(
        reader, writer, _key(secret, b"to rendezvous", theirs, ours), _key(secret, b"to agent", theirs, ours)
    )


async def _line(reader: asyncio.StreamReader, timeout_s: float) -> bytes:
    """Without its end. Raises PeerLost at the connection's end, after timeout_s, and for a line over LIMIT."""
    try:
        line = await asyncio.wait_for(reader.readline(), timeout_s)
    except asyncio.TimeoutError as error:
        raise PeerLost(f"it sent nothing for {timeout_s:.0f} s") from error
    except (OSError, ValueError) as error:  # ValueError: a line over the reader's limit
        raise PeerLost(f"its connection broke: {error}") from error
    if not line.endswith(b"\n"):
        raise PeerLost("its connection was closed")
    return line[:-1]


def _mac(key: bytes, *parts: bytes) -> bytes:
    """Of parts whose lengths are fixed, but for the last one's: no two lists of parts give the same bytes."""
    return hmac.new(key, b"".join(parts), hashlib.sha256).hexdigest().encode()


def _proof(secret: bytes, side: bytes, rendezvous: bytes, agent: bytes) -> bytes:
    return _mac(secret, rendezvous, agent, b"proof of " + side)


def _key(secret: bytes, direction: bytes, rendezvous: bytes, agent: bytes) -> bytes:
    return _mac(secret, rendezvous, agent, b"key " + direction)


def _message_mac(key: bytes, number: int, payload: bytes) -> bytes:
    return _mac(key, number.to_bytes(8, "big"), payload)


def _is_hex(text: bytes) -> bool:
    return len(text) == _HEX and all(character in b"0123456789abcdef" for character in text)
