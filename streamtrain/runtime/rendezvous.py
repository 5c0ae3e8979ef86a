"""Where the roles of a job on several machines meet: at worker 0's address, over TCP, a JSON line a message.

Every role's agent joins. When all servers and workers of the job have joined, a round begins, each agent starts its
role, and all of them report once a second how it is. The round ends for everybody when all workers are done, or when
one role dies, hangs, or is silent; an agent that does not hear of the rendezvous ends its role as well. So no server
outlives a round, and the next round starts from the newest checkpoint with empty servers.

    agent -> rendezvous   join {job, role, index, servers, workers}   role: server or worker
                          beat {sample}                               {stopped, running, cpu, phase, healthy} or null
                          done {}    failed {exit_code, message}
    rendezvous -> agent   begin {servers, workers, gloo}              host:port of each, with numeric hosts
                          beat {}
                          end {exit_code, message}

Each message has its `kind`, the word that it begins with above.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from streamtrain.errors import FINAL, ConfigError, PeerLost
from streamtrain.runtime.hang_detector import HangDetector, RoleSample

log = logging.getLogger("streamtrain.rendezvous")

BEAT_S = 1.0
#: Seconds without a message after which the other side counts as dead.
SILENCE_S = 6.0
#: Bytes of the longest message.
LIMIT = 1 << 20


@dataclass(frozen=True)
class Addresses:
    """host:port of every server and worker; worker 0's is the rendezvous's. Paddle's server 0 serves the workers' own
    one (gloo), on the port after its own."""

    servers: tuple[str, ...]
    workers: tuple[str, ...]

    @classmethod
    def parse(cls, servers: str, workers: str) -> Addresses:
        """Of comma-separated lists. Raises ConfigError naming the entry that is not host:port."""
        lists = []
        for option, text in (("--servers-at", servers), ("--workers-at", workers)):
            entries = tuple(entry.strip() for entry in text.split(",") if entry.strip())
            for entry in entries:
                host, _, port = entry.rpartition(":")
                if not host or not port.isdigit() or not 0 < int(port) < 65536:
                    raise ConfigError(f"{option}: {entry!r} is not host:port")
            if not entries or len(set(entries)) != len(entries):
                raise ConfigError(f"{option}: give each one's host:port, once")
            lists.append(entries)
        return cls(*lists)

    @property
    def rendezvous(self) -> tuple[str, int]:
        host, _, port = self.workers[0].rpartition(":")
        return host, int(port)

    def resolved(self) -> Addresses:
        """With numbers for host names, as Paddle needs them. Raises OSError while a name does not resolve."""
        return Addresses(*(tuple(map(_resolve, entries)) for entries in (self.servers, self.workers)))

    @property
    def gloo(self) -> str:
        host, _, port = self.servers[0].rpartition(":")
        return f"{host}:{int(port) + 1}"


def _resolve(entry: str) -> str:
    host, _, port = entry.rpartition(":")
    return f"{socket.gethostbyname(host)}:{port}"


async def send(writer: asyncio.StreamWriter, kind: str, **values: Any) -> None:
    writer.write(orjson.dumps({"kind": kind, **values}) + b"\n")
    await writer.drain()


async def receive(reader: asyncio.StreamReader, timeout_s: float) -> dict[str, Any]:
    """The next message. Raises PeerLost at the end of the connection or after timeout_s without one."""
    try:
        line = await asyncio.wait_for(reader.readline(), timeout_s)
        value = orjson.loads(line) if line else None
    except asyncio.TimeoutError as error:
        raise PeerLost(f"it sent nothing for {timeout_s:.0f} s") from error
    except (OSError, ValueError) as error:
        raise PeerLost(f"its connection broke: {error}") from error
    if not isinstance(value, dict):
        raise PeerLost("its connection was closed")
    return value


@dataclass
class _Member:
    role: str
    writer: asyncio.StreamWriter
    done: bool = False


@dataclass
class Rendezvous:
    """Worker 0's side: serves one round. `result`: exit code and message that the agents get at its end."""

    job: str
    addresses: Addresses
    result: tuple[int, str] | None = None
    _members: dict[str, _Member] = field(default_factory=dict)
    _samples: dict[str, RoleSample] = field(default_factory=dict)
    _begun: bool = False
    _over: asyncio.Event = field(default_factory=asyncio.Event)

    async def serve(self) -> None:
        """Until the round is over and its members know. Raises ConfigError when the port is taken."""
        port = self.addresses.rendezvous[1]
        try:
            server = await asyncio.start_server(self._member, "0.0.0.0", port, limit=LIMIT)
        except OSError as error:
            raise ConfigError(
                f"--workers-at: port {port} of this machine cannot be opened: {error.strerror}",
                remedy="Give worker 0 a free port.",
            ) from error
        async with server:
            await asyncio.gather(self._over.wait(), self._watch())
            for member in list(self._members.values()):
                with contextlib.suppress(OSError, asyncio.TimeoutError):
                    code, message = self.result or (0, "")
                    await asyncio.wait_for(send(member.writer, "end", exit_code=code, message=message), 1)
                    member.writer.close()

    def _end(self, exit_code: int, message: str) -> None:
        if self.result is None:
            self.result = (exit_code, message)
            self._over.set()

    async def _member(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        role = "?"
        try:
            role = await self._join(reader, writer)
            while not self._over.is_set():
                self._handle(role, await receive(reader, SILENCE_S))
        except PeerLost as error:
            if role != "?" and self._members.get(role, _Member("", writer)).writer is writer:
                self._lost(role, str(error))
        finally:
            if not self._over.is_set():
                writer.close()

    async def _join(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> str:
        request = await receive(reader, SILENCE_S)
        role = f"{request.get('role')} {request.get('index')}"
        expected = [self.job, list(self.addresses.servers), list(self.addresses.workers)]
        if [request.get("job"), request.get("servers"), request.get("workers")] != expected:
            message = f"{role} names another job, or other servers and workers, than worker 0: {expected}"
            await send(writer, "end", exit_code=ConfigError.exit_code, message=message)
            raise PeerLost(message)
        if role in self._members:
            if self._begun:
                self._lost(role, "it was restarted")
            else:
                self._members.pop(role).writer.close()
        self._members[role] = _Member(role, writer)
        wanted = len(self.addresses.servers) + len(self.addresses.workers)
        log.info("%s has joined, %d of %d have", role, len(self._members), wanted)
        if not self._begun and len(self._members) == wanted:
            await self._begin()
        return role

    async def _begin(self) -> None:
        while True:
            try:
                resolved = self.addresses.resolved()
                break
            except OSError as error:
                log.warning("a host name of --servers-at or --workers-at does not resolve yet: %s", error)
                await asyncio.sleep(1)
        self._begun = True
        for member in self._members.values():
            with contextlib.suppress(OSError):
                await send(
                    member.writer, "begin", servers=resolved.servers, workers=resolved.workers, gloo=resolved.gloo
                )

    def _handle(self, role: str, message: dict[str, Any]) -> None:
        kind = message.pop("kind")
        if kind == "done":
            self._members[role].done = True
            if all(m.done for r, m in self._members.items() if r.startswith("worker")):
                self._end(0, "all workers are done")
        elif kind == "failed":
            code = int(message["exit_code"])
            self._end(code if code in FINAL else PeerLost.exit_code, f"{role}: {message['message']}")
        elif kind == "beat" and self._begun:
            self._samples.pop(role, None)
            if message.get("sample"):
                self._samples[role] = RoleSample(role, **message["sample"])

    def _lost(self, role: str, reason: str) -> None:
        member = self._members.pop(role, None)
        self._samples.pop(role, None)
        if self._begun and not (member is not None and member.done and role.startswith("worker")):
            self._end(PeerLost.exit_code, f"{role}: {reason}")

    async def _watch(self) -> None:
        """Beats to all members; ends the round when one of them hangs."""
        hangs = HangDetector()
        while not self._over.is_set():
            await asyncio.sleep(BEAT_S)
            for member in list(self._members.values()):
                with contextlib.suppress(OSError, asyncio.TimeoutError):
                    await asyncio.wait_for(send(member.writer, "beat"), 1)
            if self._begun:
                reason = hangs.check(time.monotonic(), list(self._samples.values()))
                if reason is not None:
                    self._end(PeerLost.exit_code, reason)


async def join(
    addresses: Addresses, job: str, role: str, index: int, stop: Sequence[asyncio.Event] = ()
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter] | None:
    """Connects to the rendezvous, as long as it takes, and joins; None when stopped before."""
    host, port = addresses.rendezvous
    logged = False
    while not any(event.is_set() for event in stop):
        try:
            reader, writer = await asyncio.wait_for(asyncio.open_connection(host, port, limit=LIMIT), 3)
        except (OSError, asyncio.TimeoutError):
            if not logged:
                log.info("waiting for worker 0 at %s:%d", host, port)
                logged = True
            await asyncio.sleep(0.5)
            continue
        await send(
            writer, "join", job=job, role=role, index=index, servers=addresses.servers,
            workers=addresses.workers,
        )  # fmt: skip
        return reader, writer
    return None
