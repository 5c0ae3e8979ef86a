"""Starts servers and workers through Paddle's launcher, watches them, starts all of them anew when one dies.

The launcher alone is not enough (measured): after a worker's crash it can end with exit code 0, and after a
server's death nothing ends at all, the workers hang. So each role is watched by its process, and a role that
ends well says so in its own file.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psutil
from tenacity import wait_exponential_jitter

from streamtrain.checkpoint.journal import Journal
from streamtrain.checkpoint.runs import Run
from streamtrain.config import JobConfig
from streamtrain.engine.environment import engine_environment
from streamtrain.errors import FINAL, StreamtrainError, TrainingError
from streamtrain.processes import die_with_parent, end_family
from streamtrain.runtime import role_state
from streamtrain.runtime.hang_detector import HangWatch
from streamtrain.runtime.observer import Sampler

log = logging.getLogger("streamtrain.supervisor")

ROLE_SCRIPT = Path(__file__).parent.with_name("online_trainer.py")
STOP_SECONDS = 60.0


class RoleError(StreamtrainError):
    """An error that a role ended with, with its exit code."""

    def __init__(self, state: role_state.RoleState) -> None:
        super().__init__(state.message)
        self.exit_code = state.exit_code


@dataclass(frozen=True)
class _Outcome:
    """How a run of all roles ended: well, or why not. final: a restart cannot mend it."""

    done: bool
    reason: str = ""
    final: role_state.RoleState | None = None


class Supervisor:
    """Runs `servers` servers and `workers` workers of a job until the stream's end.

    Set `stop` to end cleanly. owner: letters and digits that stay the same over restarts, by which a restart
    knows whether a newer trainer has taken over meanwhile. on_restart(number, reason) is called before each
    restart, tick() twice a second.
    """

    def __init__(
        self,
        config: JobConfig,
        *,
        servers: int | None = None,
        workers: int | None = None,
        stop: threading.Event | None = None,
        log_dir: Path | None = None,
        owner: str = "",
        on_restart: Callable[[int, str], None] = lambda _number, _reason: None,
        tick: Callable[[], None] = lambda: None,
    ) -> None:
        self._config = config
        self._servers = servers or config.stream.servers
        self._workers = workers or config.stream.workers
        if self._workers > config.stream.partitions:
            raise TrainingError(
                f"--workers {self._workers} is more than stream.partitions, {config.stream.partitions}",
                remedy="A worker needs a partition: use fewer workers.",
            )
        self._stop = stop or threading.Event()
        self._owner = owner or uuid.uuid4().hex
        self._since = Run(config.model_save_path).newest_number()
        self._log_dir = log_dir or config.path.parent / "log"
        self._on_restart = on_restart
        self._tick = tick
        self.restarts = 0
        self.role_pids: list[int] = []
        self._launcher: subprocess.Popen[bytes] | None = None

    def run(self) -> None:
        """Returns when all passes are trained, or after a clean stop.

        Raises RoleError for what a restart cannot mend, TrainingError after stream.max_restarts restarts
        without a finished pass.
        """
        journal = Journal(self._config.model_save_path)
        fruitless = 0
        furthest = max((r.of for r in journal.read()), default=None)
        while True:
            outcome = self._run_once()
            if outcome.done or self._stop.is_set():
                return
            if outcome.final is not None:
                raise RoleError(outcome.final)
            reached = max((r.of for r in journal.read()), default=None)
            further = reached is not None and (furthest is None or reached > furthest)
            furthest = reached if further else furthest
            fruitless = 0 if further else fruitless + 1
            if fruitless > self._config.stream.max_restarts:
                raise TrainingError(
                    f"the trainer was restarted {fruitless} times without finishing a pass; last: {outcome.reason}",
                    remedy=f"Look at {self._log_dir}/workerlog.0 and serverlog.0.",
                )
            self.restarts += 1
            log.info("restart %d: %s", self.restarts, outcome.reason)
            self._on_restart(self.restarts, outcome.reason)
            self._stop.wait(_backoff(fruitless))

    def kill(self) -> list[int]:
        """SIGKILL to the launcher and all roles, as a machine's failure would; returns their ids."""
        if self._launcher is None or len(self.role_pids) < self._servers + self._workers:
            return []
        pids = [self._launcher.pid, *self.role_pids]
        for pid in pids:
            _signal(pid, signal.SIGKILL)
        return pids

    def _run_once(self) -> _Outcome:
        run_dir = Path(tempfile.mkdtemp(prefix="streamtrain-run-"))
        launcher = self._launcher = self._launch(run_dir)
        try:
            return self._watch(launcher, run_dir)
        finally:
            self._launcher = None
            end_family(launcher, role_state.ENVIRONMENT, str(run_dir))
            self.role_pids = []
            shutil.rmtree(run_dir, ignore_errors=True)

    def _launch(self, run_dir: Path) -> subprocess.Popen[bytes]:
        environment = {
            **os.environ,
            **engine_environment(),
            role_state.ENVIRONMENT: str(run_dir),
            role_state.OWNER: self._owner,
            "PYTHONUNBUFFERED": "1",
        }
        if self.restarts:
            environment[role_state.AGAIN] = str(self._since)
        root = str(ROLE_SCRIPT.parent.parent)
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH", "")]))
        self._log_dir.mkdir(parents=True, exist_ok=True)
        command = [
            sys.executable, "-m", "paddle.distributed.launch", "--run_mode", "ps",
            "--server_num", str(self._servers), "--trainer_num", str(self._workers),
            "--log_dir", str(self._log_dir), str(ROLE_SCRIPT), "-m", str(self._config.path),
        ]  # fmt: skip
        with (self._log_dir / "launcher.log").open("ab") as out:
            return subprocess.Popen(
                command,
                env=environment,
                cwd=self._config.path.parent,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=die_with_parent,
            )

    def _watch(self, launcher: subprocess.Popen[bytes], run_dir: Path) -> _Outcome:
        begin = sampled = time.monotonic()
        asked: float | None = None
        sampler, hangs = Sampler(), HangWatch()
        while True:
            self._tick()
            states = role_state.read(run_dir)
            self.role_pids = [s.pid for s in states if s.state == "running"]
            failed = [s for s in states if s.state == "failed"]
            if failed:
                first = min(failed, key=lambda s: s.time)
                reason = f"{first.kind} {first.index}: {first.message}"
                return _Outcome(False, reason, first if first.exit_code in FINAL else None)
            workers = [s for s in states if s.kind == "worker"]
            if len(workers) == self._workers and all(s.state == "done" for s in workers):
                return _Outcome(True)
            for state in sorted(states, key=lambda s: s.kind != "worker"):  # a server ends after its workers
                # read once more: it may have ended well between the two looks
                if state.state == "running" and not _alive(state.pid) and _still_running(run_dir, state):
                    return _Outcome(False, f"{state.kind} {state.index} (process {state.pid}) died")
            if time.monotonic() - sampled > 0.9:
                sampled = time.monotonic()
                if reason := hangs.look(sampled, sampler.take(states)):
                    return _Outcome(False, reason)
            if launcher.poll() is not None and len(workers) < self._workers:
                return _Outcome(False, f"the launcher ended with exit code {launcher.returncode}")
            if len(states) < self._servers + self._workers and time.monotonic() - begin > 120:
                return _Outcome(False, "not all roles came up within 120 s")
            if self._stop.is_set():
                if asked is None:
                    asked = time.monotonic()
                    for state in workers:
                        _signal(state.pid, signal.SIGTERM)
                elif time.monotonic() - asked > STOP_SECONDS:
                    return _Outcome(False, f"the workers did not end within {STOP_SECONDS:.0f} s")
                elif not workers:
                    return _Outcome(False, "stopped before the workers were up")
            time.sleep(0.2 if self._stop.is_set() else 0.5)


def _backoff(fruitless: int) -> float:
    """Seconds before a restart: none after a finished pass, then growing to half a minute."""
    if not fruitless:
        return 0.0

    class _State:
        attempt_number = fruitless

    return float(wait_exponential_jitter(multiplier=0.5, max=30)(_State()))  # type: ignore[arg-type]


def _still_running(run_dir: Path, state: role_state.RoleState) -> bool:
    now = [s for s in role_state.read(run_dir) if (s.kind, s.index) == (state.kind, state.index)]
    return any(s.state == "running" and s.pid == state.pid for s in now)


def _alive(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def _signal(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)
