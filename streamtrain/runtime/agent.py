"""One role, server or worker, of a job on several machines: joins the meeting, runs the role, ends with it.

A guard ends, with exit code 6, as soon as any other role has died: whatever started it (a container's restart
policy, an init system) starts it again, and all meet at the newest checkpoint.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

from streamtrain.config import JobConfig
from streamtrain.engine.environment import engine_environment
from streamtrain.errors import ConfigError, PeerLost, StreamtrainError, TrainingError
from streamtrain.processes import die_with_parent
from streamtrain.runtime import role_state
from streamtrain.runtime.observer import Sampler
from streamtrain.runtime.rendezvous import BEAT_S, SILENCE_S, Addresses, Meeting, join, receive, send

log = logging.getLogger("streamtrain.guard")
ROLE_SCRIPT = Path(__file__).parent.with_name("online_trainer.py")
#: Seconds that a worker has to end after SIGTERM.
STOP_S = 60.0


class RoundOver(StreamtrainError):
    """The round ended with an error, of this role or of another."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class Guard:
    """Runs role `kind` number `index` of a job whose roles are at `addresses`, for one round.

    Raises ConfigError for an index that is none.
    """

    def __init__(self, config: JobConfig, kind: Literal["server", "worker"], index: int, addresses: Addresses) -> None:
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

    def run(self) -> None:
        """Returns when the stream's end is reached, or after a clean stop.

        Raises PeerLost when any role died or hangs, RoundOver for an error that a restart cannot mend.
        """
        code, message = asyncio.run(self._round())
        if code == PeerLost.exit_code:
            raise PeerLost(message, remedy="Start this role again: all meet at the newest checkpoint.")
        if code:
            raise RoundOver(message, code)

    async def _round(self) -> tuple[int, str]:
        stop = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        meeting = None
        if (self._kind, self._index) == ("worker", 0):
            meeting = asyncio.create_task(Meeting(self._config.stream.job, self._addresses).serve())
        run_dir = Path(tempfile.mkdtemp(prefix="streamtrain-role-"))
        try:
            return await self._take_part(stop, run_dir, meeting)
        finally:
            shutil.rmtree(run_dir, ignore_errors=True)
            if meeting is not None:
                with contextlib.suppress(asyncio.TimeoutError, asyncio.CancelledError):
                    await asyncio.wait_for(meeting, 5)  # it tells the others

    async def _take_part(
        self, stop: asyncio.Event, run_dir: Path, meeting: asyncio.Task[None] | None
    ) -> tuple[int, str]:
        joined = await join(self._addresses, self._config.stream.job, self._kind, self._index, [stop])
        if joined is None:
            return 0, "stopped"
        reader, writer = joined
        begin = await self._wait_for_begin(reader, stop, meeting)
        if begin.get("kind") != "begin":
            return int(begin.get("exit_code", 0)), str(begin.get("message", ""))
        role = self._start(begin, run_dir)
        try:
            return await self._watch(role, reader, writer, stop, run_dir)
        finally:
            role.kill()
            role.wait()
            writer.close()

    async def _wait_for_begin(
        self, reader: asyncio.StreamReader, stop: asyncio.Event, meeting: asyncio.Task[None] | None
    ) -> dict[str, Any]:
        while not stop.is_set():
            if meeting is not None and meeting.done():
                meeting.result()
            try:
                said = await receive(reader, SILENCE_S)
            except PeerLost as error:
                return {"exit_code": PeerLost.exit_code, "message": f"the meeting at worker 0: {error.message}"}
            if said["kind"] != "beat":
                return said
        return {}

    async def _watch(
        self,
        role: subprocess.Popen[bytes],
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        stop: asyncio.Event,
        run_dir: Path,
    ) -> tuple[int, str]:
        """Tells how the role is until the meeting, or its silence, ends the round."""
        end = asyncio.create_task(_until_end(reader))
        sampler = Sampler()
        told = False
        asked: float | None = None
        loop = asyncio.get_running_loop()
        while True:
            if stop.is_set() and asked is None:
                asked = loop.time()
                if self._kind == "worker" and role.poll() is None:
                    role.send_signal(signal.SIGTERM)  # all workers end at the same pass
            if asked is not None and loop.time() - asked > STOP_S:
                return TrainingError.exit_code, f"the round did not end within {STOP_S:.0f} s of a stop"
            states = role_state.read(run_dir)
            samples = await asyncio.to_thread(sampler.take, states)
            with contextlib.suppress(OSError):
                await send(writer, "beat", sample=_without_role(samples[0]) if samples else None)
                if role.poll() is not None and not told:
                    told = True
                    await self._tell(writer, role, states)
            done, _ = await asyncio.wait([end], timeout=BEAT_S)
            if done:
                return end.result()

    async def _tell(
        self, writer: asyncio.StreamWriter, role: subprocess.Popen[bytes], states: list[role_state.RoleState]
    ) -> None:
        last = states[-1] if states else None
        if last is not None and last.state == "done":
            await send(writer, "done")
        elif last is not None and last.state == "failed":
            await send(writer, "failed", exit_code=last.exit_code, message=last.message)
        else:
            await send(writer, "failed", exit_code=1, message=f"its process ended with exit code {role.returncode}")

    def _start(self, begin: dict[str, Any], run_dir: Path) -> subprocess.Popen[bytes]:
        """The role's process, with the environment that Paddle's launcher gives to one."""
        servers, workers = begin["servers"], begin["workers"]
        host, _, port = (servers if self._kind == "server" else workers)[self._index].rpartition(":")
        role = "PSERVER" if self._kind == "server" else "TRAINER"
        environment = {
            **os.environ,
            **engine_environment(),
            role_state.ENVIRONMENT: str(run_dir),
            role_state.KEPT: "1",
            "PYTHONUNBUFFERED": "1",
            "PADDLE_PSERVERS_IP_PORT_LIST": ",".join(servers),
            "PADDLE_TRAINER_ENDPOINTS": ",".join(workers),
            "PADDLE_PORT": port,
            "PADDLE_ROLE": role,
            "TRAINING_ROLE": role,
            "PADDLE_TRAINER_ID": str(self._index if self._kind == "worker" else 0),
            "PADDLE_TRAINERS_NUM": str(len(workers)),
            "POD_IP": host,
            "PADDLE_GLOO_RENDEZVOUS": "3",
            "PADDLE_GLOO_FS_PATH": str(run_dir / "gloo"),
            "PADDLE_GLOO_HTTP_ENDPOINT": begin["gloo"],
        }
        root = str(ROLE_SCRIPT.parent.parent)
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH", "")]))
        return subprocess.Popen(
            [sys.executable, "-u", str(ROLE_SCRIPT), "-m", str(self._config.path)],
            env=environment,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
            preexec_fn=die_with_parent,
        )


def _without_role(sample: Any) -> dict[str, Any]:
    return {k: v for k, v in asdict(sample).items() if k != "role"}


async def _until_end(reader: asyncio.StreamReader) -> tuple[int, str]:
    while True:
        try:
            said = await receive(reader, SILENCE_S)
        except PeerLost as error:
            return PeerLost.exit_code, f"worker 0, where all meet: {error.message}"
        if said["kind"] == "end":
            return int(said["exit_code"]), str(said["message"])
