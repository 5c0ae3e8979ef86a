"""Whole jobs whose checkpoints are on a store without rename: killed at each step of the commit, resumed on a machine
with an empty disk."""

import itertools
import os
import shutil
from pathlib import Path

import pytest

from streamtrain.checkpoint.store import CheckpointStore
from streamtrain.failpoints import POINTS
from tests.support.paths import ROOT
from tests.support.plain_store import ENTRY_POINTS, download, fail, objects
from tests.support.scene import Scene

pytestmark = [pytest.mark.kafka, pytest.mark.paddle]


@pytest.fixture(autouse=True)
def plain_protocol(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the processes that a test starts."""
    paths = [str(ROOT), str(ENTRY_POINTS), os.environ.get("PYTHONPATH", "")]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, paths)))


def on_a_store(folder: Path, kafka: dict[str, str], job: str, **changes: object) -> Scene:
    runner = {"model_save_path": f"plain://{folder / 'bucket'}.store/models", **changes.pop("runner", {})}  # type: ignore[dict-item]
    stream = {"checkpoint_dir": "cache", **changes.pop("stream", {})}  # type: ignore[dict-item]
    return Scene(folder, kafka, job, runner=runner, stream=stream, **changes)  # type: ignore[arg-type]


def new_machine(scene: Scene) -> None:
    """All that the job has on the local disk is gone, but the sources and what the test itself keeps."""
    for name in ("cache", ".streamtrain", "log"):
        shutil.rmtree(scene.folder / name, ignore_errors=True)


def check(scene: Scene) -> None:
    """Every key's count, every pass once; the inference models on the store are the newest checkpoint, key by key."""
    scene.recount()
    there = download(scene.folder / "bucket.store", scene.folder / "there") / "models"
    scene.check_models(there, CheckpointStore(scene.config.model_save_path).list()[-1])
    shutil.rmtree(there)


#: Those of a start last: there is something to load then.
STEPS = sorted(
    (n for n in POINTS if n.startswith(("save.", "commit.", "store.", "restore.")) and n != "save.fsync"),
    key=lambda n: n.startswith(("restore.", "store.fetched")),
)


def test_killed_at_each_step_and_resumed_on_an_empty_disk(tmp_path: Path, kafka: dict[str, str], job: str) -> None:
    """Each start dies at the next step; the last one finds nothing but the store, and ends the job."""
    scene = on_a_store(tmp_path, kafka, job, days=4)
    scene.start("bridge").finish()
    for name in STEPS:
        scene.fleetrun(f"{name}=kill").end()  # nothing starts it again
        scene.fired(name)
        new_machine(scene)
    scene.start("train").finish(180)
    check(scene)


def test_a_store_that_fails_for_a_while_and_for_good(tmp_path: Path, kafka: dict[str, str], job: str) -> None:
    scene = on_a_store(tmp_path, kafka, job, stream={"max_restarts": 0})
    bucket = tmp_path / "bucket.store"
    bucket.mkdir()
    fail(bucket, "put", 3)
    scene.hold("20240101/1800")
    run = scene.run_to_pass(3)
    assert "503 on put" in (tmp_path / "log" / "workerlog.0").read_text()
    fail(bucket, "put", -1, "/commits/")
    scene.release("20240101/1800")
    assert run.end(180) != 0
    assert "commits/20240101/4-" in run.output and "(runner.model_save_path) cannot be written" in run.output
    fail(bucket, "put", 0)
    new_machine(scene)
    scene.start("run").finish()
    check(scene)


def test_one_run_after_another(tmp_path: Path, kafka: dict[str, str], job: str) -> None:
    scene = on_a_store(tmp_path, kafka, job, days=2)
    scene.hold("20240102/1800")
    run = scene.run_to_pass(7)
    run.process.terminate()
    run.finish()
    new_machine(scene)
    scene.release("20240102/1800")
    scene.start("run").finish()
    check(scene)
    log = (tmp_path / "log" / "workerlog.0").read_text()
    assert "checkpoint 20240102/3 is fetched from plain://" in log and "next inference model is full" not in log
    names = objects(tmp_path / "bucket.store")
    assert sum(name.startswith("models/commits/") for name in names) == 8
    assert len(list(itertools.chain((tmp_path / "cache").glob("2024010?/[0-9]")))) == 2
