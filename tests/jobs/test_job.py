"""Whole jobs: a real Kafka, real servers and workers, real kills; each ends with the recount."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from streamtrain.checkpoint.journal import Journal
from streamtrain.checkpoint.store import CheckpointStore
from streamtrain.config import JobConfig
from streamtrain.proof.job import recount_job
from tests.support.jobs import rows, write_config, write_split
from tests.support.paths import ROLE_SCRIPT

pytestmark = [pytest.mark.kafka, pytest.mark.paddle]
DAYS = ["20240101", "20240102", "20240103"]


def streamtrain(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "streamtrain.cli.main", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finish(process: subprocess.Popen[str], seconds: float = 180) -> str:
    """The output; the process must end with exit code 0."""
    output, _ = process.communicate(timeout=seconds)
    assert process.returncode == 0, output
    return output


def wait_for(condition: Callable[[], bool], process: subprocess.Popen[str], seconds: float = 90) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.05)


def roles(config: JobConfig) -> list[psutil.Process]:
    """The servers and workers of this job alone."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        line = process.info["cmdline"] or []
        if str(config.path) in line and any(part.endswith("online_trainer.py") for part in line):
            found.append(process)
    return found


def make_job(tmp_path: Path, job: str, kafka: dict[str, str], size: int, **stream: object) -> JobConfig:
    config = write_config(tmp_path, job, kafka, runner={"end_day": DAYS[-1], "checkpoint_per_pass": 2}, stream=stream)
    for number, split in enumerate(f"{day}/{time_}" for day in DAYS for time_ in ("0000", "1200")):
        write_split(tmp_path / "data", split, rows(size + number, seed=number) if number != 2 else [])
    return config


def passes_once_in_order(config: JobConfig) -> bool:
    records = Journal(config.model_save_path).read()
    return [r.id for r in records] == [config.schedule.pass_at(i) for i in range(config.schedule.total_passes)]


def test_two_servers_two_workers_killed_and_stopped(tmp_path: Path, kafka: dict[str, str], job: str) -> None:
    config = make_job(tmp_path, job, kafka, 400, servers=2, workers=2)
    journal = Journal(config.model_save_path)
    (tmp_path / "data" / DAYS[2] / "1200" / "data.done").unlink()

    first = streamtrain("run", "-m", str(config.path))
    wait_for(lambda: len(journal.read()) >= 1, first)
    victim = max(roles(config), key=lambda p: p.create_time())
    victim.kill()
    wait_for(lambda: len(journal.read()) >= 5, first)
    first.send_signal(signal.SIGTERM)  # it waits for the last split: what is done is saved
    assert "restart 1" in finish(first)
    assert not roles(config)
    saved = CheckpointStore(config.model_save_path).list()
    assert str(saved[-1].id) == f"{DAYS[2]}/1"
    assert recount_job(config).ok

    (tmp_path / "data" / DAYS[2] / "1200" / "data.done").touch()
    # another number of servers and workers resumes from there
    config.path.write_text(
        config.path.read_text().replace("servers: 2", "servers: 1").replace("workers: 2", "workers: 1")
    )
    finish(streamtrain("run", "-m", str(config.path)))
    assert passes_once_in_order(config)
    found = recount_job(config)
    assert found.ok and found.rows == sum(400 + n for n in range(6) if n != 2)

    status = json.loads(finish(streamtrain("status", "-m", str(config.path), "--json")))
    assert status["lag"] == {"splits": 0, "passes": 0, "rows": 0}
    assert "ok" in finish(streamtrain("checkpoints", "verify", "-m", str(config.path)))
    assert json.loads(finish(streamtrain("recount", "-m", str(config.path), "--json")))["lost"] == 0
    break_things(config)


def break_things(config: JobConfig) -> None:
    """The checkers see what is wrong: a key's count changed, a part file gone."""
    newest = CheckpointStore(config.model_save_path).list()[-1]
    part = next(p for p in sorted((newest.path / "embedding.shard").glob("*.txt")) if p.stat().st_size)
    lines = part.read_text().splitlines()
    columns = lines[0].split(" ")
    for change, expected in ((1, (0, 1)), (-1, (1, 0))):
        changed = [*columns[:4], str(int(columns[4]) + change), *columns[5:]]
        part.write_text("\n".join([" ".join(changed), *lines[1:]]) + "\n")
        found = recount_job(config)
        assert (found.lost, found.duplicated) == expected and not found.ok
    store = CheckpointStore(config.model_save_path)
    assert "SHA-256" in str(store.verify(newest)) or "bytes" in str(store.verify(newest))
    part.unlink()
    found = recount_job(config)
    assert found.missing_keys == len(lines) and not found.ok
    assert os.strerror(2) in str(store.verify(newest))


def test_fleetrun_as_the_tutorial_has_it(tmp_path: Path, kafka: dict[str, str], job: str) -> None:
    config = make_job(tmp_path, job, kafka, 60)
    finish(streamtrain("bridge", "-m", str(config.path)))
    launcher = [str(Path(sys.executable).with_name("fleetrun")), "--server_num=1", "--worker_num=1"]
    done = subprocess.run(
        [*launcher, str(ROLE_SCRIPT), "-m", "config_online.yaml"],
        cwd=tmp_path,
        capture_output=True,
        timeout=120,
        check=False,
    )
    log = (tmp_path / "log" / "workerlog.0").read_text()
    assert "all done" in log, log + done.stdout.decode()
    order = ["config ", "last model: none found", f"pass {DAYS[0]}/1: 60 rows", f"pass {DAYS[0]}/1: predict AUC",
             f"pass {DAYS[0]}/1: train AUC", f"pass {DAYS[0]}/2: checkpoint saved"]  # fmt: skip
    places = [log.index(text) for text in order]
    assert places == sorted(places)
    assert recount_job(config).ok


def test_fleetrun_with_two_workers_waits_for_both(tmp_path: Path, kafka: dict[str, str], job: str) -> None:
    """fleetrun turns gloo off, without which the workers would train each on its own."""
    config = make_job(tmp_path, job, kafka, 60, servers=2, workers=2)
    finish(streamtrain("bridge", "-m", str(config.path)))
    launcher = [str(Path(sys.executable).with_name("fleetrun")), "--server_num=2", "--worker_num=2"]
    subprocess.run(
        [*launcher, str(ROLE_SCRIPT), "-m", "config_online.yaml"],
        cwd=tmp_path,
        capture_output=True,
        timeout=120,
        check=False,
    )
    assert passes_once_in_order(config)
    assert recount_job(config).ok
