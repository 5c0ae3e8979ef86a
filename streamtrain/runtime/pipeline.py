"""All of a job in one process tree: the embedded Kafka if none is named, the bridge, the trainer.

Each part that dies is restarted; an error that a restart cannot fix ends all of them.
"""

from __future__ import annotations

import logging
import shutil
import signal
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from streamtrain.checkpoint.commit import refuse_lost_topics
from streamtrain.checkpoint.identity import IdentityCheck
from streamtrain.checkpoint.opening import Readable, run_of
from streamtrain.config import JobConfig
from streamtrain.contracts import phases
from streamtrain.errors import (
    FINAL,
    BrokerUnavailable,
    ChildFailed,
    ConfigError,
    DataError,
    KafkaError,
    StreamtrainError,
)
from streamtrain.kafka.clients import admin
from streamtrain.kafka.embedded import (
    EmbeddedBroker,
    FolderInUse,
    KilledWhileStarting,
    find_process,
    find_running,
)
from streamtrain.kafka.topics import TopicNames, bridge_rights, ensure_topics, find
from streamtrain.kafka.waiting import report_waiting, wait_for_cluster
from streamtrain.processes import end
from streamtrain.runtime import child_state, launch
from streamtrain.runtime.hang_detector import STOPPED_S
from streamtrain.runtime.part_state import PartReporter, reporting_end
from streamtrain.runtime.status import job_status
from streamtrain.runtime.supervisor import Supervisor
from streamtrain.stopping import Stopped, StopWatch

log = logging.getLogger("streamtrain.pipeline")

#: Seconds between two starts of the bridge, and of a broker that could not be started.
BRIDGE_PAUSE_S = 1.0
BROKER_PAUSE_S = 5.0
#: Seconds between two checks whether all that is bridged is trained, once the bridge has ended with an error.
DRAINED_S = 2.0


class BridgeProcess:
    """`streamtrain bridge` as a child, restarted when it is killed."""

    def __init__(self, config: JobConfig, log_dir: Path, owner: str) -> None:
        self._config = config
        self._owner = owner
        self._since = run_of(config).newest_number()
        self._frozen_since: float | None = None
        self._not_before = 0.0
        self._output = log_dir / "bridge.log"
        self._run_dir: Path | None = None
        self._process: launch.Child | None = None
        self._done = False
        self._asked = False
        self.restarts = 0

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    def start(self) -> None:
        self._remove_run_dir()
        self._run_dir = Path(tempfile.mkdtemp(prefix="streamtrain-bridge-"))
        beside = self._config.stream.worker_count + self._config.stream.servers
        arguments = ["-v", "bridge", "-m", str(self._config.path), "--beside", str(beside)]
        self._process = launch.start_module(
            "streamtrain.cli.main", arguments, run_dir=self._run_dir, output=self._output
        )

    def check(self) -> None:
        """Restarts the bridge if it died. Raises ChildFailed for what a restart cannot fix, Fenced when another
        trainer of the job has taken over."""
        if self._done or self._asked or self._process is None or self._run_dir is None:
            return
        code = self._process.poll()
        if code is None:
            self._end_if_frozen(self._process)
            return
        states = child_state.read(self._run_dir)
        failure = child_state.failure("the bridge", code, states)
        if failure is None and any(s.stopped for s in states):  # by someone else: stop() does not come here
            failure = ChildFailed("the bridge was stopped by a signal, before the end of the stream", 1)
        if failure is None:
            self._done = True
            return
        if failure.exit_code in FINAL:
            self._done = True
            raise ChildFailed(f"bridge: {failure.message}", failure.exit_code)
        if time.monotonic() < self._not_before:
            return
        self._not_before = time.monotonic() + BRIDGE_PAUSE_S
        self.restarts += 1
        log.warning("restart %d of the bridge: %s", self.restarts, failure.message)
        run_of(self._config).check_owner(self._owner, self._since)
        self.start()

    def _end_if_frozen(self, process: launch.Child) -> None:
        """The job would wait for a stopped bridge without end."""
        try:
            stopped = psutil.Process(process.pid).status() == psutil.STATUS_STOPPED
        except psutil.NoSuchProcess:
            return
        if not stopped:
            self._frozen_since = None
        elif self._frozen_since is None:
            self._frozen_since = time.monotonic()
        elif time.monotonic() - self._frozen_since > STOPPED_S:
            log.warning("the bridge is frozen (its process is stopped): killed")
            process.kill()
            self._frozen_since = None

    def ask_to_end(self) -> None:
        """SIGTERM, once; stop() waits for its end."""
        if not self._asked and self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
        self._asked = True

    def stop(self) -> None:
        if self._process is not None:
            end(self._process)
        self._remove_run_dir()

    def _remove_run_dir(self) -> None:
        if self._run_dir is not None:
            shutil.rmtree(self._run_dir, ignore_errors=True)
            self._run_dir = None


class Pipeline:
    """Runs `config`'s job until the last pass of end_day is trained and saved.

    Set `stop` to end cleanly. tick() is called about twice a second, on_restart(number, reason) before each restart of
    the trainer.
    """

    def __init__(
        self,
        config: JobConfig,
        *,
        stop: threading.Event | None = None,
        on_restart: Callable[[int, str], None] = lambda _number, _reason: None,
        tick: Callable[[], None] = lambda: None,
    ) -> None:
        self._config = config
        self._tick = tick
        log_dir = config.path.parent / "log"
        owner = uuid.uuid4().hex
        self.bridge = BridgeProcess(config, log_dir, owner)
        self._stop = stop or threading.Event()
        self.supervisor = Supervisor(
            config, stop=self._stop, log_dir=log_dir, owner=owner, on_restart=on_restart, tick=self._check_parts
        )
        self._broker: EmbeddedBroker | None = None
        self._broker_not_before = 0.0
        self._bridge_error: ChildFailed | None = None
        self._drained_checked = 0.0

    def run(self) -> None:
        """Raises the first error of a part that a restart cannot fix; Stopped at a stop before the parts have begun."""
        IdentityCheck(self._config).newest()
        with self._roles_ahead(), self._kafka() as properties:
            self._make_topics(properties)
            self._properties = properties
            self.bridge.start()
            try:
                self.supervisor.run()
            finally:
                self.bridge.stop()
            if self._bridge_error is not None:
                # the trainer's own last words are that it was stopped, which is not why the job has ended
                PartReporter(self._config.state_dir, "trainer")(f"{phases.STOPPED}, since {self._bridge_error}")
                raise self._bridge_error

    @contextmanager
    def _roles_ahead(self) -> Iterator[None]:
        """Roles import Paddle and build the model while Kafka starts."""
        self.supervisor.begin()
        try:
            yield
        finally:
            self.supervisor.end()

    def _make_topics(self, properties: dict[str, str]) -> None:
        """Waits for a broker that is away, also one that dies meanwhile. Raises what ensure_topics refuses, Stopped."""
        reporters = [PartReporter(self._config.state_dir, part) for part in ("bridge", "trainer")]

        def tend(sentence: str) -> None:
            for report in reporters:
                report(sentence)
            self._tend_broker()

        with reporting_end(*reporters):
            while not self._topics_are_made(properties, report_waiting(log, tend)):
                StopWatch(self._stop).sleep(BRIDGE_PAUSE_S)

    def _topics_are_made(self, properties: dict[str, str], report: Callable[[str], None]) -> bool:
        """False when the broker has died meanwhile."""
        names = TopicNames(self._config.stream.job)
        watch = StopWatch(self._stop)
        wait_for_cluster(properties, None, report, self._stop)
        try:
            client = admin(properties)
            existing = watch.call(find, client, names, bridge_rights(names))
            refuse_lost_topics(Readable(self._config).checkpoints, existing, names)
            watch.call(ensure_topics, client, names, self._config.stream.partitions)
        except BrokerUnavailable as error:
            log.warning("%s; tried again", error)
            return False
        return True

    @contextmanager
    def _kafka(self) -> Iterator[dict[str, str]]:
        """The cluster of `kafka:`, a running embedded broker, or one that is started here."""
        if not self._config.embedded:
            yield self._config.kafka()
            return
        directory = self._config.broker_dir
        broker = EmbeddedBroker(directory, stop=self._stop)
        watch = StopWatch(self._stop)
        while (running := find_running(directory)) is None:
            try:
                broker.start()
            except FolderInUse:  # another process is just starting or ending one
                watch.sleep(0.5)
            except KilledWhileStarting as error:
                log.warning("%s", error)
                watch.sleep(BRIDGE_PAUSE_S)
        self._broker = broker  # also when another process's broker runs: that may end before this job does
        try:
            yield {"bootstrap.servers": running}
        finally:
            self._broker = None
            broker.stop()

    def _check_parts(self) -> None:
        if self._stop.is_set():
            self.bridge.ask_to_end()
        self._tend_broker()
        try:
            self.bridge.check()
        except ChildFailed as error:
            if error.exit_code not in (ConfigError.exit_code, DataError.exit_code):
                raise  # its topics are gone, or another bridge runs
            log.error("%s. The splits bridged so far are still trained", str(error).rstrip("."))
            self._bridge_error = error
        if self._bridge_error is not None and not self._stop.is_set() and self._is_drained():
            self._stop.set()
        self._tick()

    def _tend_broker(self) -> None:
        if self._broker is not None and not self._broker.alive() and find_process(self._config.broker_dir) is None:
            self._restart_broker(self._broker)

    def _restart_broker(self, broker: EmbeddedBroker) -> None:
        """The bridge and the trainer wait for it; a start that fails (a full disk) is tried again."""
        if time.monotonic() < self._broker_not_before:
            return
        log.warning("the embedded Kafka died: it is restarted")
        try:
            broker.start()
        except Stopped:
            return  # the parts still end in their own way
        except KafkaError as error:
            log.error("%s; tried again in %.0f s", error, BROKER_PAUSE_S)
            self._broker_not_before = time.monotonic() + BROKER_PAUSE_S

    def _is_drained(self) -> bool:
        """Whether all passes that the bridge has completed are trained; checked every few seconds."""
        if time.monotonic() - self._drained_checked < DRAINED_S:
            return False
        self._drained_checked = time.monotonic()
        try:
            lag = job_status(self._config, self._properties).lag
        except StreamtrainError:
            return False
        return lag is not None and lag.passes == 0
