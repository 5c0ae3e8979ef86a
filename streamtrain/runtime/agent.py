"""One role, server or worker, of a job on several machines: joins the rendezvous, runs the role, ends with it.

An agent ends, with exit code 6, as soon as any other role has died: whatever started it (a container's restart policy,
an init system) starts it again, and all roles meet at the newest checkpoint.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import shutil
import signal
import tempfile
import threading
from collections.abc import Coroutine
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

from streamtrain.checkpoint.identity import IdentityCheck
from streamtrain.config import JobConfig
from streamtrain.contracts import phases
from streamtrain.errors import ChildFailed, ConfigError, PeerLost, TrainingError
from streamtrain.object_store import ObjectStore
from streamtrain.runtime import child_state, exchange, exposure, launch
from streamtrain.runtime.channel import Channel
from streamtrain.runtime.child_state import ChildState
from streamtrain.runtime.exchange import Machine
from streamtrain.runtime.hang_detector import RoleSample
from streamtrain.runtime.launch import Place
from streamtrain.runtime.observer import Observer
from streamtrain.runtime.part_state import PartReporter
from streamtrain.runtime.rendezvous import BEAT_S, SILENCE_S, Addresses, Rendezvous, join
from streamtrain.runtime.secret import shared_secret
from streamtrain.runtime.verdict import QUIET_S, STOP_S

Result = TypeVar("Result")

log = logging.getLogger("streamtrain.agent")


class Agent:
    """Runs role `kind` number `index` of a job whose roles are at `addresses`, for one round.

    listen: the address that worker 0 binds, when its own address is not one of this machine. Raises ConfigError for an
    index that no address has, and when addresses that are not loopback have no secret: see secret.py.
    """

    def __init__(
        self,
        config: JobConfig,
        kind: Literal["server", "worker"],
        index: int,
        addresses: Addresses,
        listen: str = "",
        stop: threading.Event | None = None,
    ) -> None:
        peers = addresses.servers if kind == "server" else addresses.workers
        if not 0 <= index < len(peers):
            raise ConfigError(f"--index {index}: there are {len(peers)} {kind}s, numbered from 0")
        if len(addresses.workers) > config.stream.partitions:
            raise ConfigError(
                f"--workers-at names {len(addresses.workers)} workers, stream.partitions is {config.stream.partitions}",
                remedy="A worker needs a partition: use fewer workers.",
            )
        self._config = config
        self._kind = kind
        self._index = index
        self._addresses = addresses
        self._listen = listen
        self._stop = stop
        self._report = PartReporter(config.state_dir, f"{kind}-{index}")
        self._secret = shared_secret([*addresses.hosts, *([listen] if listen else [])])

    def run(self) -> None:
        """Returns when the stream's end is reached, or after a clean stop.

        Raises PeerLost when any role died or hangs, ChildFailed for an error that a restart cannot fix.
        """
        IdentityCheck(self._config).newest()
        exposure.warn_of_servers(self._addresses.hosts)
        code, message = asyncio.run(self._round())
        if code:
            self._report(phases.failed(code, message))
        else:
            self._report(phases.STOPPED if message.startswith(phases.STOPPED) else phases.DONE)
            log.info("the round is over: %s", message)
        if code == PeerLost.exit_code:
            raise PeerLost(message, remedy="Start this role again: all roles meet at the newest checkpoint.")
        if code:
            raise ChildFailed(message, code)

    async def _round(self) -> tuple[int, str]:
        stop = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        if self._stop is not None and self._stop.is_set():  # before these handlers
            stop.set()
        rendezvous = held = None
        if (self._kind, self._index) == ("worker", 0):
            held = Rendezvous(self._config.stream.job, self._addresses, self._secret, self._listen)
            await held.open()
            rendezvous = asyncio.create_task(held.serve())
        run_dir = Path(tempfile.mkdtemp(prefix="streamtrain-role-"))
        try:
            return await self._take_part(stop, run_dir, rendezvous)
        finally:
            shutil.rmtree(run_dir, ignore_errors=True)
            if rendezvous is not None:
                if held is not None and held.result is None:
                    rendezvous.cancel()  # the others are told nothing: they wait for this role's next start
                with contextlib.suppress(asyncio.TimeoutError, asyncio.CancelledError):
                    await asyncio.wait_for(rendezvous, 5)  # it informs the other agents

    async def _take_part(
        self, stop: asyncio.Event, run_dir: Path, rendezvous: asyncio.Task[None] | None
    ) -> tuple[int, str]:
        joining = join(
            self._addresses, self._config.stream.job, self._kind, self._index, self._secret, [stop], self._report
        )
        channel = await _unless(stop, joining)
        if channel is None:
            return 0, phases.STOPPED
        begin = await _unless(stop, self._wait_for_begin(channel, stop, rendezvous))
        if begin is None:
            channel.close()
            return 0, phases.STOPPED
        if begin.get("kind") != "begin":
            return int(begin.get("exit_code", 0)), str(begin.get("message", ""))
        place = Place(
            self._kind, self._index, begin["servers"], begin["workers"], begin["gloo"], str(begin.get("round", ""))
        )
        arguments = ["-m", str(self._config.path)]
        role = launch.start_role(launch.ROLE_SCRIPT, arguments, place, run_dir, {child_state.EXCHANGE: "1"})
        try:
            return await self._watch(role, channel, stop, run_dir)
        finally:
            role.kill()
            role.wait()
            channel.close()

    async def _wait_for_begin(
        self, channel: Channel, stop: asyncio.Event, rendezvous: asyncio.Task[None] | None
    ) -> dict[str, Any]:
        while not stop.is_set():
            self._report("waiting for the other roles")
            if rendezvous is not None and rendezvous.done():
                rendezvous.result()
            try:
                message = await channel.receive(SILENCE_S)
            except PeerLost as error:
                return {"exit_code": PeerLost.exit_code, "message": f"the rendezvous at worker 0: {error.message}"}
            if message["kind"] != "beat":
                return message
        return {}

    async def _watch(
        self,
        role: launch.Child,
        channel: Channel,
        stop: asyncio.Event,
        run_dir: Path,
    ) -> tuple[int, str]:
        """Reports how the role is until the rendezvous, or its silence, ends the round."""
        store = self._config.store
        others = _Others(Machine(self._config.model_save_path, ObjectStore(store)) if store is not None else None)
        end = asyncio.create_task(_until_end(channel, others))
        observer = Observer()
        reported = False
        asked: float | None = None
        loop = asyncio.get_running_loop()
        while True:
            if stop.is_set() and asked is None:
                asked = loop.time()
                if self._kind == "worker" and role.poll() is None:
                    role.send_signal(signal.SIGTERM)  # all workers end at the same pass
            if asked is not None and self._kind == "server" and not others.stopping and loop.time() - asked > QUIET_S:
                return 0, f"{phases.STOPPED}, this server alone: the round ends for the others, who start again"
            if asked is not None and loop.time() - asked > STOP_S:
                return TrainingError.exit_code, f"the round did not end within {STOP_S:.0f} s of a stop"
            states = child_state.read(run_dir)
            samples = await asyncio.to_thread(observer.sample, states)
            if not any(sample.stopped or sample.healthy is False for sample in samples):
                self._report((samples[0].phase if samples else "") or "the role runs")
            with contextlib.suppress(OSError):
                sample = _without_role(samples[0]) if samples else None
                await channel.send("beat", sample=sample, stopping=asked is not None, **self._exchange(run_dir, others))
                if role.poll() is not None and not reported:
                    reported = True
                    await self._report_end(channel, role.returncode, states)
            done, _ = await asyncio.wait([end], timeout=BEAT_S)
            if done:
                return end.result()

    def _exchange(self, run_dir: Path, others: _Others) -> dict[str, Any]:
        """What this role asks of the servers' machines, or has done for worker 0."""
        if (self._kind, self._index) == ("worker", 0):
            if others.exchanged is not None:
                exchange.answer(run_dir, others.exchanged)
            return {"exchange": exchange.requested(run_dir)}
        if self._kind == "server" and others.machine is not None:
            if others.exchange is not None and (others.doing is None or others.doing.done()):
                others.doing = asyncio.create_task(asyncio.to_thread(others.machine.perform, others.exchange))
            return {"exchanged": others.machine.done}
        return {}

    async def _report_end(self, channel: Channel, exit_code: int, states: list[ChildState]) -> None:
        """A role that ended without reporting it is lost, whatever its exit code: see child_state."""
        failure = child_state.failure("its process", exit_code, states)
        if failure is not None:
            await channel.send("failed", exit_code=failure.exit_code, message=failure.message)
        elif states and states[-1].state == "done":
            await channel.send("done")
        else:
            await channel.send("failed", exit_code=1, message=f"its process ended with exit code {exit_code}")


def _without_role(sample: RoleSample) -> dict[str, Any]:
    return {k: v for k, v in asdict(sample).items() if k != "role"}


@dataclass
class _Others:
    """stopping: whether a worker has been asked to end. exchange, exchanged: see rendezvous. machine: this one, of a
    job with a store; doing: what it does for worker 0."""

    machine: Machine | None = None
    stopping: bool = False
    exchange: dict[str, Any] | None = None
    exchanged: dict[str, Any] | None = None
    doing: asyncio.Task[None] | None = None


async def _unless(stop: asyncio.Event, waiting: Coroutine[Any, Any, Result]) -> Result | None:
    """What it returns or raises; None when `stop` is set before."""
    task, stopped = asyncio.create_task(waiting), asyncio.create_task(stop.wait())
    await asyncio.wait([task, stopped], return_when=asyncio.FIRST_COMPLETED)
    stopped.cancel()
    if task.done():
        return task.result()
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    return None


async def _until_end(channel: Channel, others: _Others) -> tuple[int, str]:
    while True:
        try:
            message = await channel.receive(SILENCE_S)
        except PeerLost as error:
            return PeerLost.exit_code, f"worker 0, where all roles meet: {error.message}"
        others.stopping = others.stopping or bool(message.get("stopping"))
        others.exchange, others.exchanged = message.get("exchange"), message.get("exchanged")
        if message["kind"] == "end":
            return int(message["exit_code"]), str(message["message"])
