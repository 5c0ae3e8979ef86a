"""Where the roles of a job on several machines meet: at worker 0's address, over TCP, a message a line.

Every role's agent joins. When all servers and workers of the job have joined, a round begins, each agent starts its
role, and all of them report once a second how it is. The round ends for everybody when all workers are done, or when
one role dies, hangs, or is silent; an agent that does not hear of the rendezvous ends its role as well. So no server
outlives a round, and the next round starts from the newest checkpoint with empty servers.

    agent -> rendezvous   join {job, role, index, servers, workers}   role: server or worker
                          beat {sample, stopping}                     {stopped, running, cpu, phase, healthy} or null;
                                                                      whether the agent was asked to end
                               {exchange} of worker 0, {exchanged} of a server, see exchange.py
                          done {}    failed {exit_code, message}
    rendezvous -> agent   begin {servers, workers, gloo, round}       host:port of each, with numeric hosts; its name
                          beat {stopping}                             whether a worker's agent was asked to end
                               {exchange}, {exchanged}                what worker 0 asks for; the servers' answer to it
                          end {exit_code, message}

Each message has its `kind`, the word that it begins with above. All of them go through a Channel: the other side has
proved that it knows the job's secret. A stranger, who has not, is told nothing, is held for channel.PROVE_S seconds at
most, and cannot touch the round; STRANGERS connections of strangers are held, and one more ends the oldest of them.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic import TypeAdapter

from streamtrain.contracts.phases import STARTING, STOPPED
from streamtrain.errors import FINAL, ConfigError, PeerLost
from streamtrain.runtime import channel
from streamtrain.runtime.channel import Channel, Refused
from streamtrain.runtime.hang_detector import HangDetector, RoleSample
from streamtrain.runtime.secret import is_loopback
from streamtrain.runtime.verdict import QUIET_S, is_quiet

log = logging.getLogger("streamtrain.rendezvous")

BEAT_S = 1.0
#: Seconds without a message after which the other side counts as dead.
SILENCE_S = 6.0
#: Connections of strangers, who have not proved that they know the secret, at a time.
STRANGERS = 32
#: Addresses of strangers that the log names, once each.
NAMED = 100


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
                if not host or not (port.isascii() and port.isdigit()) or not 0 < int(port) < 65536:
                    raise ConfigError(f"{option}: {entry!r} is not host:port")
                if ":" in host:
                    raise ConfigError(
                        f"{option}: {entry!r} is an IPv6 address, which Paddle's servers cannot use",
                        remedy="Give a host name or an IPv4 address.",
                    )
            if not entries or len(set(entries)) != len(entries):
                raise ConfigError(f"{option}: give each one's host:port, once")
            lists.append(entries)
        return cls(*lists)

    @property
    def rendezvous(self) -> tuple[str, int]:
        host, _, port = self.workers[0].rpartition(":")
        return host, int(port)

    @property
    def hosts(self) -> list[str]:
        """The host of each server and worker."""
        return [entry.rpartition(":")[0] for entry in (*self.servers, *self.workers)]

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


_SAMPLE = TypeAdapter(RoleSample)


@dataclass
class _Member:
    role: str
    channel: Channel
    done: bool = False


@dataclass
class Rendezvous:
    """Worker 0's side: serves one round. `result`: exit code and message that the agents get at its end.

    secret: of the job. listen: the address to bind; the one that worker 0's host name has, when empty.
    """

    job: str
    addresses: Addresses
    secret: bytes = field(default=b"", repr=False)
    listen: str = ""
    result: tuple[int, str] | None = None
    _server: asyncio.Server | None = None
    _members: dict[str, _Member] = field(default_factory=dict)
    _samples: dict[str, RoleSample] = field(default_factory=dict)
    _strangers: dict[asyncio.StreamWriter, None] = field(default_factory=dict)
    _named: set[str] = field(default_factory=set)
    _begun: bool = False
    _stopping: bool = False
    _exchange: dict[str, Any] | None = None
    _exchanged: dict[str, dict[str, Any]] = field(default_factory=dict)
    _working: set[str] = field(default_factory=set)
    _quiet_since: float | None = None
    _over: asyncio.Event = field(default_factory=asyncio.Event)

    async def open(self) -> None:
        """Binds the port. Raises ConfigError when that is not possible, PeerLost while a host name does not resolve."""
        host, port = self.addresses.rendezvous
        address = self._address_to_bind(host)
        try:
            self._server = await asyncio.start_server(self._connected, address, port, limit=channel.LIMIT)
        except OSError as error:
            raise ConfigError(
                f"--workers-at: {address}, port {port}, cannot be opened on this machine: {error.strerror}",
                remedy="Give worker 0 a free port; if its host name has another address here, name the one to bind in "
                "STREAMTRAIN_LISTEN.",
            ) from error
        log.info("the roles meet at %s, port %d", address, port)

    def _address_to_bind(self, host: str) -> str:
        name = self.listen or host
        try:
            address = socket.gethostbyname(name)
        except OSError as error:
            raise PeerLost(f"host name {name}, of worker 0, does not resolve here: {error.strerror}") from error
        if is_loopback(address) and not is_loopback(name):
            raise ConfigError(
                f"--workers-at: {name} is {address} on this machine: no other machine could reach worker 0 there",
                remedy="Give its address in place of its name, or name the address to bind in STREAMTRAIN_LISTEN.",
            )
        return address

    async def serve(self) -> None:
        """Until the round is over and its members know. The port is open."""
        assert self._server is not None
        try:
            await asyncio.gather(self._over.wait(), self._watch())
        finally:
            self._server.close()
            for writer in list(self._strangers):
                writer.transport.abort()
        for member in list(self._members.values()):
            with contextlib.suppress(OSError, asyncio.TimeoutError):
                code, message = self.result or (0, "")
                await asyncio.wait_for(member.channel.send("end", exit_code=code, message=message), 1)
                member.channel.close()

    def _end(self, exit_code: int, message: str) -> None:
        if self.result is None:
            self.result = (exit_code, message)
            self._over.set()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):  # of a connection that ends while it is written to
            try:
                admitted = await self._admit(reader, writer)
                if admitted is not None:
                    await self._member(admitted)
            finally:
                if not self._over.is_set():
                    writer.close()

    async def _admit(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Channel | None:
        """None for a stranger. The oldest one makes room for the next: a role proves itself in milliseconds."""
        if len(self._strangers) >= STRANGERS:
            oldest = next(iter(self._strangers))
            del self._strangers[oldest]
            oldest.transport.abort()
        self._strangers[writer] = None
        try:
            return await channel.admit(reader, writer, self.secret)
        except (Refused, PeerLost) as error:
            self._name_stranger(writer, str(error))
            return None
        finally:
            self._strangers.pop(writer, None)

    def _name_stranger(self, writer: asyncio.StreamWriter, reason: str) -> None:
        peer = writer.get_extra_info("peername")
        host = str(peer[0]) if peer else "?"
        if host in self._named or len(self._named) >= NAMED:
            return
        self._named.add(host)
        log.warning("a connection from %s was refused: %s; the round goes on, and this is logged once", host, reason)

    async def _member(self, admitted: Channel) -> None:
        role = "?"
        try:
            role = await self._join(admitted)
            while not self._over.is_set():
                self._handle(role, await admitted.receive(SILENCE_S))
        except PeerLost as error:
            if role != "?" and self._members.get(role, _Member("", admitted)).channel is admitted:
                self._lost(role, str(error))

    async def _join(self, admitted: Channel) -> str:
        request = await admitted.receive(SILENCE_S)
        role = f"{request.get('role')} {request.get('index')}"
        expected = [self.job, list(self.addresses.servers), list(self.addresses.workers)]
        if [request.get("job"), request.get("servers"), request.get("workers")] != expected:
            message = f"{role} names another job, or other servers and workers, than worker 0: {expected}"
        elif role not in self._roles():
            message = f"{role} is none of the job's roles"
        else:
            await self._add(role, admitted)
            return role
        log.warning("%s", message)
        await admitted.send("end", exit_code=ConfigError.exit_code, message=message)
        raise PeerLost(message)

    def _roles(self) -> list[str]:
        return [
            f"{kind} {index}"
            for kind, entries in (("server", self.addresses.servers), ("worker", self.addresses.workers))
            for index in range(len(entries))
        ]

    async def _add(self, role: str, admitted: Channel) -> None:
        if role in self._members:
            if self._begun:
                self._lost(role, "it was restarted")
            else:
                self._members.pop(role).channel.close()
        self._members[role] = _Member(role, admitted)
        wanted = len(self._roles())
        log.info("%s has joined, %d of %d have", role, len(self._members), wanted)
        if not self._begun and len(self._members) == wanted:
            await self._begin()

    async def _begin(self) -> None:
        while True:
            try:
                resolved = self.addresses.resolved()
                break
            except OSError as error:
                log.warning("a host name of --servers-at or --workers-at does not resolve yet: %s", error)
                await asyncio.sleep(1)
        self._begun = True
        name = uuid.uuid4().hex
        for member in self._members.values():
            with contextlib.suppress(OSError):
                await member.channel.send(
                    "begin", servers=resolved.servers, workers=resolved.workers, gloo=resolved.gloo, round=name
                )

    def _handle(self, role: str, message: dict[str, Any]) -> None:
        """Raises PeerLost for a message that this version does not know."""
        try:
            self._act_on(role, message)
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise PeerLost(f"it sent a {message['kind']} that this version does not know: {error}") from error

    def _act_on(self, role: str, message: dict[str, Any]) -> None:
        kind = message["kind"]
        if kind == "done":
            self._members[role].done = True
            if all(m.done for r, m in self._members.items() if r.startswith("worker")):
                self._end(0, "all workers are done")
        elif kind == "failed":
            code = int(message["exit_code"])
            if self._stopping and code not in FINAL:  # another one has left at the stop
                self._end(0, f"{STOPPED}; {role}: {message['message']}")
                return
            self._end(code if code in FINAL else PeerLost.exit_code, f"{role}: {message['message']}")
        elif kind == "beat" and self._begun:
            self._stopping = self._stopping or (role.startswith("worker") and bool(message.get("stopping")))
            self._samples.pop(role, None)
            if role == "worker 0":
                self._exchange = message.get("exchange")
            elif message.get("exchanged"):
                self._exchanged[role] = dict(message["exchanged"])
            if message.get("sample"):
                self._samples[role] = _SAMPLE.validate_python({**message["sample"], "role": role})
                if self._samples[role].phase not in ("", STARTING):
                    self._working.add(role)

    def _lost(self, role: str, reason: str) -> None:
        member = self._members.pop(role, None)
        self._samples.pop(role, None)
        if self._begun and not (member is not None and member.done and role.startswith("worker")):
            self._end(PeerLost.exit_code, f"{role}: {reason}")

    def _end_if_stopped(self, now: float) -> None:
        """Ends the round when the workers have nothing left to finish: see verdict. A pass takes all workers, so that
        none is begun while one of them is starting."""
        members = {role: m for role, m in self._members.items() if role.startswith("worker")}
        if any(not member.done and role not in self._working for role, member in members.items()):
            self._end(0, f"{STOPPED}, before the workers had begun")
            return
        first = members.get("worker 0")
        sample = self._samples.get("worker 0")
        quiet = first is not None and is_quiet(sample.phase if sample else "", done=first.done)
        self._quiet_since = (self._quiet_since or now) if quiet else None
        if self._quiet_since is not None and now - self._quiet_since > QUIET_S:
            self._end(0, f"{STOPPED}, while nothing was worked on")

    def _answer(self) -> dict[str, Any] | None:
        """What the machines of all servers have done of the request; None while one has not."""
        if self._exchange is None:
            return None
        number = self._exchange.get("number")
        answers = [self._exchanged.get(f"server {index}") for index in range(len(self.addresses.servers))]
        if any(a is None or a.get("number") != number for a in answers):
            return None
        problems = [f"server {n}: {a['problem']}" for n, a in enumerate(answers) if a is not None and a.get("problem")]
        return {"number": number, "problem": "; ".join(problems)}

    async def _watch(self) -> None:
        """Beats to all members; ends the round when one of them hangs."""
        hangs = HangDetector()
        while not self._over.is_set():
            await asyncio.sleep(BEAT_S)
            for member in list(self._members.values()):
                with contextlib.suppress(OSError, asyncio.TimeoutError):
                    await asyncio.wait_for(
                        member.channel.send(
                            "beat", stopping=self._stopping, exchange=self._exchange, exchanged=self._answer()
                        ),
                        1,
                    )
            if self._begun and self._stopping:
                self._end_if_stopped(time.monotonic())
            if self._begun:
                reason = hangs.check(time.monotonic(), list(self._samples.values()))
                if reason is not None:
                    self._end(PeerLost.exit_code, reason)


async def join(
    addresses: Addresses,
    job: str,
    role: str,
    index: int,
    secret: bytes = b"",
    stop: Sequence[asyncio.Event] = (),
    on_wait: Callable[[str], None] = lambda _what: None,
) -> Channel | None:
    """Connects to the rendezvous, as long as it takes, and joins; None when stopped before. on_wait(what): at each
    failed try, with address, reason and since when.

    Raises ConfigError when worker 0 has another secret.
    """
    host, port = addresses.rendezvous
    since = time.strftime("%Y-%m-%d %H:%M:%S")
    logged = ""
    while not any(event.is_set() for event in stop):
        try:
            joined = await _introduced(host, port, secret)
            await joined.send(
                "join", job=job, role=role, index=index, servers=addresses.servers, workers=addresses.workers
            )
            return joined
        except (OSError, asyncio.TimeoutError, PeerLost) as error:
            sentence = f"waiting for worker 0 at {host}:{port} since {since}: {_reason(error)}"
            on_wait(sentence)
            if sentence != logged:
                log.info("%s", sentence)
                logged = sentence
            await asyncio.sleep(0.5)
    return None


def _reason(error: Exception) -> str:
    if isinstance(error, PeerLost):
        return str(error)
    if isinstance(error, socket.gaierror):
        return f"the name does not resolve: {error.strerror}"
    if isinstance(error, asyncio.TimeoutError):
        return "no answer (timeout)"
    if isinstance(error, ConnectionRefusedError):
        return "the connection was refused: nothing listens there yet"
    return str(error)


async def _introduced(host: str, port: int, secret: bytes) -> Channel:
    reader, writer = await asyncio.wait_for(asyncio.open_connection(host, port, limit=channel.LIMIT), 3)
    try:
        return await channel.introduce(reader, writer, secret, f"{host}:{port}")
    except BaseException:
        writer.close()
        raise
