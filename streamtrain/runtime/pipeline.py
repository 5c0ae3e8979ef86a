"""All of a job in one process tree: the embedded Kafka if none is named, the bridge, the trainer.

Each part that dies is started again; an error that a restart cannot mend ends all of them.
"""

from __future__ import annotations

import logging
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from streamtrain.checkpoint.commit import refuse_lost_topics
from streamtrain.checkpoint.runs import Run
from streamtrain.checkpoint.store import CheckpointStore
from streamtrain.config import JobConfig
from streamtrain.errors import FINAL, BrokerUnavailable, ConfigError, DataError, KafkaError, StreamtrainError
from streamtrain.kafka.clients import admin, wait_for_cluster
from streamtrain.kafka.embedded import (
    EmbeddedBroker,
    FolderInUse,
    KilledWhileStarting,
    find_process,
    find_running,
)
from streamtrain.kafka.topics import TopicNames, ensure_topics, find
from streamtrain.processes import die_with_parent, end
from streamtrain.runtime.hang_detector import STOPPED_S
from streamtrain.runtime.status import job_status
from streamtrain.runtime.supervisor import Supervisor

log = logging.getLogger("streamtrain.pipeline")

#: Seconds between two starts of the bridge, and of a broker that could not be started.
BRIDGE_PAUSE_S = 1.0
BROKER_PAUSE_S = 5.0
#: Seconds between two looks whether all that is bridged is trained, once the bridge has ended with an error.
DRAINED_S = 2.0


class BridgeError(StreamtrainError):
    """The bridge ended with an error that a restart cannot mend; its exit code is kept."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class BridgeProcess:
    """`streamtrain bridge` as a child, started again when it is killed."""

    def __init__(self, config: JobConfig, log_dir: Path, owner: str) -> None:
        self._config = config
        self._owner = owner
        self._since = Run(config.model_save_path).newest_number()
        self._frozen_since: float | None = None
        self._not_before = 0.0
        self._log = log_dir / "bridge.log"
        log_dir.mkdir(parents=True, exist_ok=True)
        self._process: subprocess.Popen[bytes] | None = None
        self._done = False
        self.restarts = 0

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    def start(self) -> None:
        with self._log.open("ab") as out:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "streamtrain.cli.main", "-v", "bridge", "-m", str(self._config.path)],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=die_with_parent,
            )

    def check(self) -> None:
        """Starts it again if it died. Raises BridgeError for what a restart cannot mend."""
        if self._done or self._process is None:
            return
        if (code := self._process.poll()) is None:
            self._end_if_frozen(self._process)
            return
        if code == 0:
            self._done = True
            return
        lines = self._log.read_text("utf-8", "replace").splitlines()
        said = next((line[7:] for line in reversed(lines) if line.startswith("error: ")), "")
        if code in FINAL:
            self._done = True
            raise BridgeError(f"bridge: {said or f'exit code {code}'}", code)
        if time.monotonic() < self._not_before:
            return
        self._not_before = time.monotonic() + BRIDGE_PAUSE_S
        self.restarts += 1
        log.warning("the bridge ended (%s): started again", said or f"exit code {code}")
        Run(self._config.model_save_path).check_owner(self._owner, self._since)
        self.start()

    def _end_if_frozen(self, process: subprocess.Popen[bytes]) -> None:
        """A stopped bridge would be waited for without end."""
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

    def stop(self) -> None:
        if self._process is not None:
            end(self._process)


class Pipeline:
    """Runs `config`'s job until the last pass of end_day is trained and saved.

    Set `stop` to end cleanly. tick() is called about twice a second, on_restart(number, reason) before the
    trainer starts anew.
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
            config, stop=self._stop, log_dir=log_dir, owner=owner, on_restart=on_restart, tick=self._look
        )
        self._broker: EmbeddedBroker | None = None
        self._broker_not_before = 0.0
        self._bridge_error: BridgeError | None = None
        self._drained_look = 0.0

    def run(self) -> None:
        """Raises the first error of a part that a restart cannot mend."""
        with self._kafka() as properties:
            self._make_topics(properties)
            self._properties = properties
            self.bridge.start()
            try:
                self.supervisor.run()
            finally:
                self.bridge.stop()
            if self._bridge_error is not None:
                raise self._bridge_error

    def _make_topics(self, properties: dict[str, str]) -> None:
        """Waits for a broker that is away, also one that dies in the middle. Raises what ensure_topics refuses."""

        def wait(seconds: float) -> None:
            log.warning("waiting for Kafka, %.0f s so far", seconds)
            self._tend_broker()

        names = TopicNames(self._config.stream.job)
        while True:
            wait_for_cluster(properties, None, wait)
            try:
                client = admin(properties)
                refuse_lost_topics(CheckpointStore(self._config.model_save_path), find(client, names), names)
                ensure_topics(client, names, self._config.stream.partitions)
                return
            except BrokerUnavailable as error:
                log.warning("%s; tried again", error)
                if self._stop.wait(BRIDGE_PAUSE_S):
                    raise

    @contextmanager
    def _kafka(self) -> Iterator[dict[str, str]]:
        """The cluster of `kafka:`, a running embedded broker, or one of our own."""
        if not self._config.embedded:
            yield self._config.kafka()
            return
        directory = self._config.broker_dir
        broker = EmbeddedBroker(directory)
        while (running := find_running(directory)) is None:
            try:
                broker.start()
            except FolderInUse:  # another process is just starting or ending one
                self._stop.wait(0.5)
                if self._stop.is_set():
                    raise
            except KilledWhileStarting as error:
                log.warning("%s", error)
                if self._stop.wait(BRIDGE_PAUSE_S):
                    raise
        self._broker = broker  # also when it is another's that runs: it may end before this job does
        try:
            yield {"bootstrap.servers": running}
        finally:
            self._broker = None
            broker.stop()

    def _look(self) -> None:
        self._tend_broker()
        try:
            self.bridge.check()
        except BridgeError as error:
            if error.exit_code not in (ConfigError.exit_code, DataError.exit_code):
                raise  # its topics are gone, or another bridge runs
            log.error("%s; what is bridged is still trained", error)
            self._bridge_error = error
        if self._bridge_error is not None and not self._stop.is_set() and self._is_drained():
            self._stop.set()
        self._tick()

    def _tend_broker(self) -> None:
        if self._broker is not None and not self._broker.alive() and find_process(self._config.broker_dir) is None:
            self._start_broker_again(self._broker)

    def _start_broker_again(self, broker: EmbeddedBroker) -> None:
        """The bridge and the trainer wait for it; a start that fails (a full disk) is tried again."""
        if time.monotonic() < self._broker_not_before:
            return
        log.warning("the embedded Kafka died: it is started again")
        try:
            broker.start()
        except KafkaError as error:
            log.error("%s; tried again in %.0f s", error, BROKER_PAUSE_S)
            self._broker_not_before = time.monotonic() + BROKER_PAUSE_S

    def _is_drained(self) -> bool:
        """Whether all passes that the bridge has completed are trained; looked at every few seconds."""
        if time.monotonic() - self._drained_look < DRAINED_S:
            return False
        self._drained_look = time.monotonic()
        try:
            return bool(job_status(self._config, self._properties)["lag"]["passes"] == 0)
        except StreamtrainError:
            return False
