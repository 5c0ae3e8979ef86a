"""The authenticated connection: both sides over a real socket, with someone between them who changes what passes."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from streamtrain.errors import PeerLost
from streamtrain.runtime import channel
from streamtrain.runtime.channel import Channel, Refused, admit, introduce

SECRET = b"a secret that both sides know"
#: Changes the lines that the agent sends: gets all lines so far, returns what is passed on in the last one's place.
Change = Callable[[list[bytes]], list[bytes]]


def unchanged(lines: list[bytes]) -> list[bytes]:
    return lines[-1:]


async def meet(scene: Callable[[Channel, Channel], Awaitable[None]], change: Change = unchanged) -> None:
    """scene(the rendezvous's end, the agent's end)."""
    admitted: asyncio.Future[Channel] = asyncio.get_running_loop().create_future()

    async def on_peer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            admitted.set_result(await admit(reader, writer, SECRET))
        except (Refused, PeerLost) as error:
            admitted.set_exception(error)

    async def between(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        onward = await asyncio.open_connection(*server.sockets[0].getsockname())
        lines: list[bytes] = []

        async def back() -> None:
            while line := await onward[0].readline():
                writer.write(line)

        returning = asyncio.create_task(back())
        while line := await reader.readline():
            lines.append(line)
            for passed in change(lines):
                onward[1].write(passed)
        returning.cancel()

    server = await asyncio.start_server(on_peer, "127.0.0.1", 0, limit=channel.LIMIT)
    relay = await asyncio.start_server(between, "127.0.0.1", 0, limit=channel.LIMIT)
    reader, writer = await asyncio.open_connection(*relay.sockets[0].getsockname())
    agent = await introduce(reader, writer, SECRET, "there:1")
    await scene(await admitted, agent)
    writer.close()


def test_messages_pass_both_ways_in_order() -> None:
    async def scene(held: Channel, agent: Channel) -> None:
        for number in range(3):
            await agent.send("beat", number=number)
            await held.send("beat", number=10 * number)
        for number in range(3):
            assert await held.receive(5) == {"kind": "beat", "number": number}
            assert await agent.receive(5) == {"kind": "beat", "number": 10 * number}

    asyncio.run(meet(scene))


CHANGES: dict[str, Change] = {
    "repeated": lambda lines: lines[-1:] * (1 if len(lines) == 1 else 2),
    "left out": lambda lines: [] if len(lines) == 2 else lines[-1:],
    "exchanged": lambda lines: {1: lines[:1], 2: []}.get(len(lines), lines[:0:-1]),
    "changed": lambda lines: [lines[-1].replace(b"first", b"worst")],
    "invented": lambda lines: [lines[-1], b"0" * 64 + b' {"kind":"failed"}\n'] if len(lines) == 2 else lines[-1:],
}


@pytest.mark.parametrize("how", CHANGES)
def test_a_message_that_is_not_the_agents_own_is_refused(how: str) -> None:
    async def scene(held: Channel, agent: Channel) -> None:
        await agent.send("beat", number="first")
        await agent.send("beat", number="second")
        with pytest.raises(PeerLost, match="not its own, was changed or repeated"):
            for _ in range(3):
                await held.receive(5)

    asyncio.run(meet(scene, CHANGES[how]))


def test_a_recorded_connection_proves_nothing_in_the_next_one() -> None:
    recorded: list[bytes] = []

    async def first(held: Channel, agent: Channel) -> None:
        await agent.send("done")
        await held.receive(5)

    def record(lines: list[bytes]) -> list[bytes]:
        recorded.append(lines[-1])
        return lines[-1:]

    async def replay() -> None:
        refused: asyncio.Future[str] = asyncio.get_running_loop().create_future()

        async def on_peer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                await admit(reader, writer, SECRET)
            except Refused as error:
                refused.set_result(str(error))

        server = await asyncio.start_server(on_peer, "127.0.0.1", 0)
        _, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        writer.writelines(recorded)
        assert await asyncio.wait_for(refused, 10) == "it has another secret, or none"

    asyncio.run(meet(first, record))
    assert len(recorded) == 2
    asyncio.run(replay())


def test_what_one_side_sent_does_not_come_back_as_the_others() -> None:
    """Sent back to its sender, a message does not count: each direction has a key of its own."""

    async def scene(held: Channel, agent: Channel) -> None:
        assert held._receive_key == agent._send_key != held._send_key == agent._receive_key

    asyncio.run(meet(scene))


def test_a_long_text_of_an_error_is_cut_and_passes() -> None:
    async def scene(held: Channel, agent: Channel) -> None:
        await agent.send("failed", message="x" * (2 * channel.LIMIT))
        assert (await held.receive(5))["message"] == "x" * channel.TEXT

    asyncio.run(meet(scene))
