"""The rendezvous of roles on several machines, with agents and strangers that are played by the test."""

import asyncio
import contextlib
import logging
import socket
from collections.abc import Awaitable, Callable

import pytest

from streamtrain.errors import ConfigError, Fenced, PeerLost
from streamtrain.runtime import channel
from streamtrain.runtime import rendezvous as module
from streamtrain.runtime.channel import Channel as Agent
from streamtrain.runtime.rendezvous import STRANGERS, Addresses, Rendezvous, join
from tests.support.ports import free_port, free_port_pair

SECRET = b"of this job and no other"
Stranger = tuple[asyncio.StreamReader, asyncio.StreamWriter]


def addresses() -> Addresses:
    worker = free_port_pair()
    return Addresses(("127.0.0.1:1000",), (f"127.0.0.1:{worker}",))


async def next_message(agent: Agent, kind: str) -> dict[str, object]:
    """The next message of that kind."""
    while True:
        message = await agent.receive(10)
        if message["kind"] == kind:
            return message


def play(scene: Callable[[Rendezvous, Agent, Agent], Awaitable[None]]) -> tuple[int, str] | None:
    """Both roles join and the round begins; then the scene; returns its result."""

    async def all_of_it() -> tuple[int, str] | None:
        at = addresses()
        held = Rendezvous("job", at, SECRET)
        await held.open()
        serving = asyncio.create_task(held.serve())
        server = await join(at, "job", "server", 0, SECRET)
        worker = await join(at, "job", "worker", 0, SECRET)
        assert server is not None and worker is not None
        for agent in (server, worker):
            begin = await next_message(agent, "begin")
            assert begin["workers"] == list(at.workers)
        await scene(held, server, worker)
        await asyncio.wait_for(serving, 15)
        return held.result

    return asyncio.run(all_of_it())


def test_all_done_ends_the_round_well() -> None:
    async def scene(_held: Rendezvous, server: Agent, worker: Agent) -> None:
        await worker.send("done")
        assert (await next_message(server, "end"))["exit_code"] == 0

    assert play(scene) == (0, "all workers are done")


def test_a_dead_role_ends_it_for_all() -> None:
    async def scene(_held: Rendezvous, server: Agent, worker: Agent) -> None:
        server.close()
        assert (await next_message(worker, "end"))["exit_code"] == PeerLost.exit_code

    assert play(scene) == (PeerLost.exit_code, "server 0: its connection was closed")


def test_a_silent_role_counts_as_dead(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SILENCE_S", 1.5)

    async def scene(_held: Rendezvous, _server: Agent, worker: Agent) -> None:
        async def beat() -> None:
            while True:
                await worker.send("beat", sample=None)
                await asyncio.sleep(0.3)

        beating = asyncio.create_task(beat())
        await next_message(worker, "end")
        beating.cancel()

    assert play(scene) == (PeerLost.exit_code, "server 0: it sent nothing for 2 s")


def test_an_error_that_a_restart_cannot_fix_keeps_its_code() -> None:
    async def scene(_held: Rendezvous, server: Agent, worker: Agent) -> None:
        await worker.send("failed", exit_code=Fenced.exit_code, message="a newer one runs")
        assert (await next_message(server, "end"))["message"] == "worker 0: a newer one runs"

    assert play(scene) == (Fenced.exit_code, "worker 0: a newer one runs")


def test_a_role_that_was_restarted_ends_the_round() -> None:
    async def scene(held: Rendezvous, _server: Agent, worker: Agent) -> None:
        await join(held.addresses, "job", "server", 0, SECRET)
        await next_message(worker, "end")

    assert play(scene) == (PeerLost.exit_code, "server 0: it was restarted")


def test_a_role_of_another_job_is_refused() -> None:
    async def all_of_it() -> None:
        at = addresses()
        held = Rendezvous("job", at, SECRET)
        await held.open()
        serving = asyncio.create_task(held.serve())
        for job, index in (("another job", 0), ("job", 1)):
            other = await join(at, job, "server", index, SECRET)
            assert other is not None
            assert (await next_message(other, "end"))["exit_code"] == ConfigError.exit_code
        assert held.result is None
        serving.cancel()

    asyncio.run(all_of_it())


def test_a_message_of_another_version_ends_the_round_by_name() -> None:
    async def scene(_held: Rendezvous, server: Agent, worker: Agent) -> None:
        await worker.send("beat", sample={"temperature": 3})
        assert "a beat that this version does not know" in str((await next_message(server, "end"))["message"])

    result = play(scene)
    assert result is not None and result[0] == PeerLost.exit_code


async def connect(held: Rendezvous) -> Stranger:
    return await asyncio.open_connection(*held.addresses.rendezvous)


async def everything(stranger: Stranger) -> bytes:
    """All that it is sent until its connection ends."""
    with contextlib.suppress(ConnectionError):
        return await asyncio.wait_for(stranger[0].read(), 10)
    return b""


LINES = [
    b'{"kind":"join","job":"job","role":"server","index":0,"servers":[],"workers":[]}\n',
    b'{"kind":"failed","exit_code":2,"message":"x"}\n',
    b"GET / HTTP/1.1\r\nHost: worker-0\r\n\r\n",
    b"\x00\xff" * 50 + b"\n",
    b"0" * 64 + b" " + b"0" * 64 + b"\n",
    b"x" * (channel.LIMIT * 3),
]


@pytest.mark.parametrize("line", LINES, ids=["join", "failed", "http", "bytes", "proof", "endless"])
def test_a_strangers_line_is_not_heard_and_tells_it_nothing(line: bytes, caplog: pytest.LogCaptureFixture) -> None:
    async def scene(held: Rendezvous, _server: Agent, worker: Agent) -> None:
        for _ in range(2):
            stranger = await connect(held)
            stranger[1].write(line)
            told = await everything(stranger)
            assert b"job" not in told and str(held.addresses.rendezvous[1]).encode() not in told
        assert held.result is None
        await worker.send("done")

    assert play(scene) == (0, "all workers are done")
    refused = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    assert len(refused) == 1 and "a connection from 127.0.0.1 was refused" in refused[0]


def test_silent_strangers_neither_keep_a_role_out_nor_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    """More of them than are held, before any role joins; the round does not wait for them either."""
    monkeypatch.setattr(channel, "PROVE_S", 60)

    async def all_of_it() -> None:
        held = Rendezvous("job", addresses(), SECRET)
        await held.open()
        serving = asyncio.create_task(held.serve())
        silent = [await connect(held) for _ in range(STRANGERS + 10)]
        server, agent = [await join(held.addresses, "job", kind, 0, SECRET) for kind in ("server", "worker")]
        assert server is not None and agent is not None
        await next_message(agent, "begin")
        assert [await everything(s) for s in silent[:10]]
        assert len(held._strangers) <= STRANGERS
        await agent.send("done")
        await asyncio.wait_for(serving, 15)
        assert held.result == (0, "all workers are done")
        for stranger in silent:
            await everything(stranger)

    asyncio.run(all_of_it())


def test_a_silent_stranger_is_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channel, "PROVE_S", 0.5)

    async def scene(held: Rendezvous, _server: Agent, worker: Agent) -> None:
        assert (await everything(await connect(held))).startswith(channel.GREETING)
        await worker.send("done")

    assert play(scene) == (0, "all workers are done")


@pytest.mark.parametrize("theirs", [b"another secret, long enough", b""])
def test_a_role_with_another_secret_is_refused_and_says_so(theirs: bytes, caplog: pytest.LogCaptureFixture) -> None:
    async def scene(held: Rendezvous, _server: Agent, worker: Agent) -> None:
        for _ in range(3):
            with pytest.raises(ConfigError, match="has another STREAMTRAIN_SECRET"):
                await join(held.addresses, "job", "server", 0, theirs)
        assert held.result is None
        await worker.send("done")

    assert play(scene) == (0, "all workers are done")
    assert [r.getMessage() for r in caplog.records if "has another secret" in r.getMessage()] != []
    assert caplog.text.count("has another secret") == 1


def test_what_listens_at_worker_0_and_is_no_rendezvous_is_waited_out() -> None:
    """An agent that meets a web server or a closing port at that address waits on, until the rendezvous is there."""

    async def all_of_it() -> None:
        at = addresses()

        async def web(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            writer.close()

        other = await asyncio.start_server(web, *at.rendezvous)
        joining = asyncio.create_task(join(at, "job", "worker", 0, SECRET))
        done, _ = await asyncio.wait([joining], timeout=1)
        assert not done
        other.close()
        held = Rendezvous("job", at, SECRET)
        await held.open()
        serving = asyncio.create_task(held.serve())
        assert await asyncio.wait_for(joining, 10) is not None
        serving.cancel()

    asyncio.run(all_of_it())


def bound(held: Rendezvous) -> list[str]:
    assert held._server is not None
    return [s.getsockname()[0] for s in held._server.sockets]


def test_the_address_that_is_meant_is_bound() -> None:
    async def opened(workers: str, listen: str = "") -> list[str]:
        held = Rendezvous("job", Addresses(("10.0.0.1:1",), (workers,)), SECRET, listen)
        await held.open()
        assert held._server is not None
        addresses = bound(held)
        held._server.close()
        return addresses

    async def all_of_it() -> None:
        port = free_port()
        assert await opened(f"127.0.0.1:{port}") == ["127.0.0.1"]
        assert await opened(f"localhost:{port}") == ["127.0.0.1"]
        assert await opened(f"192.0.2.1:{port}", "127.0.0.1") == ["127.0.0.1"]
        assert await opened(f"192.0.2.1:{port}", "0.0.0.0") == ["0.0.0.0"]
        with pytest.raises(ConfigError, match=r"192.0.2.1, port .* cannot be opened.*STREAMTRAIN_LISTEN"):
            await opened(f"192.0.2.1:{port}")
        with pytest.raises(PeerLost, match=r"host name nowhere.invalid, of worker 0, does not resolve"):
            await opened(f"nowhere.invalid:{port}")

    asyncio.run(all_of_it())


def test_a_host_name_that_is_loopback_here_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """As /etc/hosts of some distributions has the machine's own name."""
    monkeypatch.setattr(socket, "gethostbyname", lambda _name: "127.0.1.1")
    held = Rendezvous("job", Addresses(("a:1",), (f"worker-0:{free_port()}",)), SECRET)
    with pytest.raises(ConfigError, match=r"worker-0 is 127.0.1.1 on this machine"):
        asyncio.run(held.open())


@pytest.mark.parametrize("bad", ["", "host", "host:0", "host:70000", "host:²", "[::1]:7000", "a:1,a:1", "a:1,b"])
def test_bad_addresses_are_refused(bad: str) -> None:
    with pytest.raises(ConfigError, match="--servers-at"):
        Addresses.parse(bad, "w:1")
