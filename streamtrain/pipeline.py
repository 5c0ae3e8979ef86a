"""All of a job in one process tree: the embedded Kafka if none is named, the bridge, the trainer.

Each part that dies is started again; an error that a restart cannot mend ends all of them.
"""

from __future__ import annotations

import logging
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from streamtrain.config import JobConfig
from streamtrain.errors import StreamtrainError
from streamtrain.kafka.clients import admin, wait_for_cluster
from streamtrain.kafka.embedded import EmbeddedBroker, find_running
from streamtrain.kafka.topics import TopicNames, ensure_topics
from streamtrain.processes import die_with_parent
from streamtrain.supervisor import FINAL, Supervisor

log = logging.getLogger("streamtrain.pipeline")


class BridgeError(StreamtrainError):
    """The bridge ended with an error that a restart cannot mend; its exit code is kept."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class BridgeProcess:
    """`streamtrain bridge` as a child, started again when it is killed."""

    def __init__(self, config: JobConfig, log_dir: Path) -> None:
        self._config = config
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
        if self._done or self._process is None or (code := self._process.poll()) is None:
            return
        if code == 0:
            self._done = True
            return
        lines = self._log.read_text("utf-8", "replace").splitlines()
        said = next((line[7:] for line in reversed(lines) if line.startswith("error: ")), "")
        if code in FINAL:
            raise BridgeError(f"bridge: {said or f'exit code {code}'}", code)
        self.restarts += 1
        log.warning("the bridge ended (%s): started again", said or f"exit code {code}")
        self.start()

    def stop(self) -> None:
        if self._process is None or self._process.poll() is not None:
            return
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


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
        self.bridge = BridgeProcess(config, log_dir)
        self.supervisor = Supervisor(config, stop=stop, log_dir=log_dir, on_restart=on_restart, tick=self._look)
        self._broker: EmbeddedBroker | None = None

    def run(self) -> None:
        """Raises the first error of a part that a restart cannot mend."""
        with self._kafka() as properties:
            wait_for_cluster(properties, None, lambda s: log.warning("waiting for Kafka, %.0f s so far", s))
            ensure_topics(admin(properties), TopicNames(self._config.stream.job), self._config.stream.partitions)
            self.bridge.start()
            try:
                self.supervisor.run()
            finally:
                self.bridge.stop()

    @contextmanager
    def _kafka(self) -> Iterator[dict[str, str]]:
        """The cluster of `kafka:`, a running embedded broker, or one of our own."""
        if not self._config.embedded:
            yield self._config.kafka()
            return
        running = find_running(self._config.broker_dir)
        if running is not None:
            yield {"bootstrap.servers": running}
            return
        with EmbeddedBroker(self._config.broker_dir) as broker:
            self._broker = broker
            try:
                yield {"bootstrap.servers": broker.bootstrap}
            finally:
                self._broker = None

    def _look(self) -> None:
        if self._broker is not None and not self._broker.alive():
            log.warning("the embedded Kafka died: started again")
            self._broker.start()
        self.bridge.check()
        self._tick()
