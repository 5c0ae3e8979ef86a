"""The rendezvous of roles on several machines, with agents that are played by the test."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from streamtrain.errors import ConfigError, Fenced, PeerLost
from streamtrain.runtime import rendezvous as module
from streamtrain.runtime.rendezvous import Addresses, Rendezvous, join, receive, send
from tests.support.ports import free_port_pair

Agent = tuple[asyncio.StreamReader, asyncio.StreamWriter]


def addresses() -> Addresses:
    worker = free_port_pair()
    return Addresses(("127.0.0.1:1000",), (f"127.0.0.1:{worker}",))


async def next_message(agent: Agent, kind: str) -> dict[str, object]:
    """The next message of that kind."""
    while True:
        message = await receive(agent[0], 10)
        if message["kind"] == kind:
            return message


def play(scene: Callable[[Rendezvous, Agent, Agent], Awaitable[None]]) -> tuple[int, str] | None:
    """Both roles join and the round begins; then the scene; returns its result."""

    async def all_of_it() -> tuple[int, str] | None:
        at = addresses()
        held = Rendezvous("job", at)
        serving = asyncio.create_task(held.serve())
        await asyncio.sleep(0)
        server = await join(at, "job", "server", 0)
        worker = await join(at, "job", "worker", 0)
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
        await send(worker[1], "done")
        assert (await next_message(server, "end"))["exit_code"] == 0

    assert play(scene) == (0, "all workers are done")


def test_a_dead_role_ends_it_for_all() -> None:
    async def scene(_held: Rendezvous, server: Agent, worker: Agent) -> None:
        server[1].close()
        assert (await next_message(worker, "end"))["exit_code"] == PeerLost.exit_code

    assert play(scene) == (PeerLost.exit_code, "server 0: its connection was closed")


def test_a_silent_role_counts_as_dead(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SILENCE_S", 1.5)

    async def scene(_held: Rendezvous, _server: Agent, worker: Agent) -> None:
        async def beat() -> None:
            while True:
                await send(worker[1], "beat", sample=None)
                await asyncio.sleep(0.3)

        beating = asyncio.create_task(beat())
        await next_message(worker, "end")
        beating.cancel()

    assert play(scene) == (PeerLost.exit_code, "server 0: it sent nothing for 2 s")


def test_an_error_that_a_restart_cannot_fix_keeps_its_code() -> None:
    async def scene(_held: Rendezvous, server: Agent, worker: Agent) -> None:
        await send(worker[1], "failed", exit_code=Fenced.exit_code, message="a newer one runs")
        assert (await next_message(server, "end"))["message"] == "worker 0: a newer one runs"

    assert play(scene) == (Fenced.exit_code, "worker 0: a newer one runs")


def test_a_role_that_was_restarted_ends_the_round() -> None:
    async def scene(held: Rendezvous, _server: Agent, worker: Agent) -> None:
        await join(held.addresses, "job", "server", 0)
        await next_message(worker, "end")

    assert play(scene) == (PeerLost.exit_code, "server 0: it was restarted")


def test_a_role_of_another_job_is_refused() -> None:
    async def all_of_it() -> None:
        at = addresses()
        held = Rendezvous("job", at)
        serving = asyncio.create_task(held.serve())
        await asyncio.sleep(0)
        stranger = await join(at, "another job", "server", 0)
        assert stranger is not None
        assert (await next_message(stranger, "end"))["exit_code"] == ConfigError.exit_code
        assert held.result is None
        serving.cancel()

    asyncio.run(all_of_it())


@pytest.mark.parametrize("bad", ["", "host", "host:0", "host:70000", "a:1,a:1", "a:1,b"])
def test_bad_addresses_are_refused(bad: str) -> None:
    with pytest.raises(ConfigError, match="--servers-at"):
        Addresses.parse(bad, "w:1")
