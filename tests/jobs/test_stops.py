"""SIGTERM and Ctrl-C end whatever waits: exit code 0, said so, nothing half made."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from streamtrain.config import JobConfig
from streamtrain.kafka.embedded import EmbeddedBroker
from tests.support.cli import run
from tests.support.jobs import rows, write_config, write_split
from tests.support.ports import free_port_pair
from tests.support.processes import until
from tests.support.stops import BOUND_S, Command

pytestmark = pytest.mark.kafka

NOBODY = {"bootstrap.servers": "127.0.0.1:1"}
WAITS = "waiting for Kafka at 127.0.0.1:1 since "
REFUSED = "the connection was refused"


@pytest.fixture
def own_kafka(tmp_path: Path) -> Iterator[EmbeddedBroker]:
    """One that the test may end."""
    with EmbeddedBroker(tmp_path / "kafka") as broker:
        yield broker


def part(config: JobConfig, name: str) -> str:
    return str(json.loads((config.state_dir / f"{name}.json").read_bytes())["doing"])


@pytest.mark.parametrize("command", ["bridge", "run", "train"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_kafka_was_never_there(tmp_path: Path, job: str, command: str, number: signal.Signals) -> None:
    config = write_config(tmp_path, job, NOBODY)
    with Command(tmp_path, command, "-m", str(config.path)) as waiting:
        sentence = waiting.says(WAITS)
        name = "bridge" if command == "bridge" else "trainer"
        until(lambda: (config.state_dir / f"{name}.json").exists())
        doing = part(config, name)
        assert doing in sentence and REFUSED in doing  # status shows what the terminal says
        assert waiting.stop(number, times=2) == 0
        assert "stopped by a signal" in waiting.output
        assert part(config, name) == "stopped by a signal"


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, -signal.SIGTERM), (signal.SIGINT, 130)])
def test_a_question_that_is_stopped_has_no_answer(tmp_path: Path, job: str, number: signal.Signals, code: int) -> None:
    config = write_config(tmp_path, job, NOBODY)
    with Command(tmp_path, "status", "-m", str(config.path)) as waiting:
        waiting.says(WAITS)
        assert waiting.stop(number) == code


def test_status_names_address_and_reason(tmp_path: Path, job: str) -> None:
    config = write_config(tmp_path, job, {"bootstrap.servers": "no-such-host.invalid:9092"})
    done = run("status", "-m", str(config.path), "--json")
    assert done.returncode == 4
    assert "asking no-such-host.invalid:9092: the name no-such-host.invalid does not resolve" in done.stderr


def test_kafka_has_gone_while_the_bridge_publishes(tmp_path: Path, job: str, own_kafka: EmbeddedBroker) -> None:
    kafka = {"bootstrap.servers": own_kafka.bootstrap}
    config = write_config(tmp_path, job, kafka, runner={"data_sleep_second": 0.1})
    write_split(tmp_path / "data", "20240101/0000", rows(50))
    with Command(tmp_path, "bridge", "-m", str(config.path)) as bridge:
        bridge.says("20240101/0000: data, 50 rows")
        own_kafka.stop()
        write_split(tmp_path / "data", "20240101/1200", rows(50))
        bridge.says(f"waiting for Kafka at {own_kafka.bootstrap} since ")
        assert REFUSED in part(config, "bridge")
        assert bridge.stop() == 0
        assert "stopped by a signal" in bridge.output


def test_kafka_has_gone_while_a_job_runs_and_a_data_error_is_named(
    tmp_path: Path, job: str, own_kafka: EmbeddedBroker
) -> None:
    kafka = {"bootstrap.servers": own_kafka.bootstrap}
    config = write_config(tmp_path, job, kafka, runner={"checkpoint_per_pass": 1})
    write_split(tmp_path / "data", "20240101/0000", rows(50))
    with Command(tmp_path, "run", "-m", str(config.path)) as running:
        running.says("  saved")
        own_kafka.stop()
        running.says("worker 0: waiting for Kafka at")
        until(lambda: REFUSED in part(config, "trainer"))
        assert running.stop() == 0
        assert "stopped by a signal" in running.output
    assert run("checkpoints", "verify", "-m", str(config.path)).returncode == 0
    assert not list((config.model_save_path / "20240101").glob("2*"))

    own_kafka.start()
    write_split(tmp_path / "data", "20240101/1200", ["no row"] * 50)
    with Command(tmp_path, "run", "-m", str(config.path)) as running:
        running.says("error: bridge: split 20240101/1200: 50 of 50 lines do not parse")
        assert running.process.wait(60) == 3
    for name in ("bridge", "trainer"):
        assert "50 of 50 lines do not parse" in part(config, name)


def test_a_worker_imports_paddle(tmp_path: Path, job: str, kafka: dict[str, str]) -> None:
    config = write_config(tmp_path, job, kafka)
    with Command(tmp_path, "run", "-m", str(config.path)) as running:

        def starting() -> bool:
            states = [json.loads(p.read_bytes()) for p in running.scratch.glob("streamtrain-run-*/worker-0.json")]
            return [state["phase"] for state in states] == ["starting"]

        until(starting)
        assert running.stop() == 0
        assert "stopped by a signal" in running.output
    assert not list(config.model_save_path.glob("2*"))


def test_the_embedded_kafka_starts(tmp_path: Path) -> None:
    folder = tmp_path / "kafka"
    with Command(tmp_path, "broker", "--dir", str(folder)) as broker:
        until(lambda: (folder / "server.properties").exists())
        assert broker.stop() == 0
    with EmbeddedBroker(folder):  # neither locked nor half made
        pass


def test_roles_of_several_machines(tmp_path: Path, job: str) -> None:
    """A server waits for worker 0, worker 0 for the others, then the worker for Kafka."""
    config = write_config(tmp_path, job, NOBODY)
    worker_at, server_at = free_port_pair(), free_port_pair()
    where = ["--servers-at", f"127.0.0.1:{server_at}", "--workers-at", f"127.0.0.1:{worker_at}"]

    def role(kind: str) -> Command:
        return Command(tmp_path, "train", "-m", str(config.path), "--role", kind, *where)

    with role("server") as server:
        server.says(f"waiting for worker 0 at 127.0.0.1:{worker_at} since ")
        assert REFUSED in part(config, "server-0")
        assert server.stop() == 0
    with role("worker") as worker:
        worker.says("worker 0 has joined, 1 of 2 have")
        assert worker.stop(times=2) == 0
    with role("server") as server, role("worker") as worker:
        worker.says(WAITS)
        begin = time.monotonic()
        server.process.send_signal(signal.SIGTERM)
        assert worker.stop() == 0
        assert server.process.wait(BOUND_S) == 0
        print(f"server and worker: ended {time.monotonic() - begin:.1f} s after SIGTERM")
