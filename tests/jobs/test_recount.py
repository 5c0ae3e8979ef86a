"""The recount of a real job: what is pending, what is gone, and what is not known without Kafka."""

import json
import shutil
from pathlib import Path
from typing import Any

import confluent_kafka as ck
import pytest

from streamtrain.config import load_config
from streamtrain.kafka import clients
from streamtrain.kafka.topics import TopicNames, ensure_topics
from streamtrain.proof import markers
from streamtrain.proof.job import recount_job
from tests.support.cli import run
from tests.support.jobs import rows
from tests.support.ports import free_port
from tests.support.scene import ROWS, SPLITS, Scene

pytestmark = [pytest.mark.kafka, pytest.mark.paddle]


def shown(scene: Scene) -> tuple[int, dict[str, Any]]:
    done = run("recount", "-m", str(scene.config.path), "--json")
    return done.returncode, json.loads(done.stdout)


def test_pending_rows_cleared_logs_and_no_kafka(tmp_path: Path, kafka: dict[str, str], job: str) -> None:
    scene = Scene(tmp_path, kafka, job, stream={"changed_split": "append"})
    scene.settle()
    code, found = shown(scene)
    assert code == 0 and found["verdict"] == "proven" and not found["pending"] and not found["marker_log"]
    assert found["rows"] == found["rows_in_markers"] == found["rows_in_manifest"] == 3 * ROWS + 4

    file = tmp_path / "data" / SPLITS[0] / "part-0"
    before = file.read_bytes()
    with file.open("a") as out:
        out.write("\n".join(rows(8, seed=9)) + "\n1:1 20")
    code, found = shown(scene)  # no marker has them
    assert code == 0 and found["pending_rows"] == 8 and [p["file"] for p in found["pending"]] == ["part-0"] * 2
    file.write_bytes(file.read_bytes()[: -len(b"1:1 20")])
    scene.start("bridge").finish()
    code, found = shown(scene)  # a marker has them, no pass does
    assert code == 0 and found["pending_rows"] == 8 and "after the checkpoint" in found["pending"][0]["why"]
    text = run("recount", "-m", str(scene.config.path)).stdout
    assert f"pending: {SPLITS[0]}, 8 rows" in text and "8 rows are pending" in text

    without = scene.config.path.read_text().replace(kafka["bootstrap.servers"], f"127.0.0.1:{free_port()}")
    (tmp_path / "without.yaml").write_text(without)
    alone = recount_job(load_config(tmp_path / "without.yaml"))
    assert alone.verdict == "not provable" and not alone.lost and f"{job}.splits cannot be read" in alone.marker_log
    file.write_bytes(before)
    assert recount_job(load_config(tmp_path / "without.yaml")).ok  # every count agrees, whatever the markers say

    shutil.rmtree(tmp_path / "data" / SPLITS[1])
    code, found = shown(scene)
    assert code == 21 and found["verdict"] == "not provable" and found["not_recountable_rows"] == ROWS + 1
    assert not found["duplicated"] and not found["lost"] and not found["unknown_keys"]
    assert found["not_recountable"][0]["split"] == SPLITS[1]
    text = run("recount", "-m", str(scene.config.path)).stdout
    assert f"not recountable: {SPLITS[1]}/part-0, {ROWS + 1} rows: is missing" in text and "cannot be proven" in text


def test_a_topic_that_is_not_there_and_one_with_something_else(kafka: dict[str, str], job: str) -> None:
    log = markers.read(kafka, job)
    assert log.entries is None and f"{job}.splits cannot be read" in log.problem and "UNKNOWN_TOPIC" in log.problem
    ensure_topics(clients.admin(kafka), TopicNames(job), 1)
    assert markers.read(kafka, job).entries == ()
    producer = ck.Producer(kafka)
    producer.produce(f"{job}.splits", b"not a marker")
    assert not producer.flush(30)
    log = markers.read(kafka, job)
    assert log.entries is None and "at offset 0 a message of another format" in log.problem
