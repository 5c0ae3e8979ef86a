"""Whole jobs whose checkpoints are on a store without rename: killed at each step of the commit, resumed on a machine
with an empty disk."""

import itertools
import json
import secrets
import shutil
import sys
import time
from pathlib import Path
from urllib.parse import quote

import pytest

from streamtrain.checkpoint.store import CheckpointStore
from streamtrain.failpoints import POINTS
from streamtrain.locations import Location
from streamtrain.object_store import ObjectStore
from tests.faults.cases.hosts import Hosts
from tests.support.cli import run
from tests.support.jobs import rows, write_split
from tests.support.plain_store import download, fail, objects
from tests.support.scene import SPLITS, Process, Scene, can_mount

pytestmark = [pytest.mark.kafka, pytest.mark.paddle, pytest.mark.usefixtures("plain_protocol")]


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


#: tests/unit/checkpoint/test_remote_job.py has every point, without Kafka and Paddle.
STEPS = [name for name in POINTS if name.startswith(("store.", "commit.")) and name != "store.fetched"]


@pytest.mark.long
def test_killed_at_each_step_and_resumed_on_an_empty_disk(tmp_path: Path, kafka: dict[str, str], job: str) -> None:
    """Each start dies at the next step; the last one finds nothing but the store, and ends the job."""
    scene = on_a_store(tmp_path, kafka, job, days=3)
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


def test_a_store_that_is_slow_at_a_start_is_no_hang(tmp_path: Path, kafka: dict[str, str], job: str) -> None:
    """It refuses for about 10 s, in which no role uses a processor; then the job goes on without a restart."""
    scene = on_a_store(tmp_path, kafka, job, stream={"max_restarts": 0})
    scene.hold("20240101/1800")
    run = scene.run_to_pass(3)
    run.process.terminate()
    run.finish()
    scene.release("20240101/1800")
    fail(tmp_path / "bucket.store", "ls", 6, "/exchange")  # listed once the checkpoint is loaded
    scene.start("run").finish()
    assert "exchange: StoreError: 503 on ls" in (tmp_path / "log" / "workerlog.0").read_text()
    check(scene)


class Machines(Hosts):
    """Each role on a machine of its own, or the servers together on one: its caches are where no other machine sees
    them, below the same paths. Worker 0's are those that the test sees."""

    def __init__(self, scene: Scene, servers: int, workers: int, *, together: bool = False) -> None:
        super().__init__(scene, servers, workers)
        self.disks = scene.folder / "disks"
        self._together = together

    def start_one(self, kind: str, index: int) -> Process:
        folder = self._scene.folder
        arguments = [
            "train", "--role", kind, "--index", str(index), "--servers-at", self.servers_at, "--workers-at",
            self.workers_at, "-m", str(self._scene.config.path),
        ]  # fmt: skip
        command = [sys.executable, "-m", "streamtrain.cli.main", "-v", *arguments]
        if (kind, index) != ("worker", 0):
            mounts = []
            disk = self.disks / ("servers" if self._together and kind == "server" else f"{kind}-{index}")
            for name in ("cache", ".streamtrain"):
                (folder / name).mkdir(exist_ok=True)
                (disk / name).mkdir(parents=True, exist_ok=True)
                mounts.append(f"mount --bind {disk / name} {folder / name}")
            command = ["unshare", "-m", "sh", "-c", f'{" && ".join(mounts)} && exec "$@"', "sh", *command]
        started = self._running[kind, index] = self._scene.spawn(command, name=f"{kind}{index}")
        return started


def with_a_machine_lost(scene: Scene) -> None:
    bridge = scene.start("bridge")
    machines = Machines(scene, 2, 2)
    machines.start_all()
    machines.run_until(lambda: scene.passes() >= 2, 150)
    begin = time.time()
    machines.kill(("server", 1))
    machines.all_ended(begin)
    shutil.rmtree(machines.disks / "server-1")
    machines.run_until(lambda: scene.passes() >= 5, 150)
    for role in ("worker", 1), ("server", 1), ("worker", 0), ("server", 0):
        machines.kill(role)
    scene.release("20240102/0600")
    fewer = Machines(scene, 1, 1)
    fewer.start_all()
    fewer.run_until(fewer.all_done, 150)
    bridge.finish()


@pytest.mark.long
@pytest.mark.skipif(not can_mount(), reason="a machine of its own is made by mounts, which need root")
def test_machines_without_a_shared_disk(
    tmp_path: Path, kafka: dict[str, str], job: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two servers and two workers, then one of each: shards go through the store. A server's machine is lost."""
    monkeypatch.setenv("STREAMTRAIN_SECRET", secrets.token_hex(32))
    scene = on_a_store(tmp_path, kafka, job, days=2)
    scene.hold("20240102/0600")
    try:
        with_a_machine_lost(scene)
    finally:
        scene.close()
    check(scene)
    check_nothing_is_left(tmp_path)


def check_nothing_is_left(folder: Path) -> None:
    """On the servers' disks, and on the way there."""
    files = [path for path in (folder / "disks").glob("*/cache/**/*") if path.is_file()]
    assert not [path for path in files if ".views" not in path.parts]
    assert not any(name.startswith("models/exchange/") for name in objects(folder / "bucket.store"))


@pytest.mark.long
@pytest.mark.skipif(not can_mount(), reason="a machine of its own is made by mounts, which need root")
def test_two_servers_on_a_machine_without_worker_0(
    tmp_path: Path, kafka: dict[str, str], job: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their agents see one disk, which worker 0 does not see; both are killed and load from the store."""
    monkeypatch.setenv("STREAMTRAIN_SECRET", secrets.token_hex(32))
    scene = on_a_store(tmp_path, kafka, job)
    scene.hold("20240101/1800")
    try:
        bridge = scene.start("bridge")
        machines = Machines(scene, 2, 1, together=True)
        machines.start_all()
        machines.run_until(lambda: scene.passes() >= 3, 150)
        for role in ("server", 0), ("server", 1):
            machines.kill(role)
        scene.release("20240101/1800")
        machines.run_until(machines.all_done, 150)
        bridge.finish()
    finally:
        scene.close()
    check(scene)
    check_nothing_is_left(tmp_path)


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


@pytest.mark.long
def test_commands_on_a_machine_that_has_nothing(tmp_path: Path, kafka: dict[str, str], job: str) -> None:
    scene = on_a_store(tmp_path, kafka, job, stream={"keep_checkpoints": 3})
    config = str(scene.config.path)
    scene.start("run").finish()

    def asked(*arguments: str, code: int = 0) -> str:
        new_machine(scene)
        done = run(*arguments, "-m", config)
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout

    asked("config", "check")
    listed = json.loads(asked("checkpoints", "list", "--json"))["checkpoints"]
    assert [c["pass_id"] for c in listed] == [2, 3, 4] and not any(c["problem"] for c in listed)
    status = json.loads(asked("status", "--json"))
    assert status["trained"]["passes"] == 4 and status["checkpoint"]["pass"] == "20240101/4"
    assert json.loads(asked("recount", "--json"))["verdict"] == "proven"
    asked("checkpoints", "verify")
    key = scene.folder.joinpath("data/20240101/0000/part-0").read_text().split()[1].partition(":")[0]
    assert json.loads(asked("checkpoints", "show", key, "--json"))["keys"][0]["show"] > 0
    models = json.loads(asked("checkpoints", "models", "--json"))["models"]
    assert models and all(model["there"] for model in models)
    lines = tmp_path / "rows.txt"
    lines.write_text(scene.folder.joinpath("data/20240101/0000/part-0").read_text())
    assert len(asked("predict", str(lines)).splitlines()) == 150
    assert "1 checkpoints would be set aside" in asked("checkpoints", "rewind", "--to", "20240101/3", "--dry-run")
    assert "set aside, below plain://" in asked("checkpoints", "rewind", "--to", "20240101/3")
    again = json.loads(asked("checkpoints", "list", "--json"))["checkpoints"]
    assert [c["pass_id"] for c in again] == [2, 3]
    new_machine(scene)
    scene.start("run").finish()
    check(scene)
    damaged = next(name for name in objects(tmp_path / "bucket.store") if "/20240101/2/" in name and "part-" in name)
    (tmp_path / "bucket.store" / quote(damaged, safe="")).write_bytes(b"damaged")
    assert "SHA-256" in asked("checkpoints", "verify", code=5)


@pytest.mark.long
def test_logs_on_a_store(tmp_path: Path, kafka: dict[str, str], job: str) -> None:
    """The bridge reads them there, a file that comes late too; they are recounted there, and on the disk."""
    scene = Scene(tmp_path, kafka, job, stream={"changed_split": "append"})
    bucket = ObjectStore(Location("runner.train_data_dir", f"plain://{tmp_path / 'logs'}.store/tree"))
    data = tmp_path / "data"

    def put(*splits: str) -> None:
        for file in sorted(data.rglob("*"), key=lambda path: path.name == "data.done"):
            if file.is_file() and str(file.parent.relative_to(data)) in splits:
                bucket.put_file(str(file.relative_to(data)), file)

    put(*SPLITS[:3])
    path = scene.config.path
    text = path.read_text()
    assert "train_data_dir: data\n" in text
    path.write_text(text.replace("train_data_dir: data\n", f"train_data_dir: {bucket.location.url}\n"))
    job_run = scene.start("run")
    job_run.wait_for(lambda: scene.passes() == 3)
    write_split(data, SPLITS[0], rows(20, seed=99), file="part-late")
    put(SPLITS[0])
    job_run.wait_for(lambda: any(entry.marker.revision for entry in scene.markers()))
    put(SPLITS[3])
    job_run.finish()
    bridged = sum(150 + n for n in range(4) if n != 2) + 20
    assert scene.recount().rows == bridged
    there = json.loads(run("recount", "-m", str(path), "--json").stdout)
    assert (there["verdict"], there["rows"], there["pending"]) == ("proven", bridged, [])
