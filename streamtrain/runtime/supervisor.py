"""Starts servers and workers, watches them, restarts all of them when one dies.

After a server's death nothing else ends: the workers hang (measured). So each role is watched by its process, and a
role that ends well reports that in its own state file.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import signal
import tempfile
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from streamtrain.checkpoint.journal import Journal
from streamtrain.checkpoint.opening import run_of
from streamtrain.config import JobConfig
from streamtrain.contracts import phases
from streamtrain.errors import ChildFailed, StreamtrainError, TrainingError
from streamtrain.processes import available_memory
from streamtrain.runtime import child_state, exposure
from streamtrain.runtime.child_state import ChildState
from streamtrain.runtime.hang_detector import HangDetector
from streamtrain.runtime.launch import ROLE_SCRIPT
from streamtrain.runtime.observer import Observer
from streamtrain.runtime.part_state import PartReporter, reporting_end
from streamtrain.runtime.roles import Roles, end_roles, start_roles
from streamtrain.runtime.verdict import Observed, Verdict, is_quiet, judge, pause_before_restart
from streamtrain.schedule import PassId

log = logging.getLogger("streamtrain.supervisor")

#: Seconds within which a role has written its state.
REPORTED_S = 60.0
#: Seconds between two observations for hangs, and between two readings of the state files.
OBSERVE_S = 0.9
READ_S, READ_WHEN_STOPPING_S = 0.5, 0.2


@dataclass(frozen=True)
class _Round:
    """Roles, and the folder of their states."""

    roles: Roles
    run_dir: Path
    started: float = field(default_factory=time.monotonic)

    def is_whole(self, roles: int) -> bool:
        """Whether its folder is as it was: what nobody reads for days below TMPDIR may be deleted by the system."""
        young = time.monotonic() - self.started < REPORTED_S
        return self.run_dir.is_dir() and (young or len(list(self.run_dir.glob("*.json"))) == roles)

    def end(self) -> None:
        end_roles(self.roles, self.run_dir)
        shutil.rmtree(self.run_dir, ignore_errors=True)


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
        self._workers = workers or config.stream.worker_count
        if self._workers > config.stream.partitions:
            raise TrainingError(
                f"--workers {self._workers} is more than stream.partitions, {config.stream.partitions}",
                remedy="A worker needs a partition: use fewer workers.",
            )
        self._stop = stop or threading.Event()
        self._owner = owner or uuid.uuid4().hex
        self._since = run_of(config).newest_number()
        self._log_dir = log_dir or config.path.parent / "log"
        self._on_restart = on_restart
        self._tick = tick
        self.restarts = 0
        self.role_pids: list[int] = []
        self._waiting = ""
        self._started = False
        self._no_spare = False
        #: A round whose roles are held.
        self._ahead: _Round | None = None

    def run(self) -> None:
        """Returns when all passes are trained, or after a clean stop.

        Raises ChildFailed for what a restart cannot fix, TrainingError after stream.max_restarts restarts
        without a finished pass.
        """
        # of the roles, some have only heard a signal: status shows why all of them ended
        report = PartReporter(self._config.state_dir, "trainer")
        try:
            with reporting_end(report):
                if not self._run() and not report.is_anothers():
                    report(phases.STOPPED)
        finally:
            self.end()

    def _run(self) -> bool:
        """Whether all passes are trained."""
        exposure.warn_of_workers()
        log.info("servers: %d, workers: %d", self._servers, self._workers)
        fruitless = 0
        furthest = self._furthest()
        while True:
            verdict = self._run_once()
            if verdict.failed is not None:
                raise ChildFailed(f"{verdict.failed.name}: {verdict.failed.message}", verdict.failed.exit_code)
            if verdict.done or self._stop.is_set():
                return verdict.done
            reached = self._furthest()
            further = reached is not None and (furthest is None or reached > furthest)
            furthest = reached if further else furthest
            fruitless = 0 if further else fruitless + 1
            if fruitless > self._config.stream.max_restarts:
                raise TrainingError(
                    f"the trainer was restarted {fruitless} times without finishing a pass; last: {verdict.reason}",
                    remedy=f"Read {self._log_dir}/workerlog.0 and serverlog.0.",
                )
            self.restarts += 1
            log.info("restart %d: %s", self.restarts, verdict.reason)
            self._on_restart(self.restarts, verdict.reason)
            if self._stop.wait(pause_before_restart(fruitless)):
                return False

    def _furthest(self) -> PassId | None:
        newest = Journal(self._config.model_save_path).newest()
        return newest.id if newest is not None else None

    def kill(self) -> list[int]:
        """SIGKILL to all roles once all run, as a machine's failure would; returns their ids."""
        if len(self.role_pids) < self._servers + self._workers:
            return []
        pids = list(self.role_pids)
        for pid in pids:
            _signal(pid, signal.SIGKILL)
        return pids

    def begin(self) -> None:
        """Starts roles ahead of their round: they import Paddle and build the model, then wait with nothing touched.
        run() takes them, and ends them; end() does where run() is not reached. Raises as start_roles()."""
        self._ahead = self._ahead or self._held_round()

    def end(self) -> None:
        """Ends the roles that are started ahead."""
        if (ahead := self._take_ahead()) is not None:
            ahead.end()

    def _take_ahead(self) -> _Round | None:
        ahead, self._ahead = self._ahead, None
        return ahead

    def _held_round(self) -> _Round:
        try:
            run_dir = Path(tempfile.mkdtemp(prefix="streamtrain-run-"))
        except OSError as error:
            raise TrainingError(
                f"no folder can be made for the roles: {error}",
                remedy="Make room below TMPDIR, or name another folder.",
            ) from error
        variables = {child_state.OWNER: self._owner, child_state.HELD: "1"}
        if self._started:
            variables[child_state.SINCE] = str(self._since)
        try:
            roles = start_roles(
                ROLE_SCRIPT, ["-m", str(self._config.path)], servers=self._servers, workers=self._workers,
                run_dir=run_dir, log_dir=self._log_dir, cwd=self._config.path.parent, variables=variables,
            )  # fmt: skip
        except BaseException:
            shutil.rmtree(run_dir, ignore_errors=True)
            raise
        return _Round(roles, run_dir)

    def _next_round(self) -> _Round:
        """Its roles are still held."""
        ahead = self._take_ahead()
        if ahead is None:
            return self._held_round()
        if not ahead.roles.ended() and ahead.is_whole(self._servers + self._workers):
            return ahead
        log.warning("the roles that were started ahead have ended, or their folder is gone: others are started")
        ahead.end()
        return self._held_round()

    def _run_once(self) -> Verdict:
        current = self._next_round()
        self._started = True
        try:
            try:
                child_state.release(current.run_dir)
            except OSError as error:
                return Verdict(False, f"the roles cannot be told to begin: {error}")
            return self._watch(current.roles, current.run_dir)
        finally:
            self.role_pids = []
            current.end()

    def _watch(self, roles: Roles, run_dir: Path) -> Verdict:
        """Observes the roles, acts on a stop, until there is a verdict."""
        begin = observed = time.monotonic()
        asked: float | None = None
        quiet_since: float | None = None
        observer, hangs, hang = Observer(), HangDetector(), None
        while True:
            self._tick()
            ended = roles.ended()
            states, dead = _read(run_dir)
            unreported = {name: ended[name] for name in ended.keys() - {s.name for s in states}}
            self.role_pids = [s.pid for s in states if s.state == "running"]
            self._report_wait(states)
            now = time.monotonic()
            if now - observed > OBSERVE_S:
                observed = now
                hang = hangs.check(now, observer.sample(states))
            if asked is None and 0 < self._config.stream.spare_roles_after < now - begin:
                self._start_spare()
            stopping = None if asked is None else now - asked
            quiet_since = (quiet_since or now) if asked is not None and _is_quiet(states) else None
            quiet = 0.0 if quiet_since is None else now - quiet_since
            verdict = judge(
                Observed(states, dead, hang, unreported, now - begin, stopping, quiet),
                self._servers, self._workers,
            )  # fmt: skip
            if verdict is not None:
                return verdict
            if self._stop.is_set() and asked is None:
                asked = now
                for state in states:
                    if state.kind == "worker":
                        _signal(state.pid, signal.SIGTERM)
                continue
            time.sleep(READ_WHEN_STOPPING_S if self._stop.is_set() else READ_S)

    def _start_spare(self) -> None:
        """For the next round; what the system refuses is said once, and costs a restart its seconds."""
        if self._ahead is not None or self._no_spare:
            return
        used = sum(map(_memory_of, self.role_pids))
        if available_memory() < used:
            self._no_spare = True
            log.warning("no spare roles: the roles use %.1f GB, and less is left", used / 1e9)
            return
        try:
            self.begin()
        except (StreamtrainError, OSError) as error:
            self._no_spare = True
            log.warning("no spare roles: %s", error)

    def _report_wait(self, states: list[ChildState]) -> None:
        """On the terminal too, what worker 0 waits for, once; not the phase that a start passes through."""
        waits = [s.phase for s in states if s.name == "worker 0" and s.phase.startswith(f"{phases.WAITING} Kafka ")]
        phase = waits[0] if waits else ""
        if phase and phase != self._waiting:
            log.warning("worker 0: %s", phase)
        self._waiting = phase


def _is_quiet(states: list[ChildState]) -> bool:
    first = next((s for s in states if s.name == "worker 0"), None)
    return first is not None and is_quiet(first.phase, done=first.state == "done")


def _read(run_dir: Path) -> tuple[list[ChildState], set[int]]:
    """The roles' states, and the processes that have died while `running`. Read twice when one is gone: it may have
    ended well, and reported it, right after the first reading."""
    states = child_state.read(run_dir)
    gone = {s.pid for s in states if s.state == "running" and not _is_alive(s.pid)}
    if not gone:
        return states, set()
    states = child_state.read(run_dir)
    return states, {s.pid for s in states if s.state == "running" and s.pid in gone}


def _memory_of(pid: int) -> int:
    """Bytes; 0 when the process has ended."""
    try:
        return int(psutil.Process(pid).memory_info().rss)
    except psutil.Error:
        return 0


def _is_alive(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def _signal(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)
