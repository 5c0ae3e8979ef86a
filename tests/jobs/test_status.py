"""`streamtrain status` at a job's beginning, on its way and after its end; what it reads of the marker log."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import pytest

from streamtrain.config import JobConfig
from streamtrain.connectors.bridge import Bridge
from streamtrain.contracts.marker import Marker
from streamtrain.kafka import topics
from streamtrain.kafka.clients import admin, producer
from streamtrain.kafka.marker_history import file_of
from streamtrain.kafka.marker_log import LogEntry, MarkerLog
from streamtrain.kafka.topics import TopicNames
from streamtrain.runtime.status import job_status
from tests.support.cli import run
from tests.support.jobs import rows, write_config, write_split
from tests.support.scene import Scene
from tests.support.topics import delete_topics

pytestmark = pytest.mark.kafka


def status_json(config: JobConfig) -> dict[str, Any]:
    done = run("status", "-m", str(config.path), "--json")
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def counted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Offsets of the markers that are read from now on."""
    read: list[int] = []
    real = MarkerLog.poll

    def poll(self: MarkerLog, timeout_s: float) -> Any:
        entry = real(self, timeout_s)
        if isinstance(entry, LogEntry):
            read.append(entry.offset)
        return entry

    monkeypatch.setattr(MarkerLog, "poll", poll)
    return read


def job_of(folder: Path, job: str, kafka: dict[str, str], splits: int) -> JobConfig:
    """Whose first splits are there, by its tree."""
    config = write_config(folder, job, kafka, runner={"split_interval": 60, "end_day": "20240102"})
    for sequence in range(splits):
        write_split(folder / "data", config.schedule.split(sequence).path, rows(3 + sequence, seed=sequence))
    return config


def bridge(config: JobConfig, properties: dict[str, str]) -> None:
    """All splits that are there."""
    stop = threading.Event()
    Bridge(config, properties, stop=stop, on_wait=lambda *_: stop.set()).run()


def figures(config: JobConfig, properties: dict[str, str]) -> tuple[Any, Any]:
    found = job_status(config, properties)
    return found.bridged, found.lag


def test_the_answers_are_those_of_the_whole_log(
    tmp_path: Path, kafka: dict[str, str], job: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With what the bridge has noted, with what status has, with neither; and each reads what is new alone."""
    config = job_of(tmp_path, job, kafka, 20)
    done = run("status", "-m", str(config.path))
    assert done.returncode == 0 and "nothing was started yet: Kafka has none of its topics" in done.stdout
    bridge(config, kafka)
    noted = file_of(config.state_dir, job)
    read = counted(monkeypatch)
    assert noted.exists()
    with_bridge = figures(config, kafka)
    assert len(read) == 1
    assert with_bridge[0].splits == 20 and with_bridge[0].rows == sum(3 + n for n in range(20))
    noted.rename(tmp_path / "aside")
    assert figures(config, kafka) == with_bridge and len(read) == 1 + 20
    assert figures(config, kafka) == with_bridge and len(read) == 1 + 20 + 1
    (tmp_path / "aside").rename(noted)

    read.clear()
    write_split(tmp_path / "data", config.schedule.split(20).path, rows(9))
    bridge(config, kafka)
    assert len(read) == 1  # the start of a bridge
    file_of(config.state_dir, job, "status").write_bytes(b"damaged")
    with_both = figures(config, kafka)
    assert with_both[0].splits == 21 and with_both[0].rows == with_bridge[0].rows + 9

    names = TopicNames(job)
    client = admin(kafka)
    delete_topics(client, names)
    done = run("status", "-m", str(config.path))
    assert done.returncode == 10 and f"topic {names.splits} does not exist" in done.stderr
    topics.ensure_topics(client, names, config.stream.partitions)
    found = figures(config, kafka)[0]
    assert (found.splits, found.rows, found.split) == (0, 0, None)
    bridge(config, kafka)
    assert figures(config, kafka) == with_both


def test_a_marker_log_of_thousands(
    tmp_path: Path, kafka: dict[str, str], job: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second start reads one marker, whatever their number is."""
    config = write_config(
        tmp_path, job, kafka, runner={"split_interval": 5, "end_day": "20240131"}, stream={"changed_split": "ignore"}
    )
    names = TopicNames(job)
    ids = topics.ensure_topics(admin(kafka), names, config.stream.partitions)
    client = producer(kafka, f"{job}.bridge")
    client.init_transactions(60)
    client.begin_transaction()
    for split in list(config.schedule.splits())[:3000]:
        marker = Marker(split.day, split.time, split.sequence, 0, "empty", ids.samples, (), 0, 2, (), "")
        client.produce(names.splits, marker.encode(), partition=0)
    client.flush()
    client.commit_transaction(60)
    read = counted(monkeypatch)
    bridge(config, kafka)
    assert len(read) == 3000
    read.clear()
    bridge(config, kafka)
    found = job_status(config, kafka).bridged
    assert len(read) == 2
    assert found is not None and (found.splits, found.rejected) == (3000, 6000)


@pytest.mark.paddle
def test_after_the_end_of_a_job_with_the_embedded_kafka(tmp_path: Path) -> None:
    scene = Scene(tmp_path, {}, "job")
    scene.hold("20240101/1800")
    run_ = scene.run_to_pass(3)
    assert status_json(scene.config)["summary"] == "job job: running"
    run_.process.terminate()
    run_.finish()
    found = status_json(scene.config)
    assert found["summary"].startswith("job job: ended; run: stopped by a signal. What follows is what is on disk: ")
    assert "embedded Kafka" in found["without_kafka"] and "is not running" in found["without_kafka"]
    assert (found["bridged"]["splits"], found["trained"]["passes"], found["checkpoint"]["pass"]) == (3, 3, "20240101/3")
    scene.release("20240101/1800")
    scene.settle()
    done = run("status", "-m", str(scene.config.path))
    assert done.returncode == 0 and not done.stderr
    assert "done: all 4 passes are trained" in done.stdout and "20240101/1800 (4 of 4 splits)" in done.stdout
    log = (tmp_path / "log" / "workerlog.0").read_text()
    assert "checkpoint saved" in log and "save model of table" not in log


@pytest.mark.paddle
def test_the_error_that_a_job_ended_with(tmp_path: Path) -> None:
    scene = Scene(tmp_path, {}, "job")
    (tmp_path / "data" / "20240101" / "0600" / "part-0").write_text("what is this\n")
    assert scene.start("run").end() == 3
    found = status_json(scene.config)
    assert "ended; run: failed with exit code 3" in found["summary"] and "part-0, line 1" in found["summary"]
    assert found["trained"]["passes"] == 1
