"""The faults, one function each: makes its fault happen, asserts that it did and what had to follow.

`row` is the row of the table in docs/reliability.md. A case gets a Ground: a folder, a Kafka, a topology.
Every case ends with a recount from outside, or with a refusal that has changed nothing.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import confluent_kafka as ck
import psutil
from confluent_kafka.admin import (
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewPartitions,
    OffsetSpec,
    ResourceType,
)

from streamtrain import errors
from streamtrain.checkpoint.store import CheckpointStore
from streamtrain.contracts.marker import Marker, Range
from streamtrain.contracts.sample import SCHEMA
from streamtrain.kafka import clients, topics
from streamtrain.kafka.embedded import EmbeddedBroker
from streamtrain.runtime.status import held_back
from tests.support.jobs import rows, write_split
from tests.support.scene import ROWS, SPLITS, Process, Scene, tmpfs


@dataclass
class Ground:
    """Where a case happens: a folder and a Kafka of its own choice, a topology."""

    folder: Path
    kafka: dict[str, str]
    job: str
    servers: int = 1
    workers: int = 1
    scenes: list[Scene] = field(default_factory=list)

    def scene(self, name: str = "job", kafka: dict[str, str] | None = None, **changes: Any) -> Scene:
        made = Scene(
            self.folder / name, kafka if kafka is not None else self.kafka, f"{self.job}-{name}",
            self.servers, self.workers, **changes,
        )  # fmt: skip
        self.scenes.append(made)
        return made

    def close(self) -> None:
        for scene in self.scenes:
            scene.close()


@dataclass
class Outcome:
    """What was seen: in words; seconds from each fault to the first row trained (or split bridged) after it."""

    text: str
    recoveries: list[float] = field(default_factory=list)
    kills: int = 0


@dataclass(frozen=True)
class Case:
    """topologies: 2 when the fault is tried with 1x1 and 2x2, 1 when servers and workers play no part."""

    row: str
    name: str
    run: Callable[[Ground], Outcome]
    topologies: int
    fast: bool
    needs: str

    @property
    def id(self) -> str:
        return f"{self.row}-" + "-".join(re.findall(r"\w+", self.name))


CASES: list[Case] = []


def case(
    row: str, name: str, *, topologies: int = 2, fast: bool = False, needs: str = ""
) -> Callable[[Callable[[Ground], Outcome]], Callable[[Ground], Outcome]]:
    def register(run: Callable[[Ground], Outcome]) -> Callable[[Ground], Outcome]:
        CASES.append(Case(row, name, run, topologies, fast, needs))
        return run

    return register


# the bridge


def killed_bridge(ground: Ground, points: dict[str, int]) -> Outcome:
    """The bridge is killed at each point once, and started again each time."""
    scene = ground.scene()
    armed = ",".join(f"{name}=kill@{number}" for name, number in points.items())
    for _ in points:
        assert scene.start("bridge", failpoints=armed).end() == -signal.SIGKILL
    scene.start("bridge", failpoints=armed).finish()
    recoveries = [s for name in points if (s := scene.bridged_after(scene.fired(name))) is not None]
    scene.recount_topic()
    return Outcome("every split stands once", recoveries, len(points))


@case("1", "bridge killed inside a split's transaction", topologies=1, fast=True)
def bridge_inside(ground: Ground) -> Outcome:
    return killed_bridge(ground, {"bridge.begin": 2, "bridge.row": 70})


@case("2", "bridge killed between flush and commit", topologies=1, fast=True)
def bridge_at_commit(ground: Ground) -> Outcome:
    return killed_bridge(ground, {"bridge.flushed": 1, "bridge.marked": 2, "bridge.committed": 1})


@case("2", "the bridge's commit times out, its outcome unknown", topologies=1)
def bridge_commit_unknown(ground: Ground) -> Outcome:
    with EmbeddedBroker(ground.folder / "kafka") as broker:
        scene = ground.scene(kafka={"bootstrap.servers": broker.bootstrap})
        bridge = scene.start("bridge", failpoints="bridge.marked=stop@2")
        bridge.wait_for(lambda: is_stopped(bridge.pid))
        assert broker.pid is not None
        os.kill(broker.pid, signal.SIGSTOP)
        begin = time.time()
        try:
            bridge.signal(signal.SIGCONT)
            bridge.wait_for(lambda: "starting again from the marker log" in bridge.output, 120)
        finally:
            os.kill(broker.pid, signal.SIGCONT)
        bridge.finish()
        scene.fired("bridge.marked")
        recovery = scene.bridged_after(begin)
        scene.recount_topic()
        scene.close()
    return Outcome("a new producer settled it, the split stands once", [recovery] if recovery else [])


@case("3", "zombie bridge frozen at every point", topologies=1, fast=True)
def zombie_bridge(ground: Ground) -> Outcome:
    points = ["bridge.begin", "bridge.row", "bridge.flushed", "bridge.marked"]
    for number, name in enumerate(points):
        scene = ground.scene(f"z{number}")
        old = scene.start("bridge", name="old", failpoints=f"{name}=stop@2")
        old.wait_for(lambda pid=old.pid: is_stopped(pid))
        scene.fired(name)
        scene.start("bridge", name="new").finish()
        before = [(e.offset, e.marker) for e in scene.markers()]
        old.signal(signal.SIGCONT)
        assert old.end() == errors.Fenced.exit_code
        assert "newer instance" in old.output
        assert [(e.offset, e.marker) for e in scene.markers()] == before
        scene.recount_topic()
    return Outcome(f"at {len(points)} points: it ended with code 8, not one of its rows is visible")


@case("4", "a row's delivery fails", topologies=1, fast=True)
def delivery_fails(ground: Ground) -> Outcome:
    scene = ground.scene()
    client = clients.admin(scene.config.kafka())
    names = topics.TopicNames(scene.job)
    topics.ensure_topics(client, names, 2)
    set_topic(client, names.samples, "max.message.bytes", "80")
    bridge = scene.start("bridge")
    bridge.wait_for(lambda: "starting again from the marker log" in bridge.output)
    assert "MSG_SIZE_TOO_LARGE" in bridge.output
    assert scene.markers() == []
    begin = time.time()
    set_topic(client, names.samples, "max.message.bytes", "1000000")
    bridge.finish()
    recovery = scene.bridged_after(begin)
    scene.recount_topic()
    return Outcome("the whole split was aborted and tried again", [recovery] if recovery else [])


@case("5", "a file grows and a new one comes after bridging", topologies=1, fast=True)
def late_files(ground: Ground) -> Outcome:
    scene = ground.scene("fail")
    scene.start("bridge").finish()
    grown = scene.folder / "data" / SPLITS[0] / "part-0"
    with grown.open("a") as out:
        out.write("\n".join(rows(9, seed=90)) + "\n")
    again = scene.start("bridge")
    assert again.end() == errors.DataError.exit_code and str(grown) in again.output
    append = ground.scene("append", stream={"changed_split": "append"})
    append.start("bridge").finish()
    with (append.folder / "data" / SPLITS[0] / "part-0").open("a") as out:
        out.write("\n".join(rows(9, seed=90)) + "\n")
    write_split(append.folder / "data", SPLITS[1], rows(7, seed=91), file="part-1")
    append.start("bridge").finish()
    append.recount_topic()
    assert sum(e.marker.rows for e in append.markers() if e.marker.revision) == 16
    return Outcome("fail: refused, naming the file; append: the 16 new rows alone were added")


@case("6", "a split is missing", topologies=1, fast=True)
def missing_split(ground: Ground) -> Outcome:
    scene = ground.scene("wait")
    (scene.folder / "data" / SPLITS[1] / "data.done").unlink()
    bridge = scene.start("bridge")
    bridge.wait_for(lambda: f"{SPLITS[1]}: waiting (no data.done)" in bridge.output)
    state = json.loads((scene.config.state_dir / "bridge.json").read_text())
    assert SPLITS[1] in state["doing"]
    begin = time.time()
    (scene.folder / "data" / SPLITS[1] / "data.done").touch()
    bridge.finish()
    recovery = scene.bridged_after(begin)
    scene.recount_topic()
    skip = ground.scene("skip", stream={"missing_split": "skip", "missing_split_grace_second": 0.3})
    shutil.rmtree(skip.folder / "data" / SPLITS[1])
    skip.start("bridge").finish()
    assert [e.marker.status for e in skip.markers()] == ["data", "skipped", "empty", "data"]
    skip.recount_topic()
    return Outcome("wait: said in log and status; skip: a marker says so", [recovery] if recovery else [])


@case("7", "lines that do not parse", topologies=1, fast=True)
def bad_lines(ground: Ground) -> Outcome:
    scene = ground.scene()
    path = scene.folder / "data" / SPLITS[1] / "part-0"
    good = path.read_text()
    path.write_text(good + "no row\n" * 9)
    bridge = scene.start("bridge")
    assert bridge.end() == errors.DataError.exit_code
    assert f"9 of {ROWS + 10} lines do not parse" in bridge.output
    assert len(scene.markers()) == 1  # nothing of the split is visible
    path.write_text(good + "no row\n")
    scene.start("bridge").finish()
    assert [e.marker.rejected for e in scene.markers()] == [0, 1, 0, 0]
    path.write_text(good)
    scene.recount_topic()
    return Outcome("9 of 160: refused, the split aborted; 1 of 152: in the rejects")


@case("7", "the bridge stops at a bad file, what it has bridged is trained", topologies=1)
def bridge_stops(ground: Ground) -> Outcome:
    scene = ground.scene()
    path = scene.folder / "data" / SPLITS[1] / "part-0"
    good = path.read_text()
    path.write_text("no row\n" * 9)
    run = scene.start("run")
    assert run.end(90) == errors.DataError.exit_code
    assert scene.checkpoints() == ["20240101/1"] and scene.leftovers() == []
    path.write_text(good)
    begin = time.time()
    scene.settle()
    recovery = scene.trained_after(begin)
    return Outcome("run trained and saved it, then ended with code 3", [recovery] if recovery else [])


# the trainer


@case("8", "a record in the topic that does not decode")
def undecodable(ground: Ground) -> Outcome:
    scene = ground.scene()
    client = clients.admin(scene.config.kafka())
    names = topics.TopicNames(scene.job)
    ids = topics.ensure_topics(client, names, 2)
    writer = clients.producer(scene.config.kafka(), f"{scene.job}.bridge")
    writer.init_transactions(30)
    writer.begin_transaction()
    writer.produce(names.samples, b"junk", partition=0)
    ranges = (Range(0, 0, 1, 1),)
    marker = Marker("20240101", "0000", 0, 0, "data", ids.samples, ranges, 1, 0, (), SCHEMA.text)
    writer.produce(names.splits, marker.encode(), partition=0)
    writer.commit_transaction(30)
    trainer = scene.start("train")
    assert trainer.end() == errors.DataError.exit_code
    assert f"topic {names.samples}, partition 0, offset 0 is no row" in trainer.output
    assert scene.checkpoints() == [] and scene.passes() == 0
    return Outcome("the pass failed before training, naming topic, partition, offset")


def killed_trainer(ground: Ground, points: dict[str, int], **changes: Any) -> Outcome:
    """A role is killed at each point once; the supervisor starts all anew each time."""
    scene = ground.scene(days=2, **changes)
    armed = ",".join(f"{name}=kill@{number}" for name, number in points.items())
    output = scene.start("run", failpoints=armed).finish(60 + 25 * len(points))
    assert f"restart {len(points)}:" in output
    moments = [scene.fired(name) for name in points]
    recoveries = [s for m in moments if (s := scene.trained_after(m)) is not None]
    found = scene.recount()
    return Outcome(f"{found.rows} rows, {found.keys} keys: exact", recoveries, len(points))


@case("9", "a worker killed while it reads, predicts, trains, saves")
def killed_worker(ground: Ground) -> Outcome:
    return killed_trainer(
        ground, {"feed.spooled": 2, "pass.read": 2, "pass.predicted": 2, "pass.trained": 2, "save.written": 2}
    )


@case("9", "a worker killed while it restores")
def killed_restoring(ground: Ground) -> Outcome:
    points = {"restore.fenced": 1, "restore.cleared": 1, "restore.chosen": 1, "restore.loaded": 1}
    return killed_trainer(ground, {"pass.trained": 2, **points})


@case("9", "a worker that dies every time", topologies=1)
def dies_every_time(ground: Ground) -> Outcome:
    scene = ground.scene(stream={"max_restarts": 1})
    run = scene.start("run", failpoints="pass.trained=kill", once=False)
    assert run.end(90) == errors.TrainingError.exit_code
    assert "restarted 2 times without finishing a pass" in run.output and "workerlog.0" in run.output
    assert scene.checkpoints() == [] and scene.leftovers() == []
    scene.settle()
    return Outcome("ended with code 6 after stream.max_restarts; started again it goes on", kills=2)


@case("10", "a server killed, at its start and while a pass is trained")
def killed_server(ground: Ground) -> Outcome:
    scene = ground.scene()
    run = scene.start("run", failpoints="server.up=kill@1,pass.predicted=stop@2")
    run.wait_for(lambda: scene.has_fired("pass.predicted"))
    begin = time.time()
    scene.roles("server")[-1].kill()  # the worker is stopped between predicting and training
    os.kill(scene.fired_pid("pass.predicted"), signal.SIGCONT)
    run.wait_for(lambda: "restart 2: server" in run.output, 15)
    noticed = time.time() - begin
    assert noticed < 10
    run.finish()
    recovery = scene.trained_after(begin)
    first = scene.trained_after(scene.fired("server.up"))
    scene.recount()
    return Outcome(f"noticed after {noticed:.1f} s", [s for s in (recovery, first) if s is not None], 2)


@case("10", "a server frozen: its endpoint does not answer", fast=True)
def frozen_server(ground: Ground) -> Outcome:
    return frozen(ground, "server")


@case("9", "a worker frozen")
def frozen_worker(ground: Ground) -> Outcome:
    return frozen(ground, "worker")


def frozen(ground: Ground, kind: str) -> Outcome:
    scene = ground.scene(runner={"end_day": "20240102"})
    run = scene.start("run")
    run.wait_for(lambda: scene.passes() >= 4)
    victim = scene.roles(kind)[-1]
    begin = time.time()
    victim.suspend()
    run.wait_for(lambda: "restart 1:" in run.output, 20)
    noticed = time.time() - begin
    assert noticed < 10 and kind in run.output.split("restart 1:")[1].splitlines()[0]
    for number, split in enumerate(SPLITS):
        write_split(scene.folder / "data", split.replace("20240101", "20240102"), rows(ROWS, seed=50 + number))
    run.finish()
    recovery = scene.trained_after(begin)
    scene.recount()
    return Outcome(f"noticed after {noticed:.1f} s", [recovery] if recovery else [], 1)


@case("11", "killed before the rename")
def before_rename(ground: Ground) -> Outcome:
    points = (
        "day.shrunk", "save.staged", "save.fsync", "save.sealed", "export.staged", "commit.manifest", "commit.fenced",
        "commit.model",
    )  # fmt: skip
    outcome = killed_trainer(ground, {**dict.fromkeys(points, 2), "day.shrunk": 1})
    assert len(list((ground.scenes[0].config.model_save_path / ".staging").iterdir())) == 1
    return outcome


@case("12", "killed after the rename")
def after_rename(ground: Ground) -> Outcome:
    outcome = killed_trainer(ground, {"commit.renamed": 1, "commit.committed": 1, "commit.done": 1, "pass.recorded": 1})
    log = (ground.scenes[0].folder / "log" / "workerlog.0").read_text()
    assert "rolled forward" in log
    lines = (ground.scenes[0].config.model_save_path / "donefile.txt").read_text().splitlines()
    assert [line.split("\t")[3] for line in lines] == ["1", "2", "3", "4"] * 2
    return Outcome(f"{outcome.text}; rolled forward, donefile whole", outcome.recoveries, outcome.kills)


@case("13", "a second trainer while the first one trains")
def second_trainer(ground: Ground) -> Outcome:
    scene = ground.scene()
    scene.start("bridge").finish()
    first = scene.start("train", name="first", failpoints="pass.trained=stop@2")
    first.wait_for(lambda: scene.has_fired("pass.trained"), 60)
    first.signal(signal.SIGSTOP)  # its supervisor too, or it would take the freeze for a hang
    second = scene.start("train", name="second")
    second.finish()
    before = scene.snapshot()
    os.kill(scene.fired_pid("pass.trained"), signal.SIGCONT)
    first.signal(signal.SIGCONT)
    assert first.end() == errors.Fenced.exit_code
    assert "newer" in first.output
    assert scene.snapshot() == before
    scene.recount()
    return Outcome("the second one wins, the first ends with code 8 and has changed nothing")


@case("13", "two trainers started at once", fast=True)
def two_at_once(ground: Ground) -> Outcome:
    scene = ground.scene()
    scene.start("bridge").finish()
    both = [scene.start("train", name=name) for name in ("one", "two")]
    codes = sorted(process.end() for process in both)
    assert codes == [0, errors.Fenced.exit_code], [p.output[-1500:] for p in both]
    scene.recount()
    return Outcome("one ends with code 8, the other one trains all")


@case("13", "two runs at once, with an embedded Kafka")
def two_runs(ground: Ground) -> Outcome:
    scene = ground.scene(kafka={})
    both = [scene.start("run", name=name) for name in ("one", "two")]
    codes = sorted(process.end() for process in both)
    assert codes == [0, errors.Fenced.exit_code], [p.output[-1500:] for p in both]
    scene.recount()
    return Outcome("one ends with code 8; the other one goes on, with a Kafka of its own if that one's ended")


ZOMBIE_POINTS = (
    "restore.fenced", "restore.cleared", "restore.chosen", "pass.trained", "day.shrunk", "save.staged", "save.sealed",
    "export.staged", "commit.manifest", "commit.fenced", "commit.model", "commit.renamed", "commit.committed",
    "commit.done", "pass.recorded",
)  # fmt: skip


@case("13", "zombie trainer frozen at every point, thawed late")
def zombie_trainer(ground: Ground) -> Outcome:
    for name in ZOMBIE_POINTS:
        zombie_at(ground, name)
    return Outcome(f"at {len(ZOMBIE_POINTS)} points: it ended with code 8, no file has changed")


def zombie_at(ground: Ground, name: str) -> None:
    """Without a supervisor: that one would find it frozen and end it."""
    scene = ground.scene(f"z-{name}")
    scene.start("bridge").finish()
    old = scene.fleetrun(failpoints=f"{name}=stop")
    old.wait_for(lambda: scene.has_fired(name) and is_stopped(scene.fired_pid(name)))
    scene.start("train", name="new").finish()
    before = scene.snapshot()
    os.kill(scene.fired_pid(name), signal.SIGCONT)
    log = scene.folder / "fleetlog" / "workerlog.0"
    old.wait_for(lambda: "ERROR" in log.read_text() or "Fenced" in log.read_text(), 60, alive=False)
    process = scene.fired_pid(name)
    old.wait_for(lambda: not psutil.pid_exists(process) or is_zombie(process), 30, alive=False)
    said = log.read_text()
    assert "newer instance" in said or "newer trainer" in said, said[-3000:]
    assert scene.snapshot() == before
    scene.close()
    scene.recount()


# the broker


@case("14", "broker killed -9 with a transaction open, restarted")
def broker_killed(ground: Ground) -> Outcome:
    with EmbeddedBroker(ground.folder / "kafka") as broker:
        scene = ground.scene(kafka={"bootstrap.servers": broker.bootstrap})
        run = scene.start("run", failpoints="bridge.flushed=stop@2,commit.fenced=stop@1")
        run.wait_for(lambda: scene.has_fired("bridge.flushed") and scene.has_fired("commit.fenced"))
        assert broker.pid is not None
        os.kill(broker.pid, signal.SIGKILL)
        broker.stop()
        for name in ("bridge.flushed", "commit.fenced"):
            if psutil.pid_exists(scene.fired_pid(name)):
                os.kill(scene.fired_pid(name), signal.SIGCONT)
        time.sleep(1)  # both sides meet a broker that is not there
        begin = time.time()
        broker.start()
        run.finish(180)
        recovery = scene.trained_after(begin)
        scene.recount()
        scene.close()
    return Outcome("both waited and went on", [recovery] if recovery else [], 1)


@case("14", "run's own broker killed -9 while it starts, three times", topologies=1)
def broker_killed_starting(ground: Ground) -> Outcome:
    scene = ground.scene(kafka={})
    run = scene.start("run")
    killed: set[int] = set()

    def starting() -> list[psutil.Process]:
        found = []
        for process in psutil.Process(run.pid).children(recursive=True):
            with contextlib.suppress(psutil.Error):
                if process.pid not in killed and "kafka.Kafka" in process.cmdline():
                    found.append(process)
        return found

    for _ in range(3):
        run.wait_for(starting)
        victim = starting()[0]
        killed.add(victim.pid)
        victim.kill()
    output = run.finish(180)
    assert output.count("Kafka was killed while it started (SIGKILL)") + output.count("Kafka died") == 3
    scene.recount()
    return Outcome("each time it was started again", kills=3)


@case("14", "broker frozen for 60 s")
def broker_frozen(ground: Ground) -> Outcome:
    with EmbeddedBroker(ground.folder / "kafka") as broker:
        scene = ground.scene(kafka={"bootstrap.servers": broker.bootstrap})
        (scene.folder / "data" / SPLITS[3] / "data.done").unlink()
        run = scene.start("run")
        run.wait_for(lambda: scene.passes() == 3)
        assert broker.pid is not None
        os.kill(broker.pid, signal.SIGSTOP)
        try:
            (scene.folder / "data" / SPLITS[3] / "data.done").touch()
            begin = time.time()
            log = scene.folder / "log" / "workerlog.0"
            run.wait_for(lambda: "the broker is away" in log.read_text(), 30)
            status = scene.start("status", "--json")
            assert status.end(40) == errors.KafkaError.exit_code
            assert '"doing": "waiting for Kafka"' in status.output
            run.wait_for(lambda: time.time() - begin > 60, 70)
        finally:
            os.kill(broker.pid, signal.SIGCONT)
        thawed = time.time()
        run.finish(180)
        recovery = scene.trained_after(thawed)
        scene.recount()
        scene.close()
    return Outcome("waited, said so in log and status, went on", [recovery] if recovery else [])


@case("14", "broker unreachable at start")
def broker_unreachable(ground: Ground) -> Outcome:
    port = free_port()
    scene = ground.scene(kafka={"bootstrap.servers": f"127.0.0.1:{port}"})
    run = scene.start("run")
    run.wait_for(lambda: "waiting for Kafka" in run.output, 30)
    begin = time.time()
    with EmbeddedBroker(ground.folder / "kafka", port):
        run.finish()
        recovery = scene.trained_after(begin)
        scene.recount()
        scene.close()
    return Outcome("waited, said so, went on", [recovery] if recovery else [])


# disks and damage


@case("15", "disk full while staging", needs="tmpfs")
def disk_full_staging(ground: Ground) -> Outcome:
    folder = ground.folder / "small"
    with tmpfs(folder, 8):
        scene = ground.scene(runner={"model_save_path": str(folder / "model")}, stream={"max_restarts": 100})
        (scene.folder / "data" / SPLITS[1] / "data.done").unlink()
        run = scene.start("run")
        run.wait_for(lambda: scene.passes() == 1)
        filler = folder / "filler"
        filler.write_bytes(b"x")
        fill(filler)
        (scene.folder / "data" / SPLITS[1] / "data.done").touch()
        run.wait_for(lambda: "restart 2:" in run.output, 60)
        said = next(x for x in run.output.splitlines() if x.startswith("restart") and re.search("space|full", x))
        assert scene.checkpoints() == ["20240101/1"]
        begin = time.time()
        filler.unlink()
        run.finish()
        recovery = scene.trained_after(begin)
        scene.recount()
        scene.close()
    return Outcome(f"said: {said.strip()[:100]}", [recovery] if recovery else [])


@case("15", "disk full while spooling", needs="tmpfs")
def disk_full_spooling(ground: Ground) -> Outcome:
    folder = ground.folder / "small"
    with tmpfs(folder, 1):
        scene = ground.scene(stream={"spool_dir": str(folder / "spool"), "max_restarts": 100})
        filler = folder / "filler"
        filler.write_bytes(b"x")
        fill(filler)
        run = scene.start("run")
        run.wait_for(lambda: "stream.spool_dir" in run.output, 60)
        assert "Free some space" in run.output and scene.passes() == 0
        begin = time.time()
        filler.unlink()
        run.finish()
        recovery = scene.trained_after(begin)
        scene.recount()
        scene.close()
    return Outcome("named the folder, went on when there was space", [recovery] if recovery else [])


@case("15", "disk full in the broker's folder", needs="tmpfs", topologies=1)
def disk_full_broker(ground: Ground) -> Outcome:
    folder = ground.folder / "small"
    with tmpfs(folder, 400):
        scene = ground.scene(kafka={}, stream={"broker_dir": str(folder / "kafka"), "max_restarts": 100})
        (scene.folder / "data" / SPLITS[1] / "data.done").unlink()
        run = scene.start("run")
        run.wait_for(lambda: scene.passes() == 1, 90)
        filler = folder / "filler"
        filler.write_bytes(b"x")
        fill(filler)
        for split, seed in zip(SPLITS[1:], range(20, 30), strict=False):
            write_split(scene.folder / "data", split, rows(3000, seed=seed))
        run.wait_for(lambda: "the embedded Kafka died" in run.output, 90)
        begin = time.time()
        filler.unlink()
        run.finish(180)
        recovery = scene.trained_after(begin)
        scene.recount()
        scene.close()
    return Outcome("Kafka died and was started again, all waited", [recovery] if recovery else [])


def fill(path: Path) -> None:
    """Makes the file take all space that is left."""
    with path.open("ab", buffering=0) as out:
        for size in (1 << 20, 1 << 12, 1):
            while True:
                try:
                    if out.write(b"x" * size) < size:
                        break
                except OSError:
                    break


@case("16", "a checkpoint damaged: one byte flipped, cut, a file gone, its manifest bad")
def damaged(ground: Ground) -> Outcome:
    scene = ground.scene()
    for split in SPLITS[1:]:
        (scene.folder / "data" / split / "data.done").unlink()
    run = scene.start("run")
    run.wait_for(lambda: scene.passes() == 1)
    for split in SPLITS[1:]:
        (scene.folder / "data" / split / "data.done").touch()
    run.finish()
    kinds = (flip, cut, remove, spoil_manifest)
    for damage in kinds:
        newest = CheckpointStore(scene.config.model_save_path).list()[-1].path
        assert newest.name == "4"
        path = damage(newest)
        again = scene.start("run", name="again")
        again.finish()
        log = (scene.folder / "log" / "workerlog.0").read_text()
        assert f"checkpoint 20240101/4 is PASSED OVER: {path}" in log, (path, log[-2000:])
        scene.recount()
    return Outcome(f"{len(kinds)} kinds: passed over loudly, the next older one taken, the pass trained again")


def flip(checkpoint: Path) -> Path:
    path = next(p for p in sorted(checkpoint.glob("embedding.shard/*.txt")) if p.stat().st_size > 100)
    data = bytearray(path.read_bytes())
    data[50] ^= 1
    path.write_bytes(data)
    return path


def cut(checkpoint: Path) -> Path:
    path = sorted((checkpoint / ".dense").iterdir())[0]
    os.truncate(path, path.stat().st_size - 5)
    return path


def remove(checkpoint: Path) -> Path:
    path = sorted(checkpoint.glob("embedding.shard/*.txt"))[1]
    path.unlink()
    return path


def spoil_manifest(checkpoint: Path) -> Path:
    path = checkpoint / "manifest.json"
    path.write_bytes(path.read_bytes()[:-40])
    return path


@case("16", "a failed fsync is not tried again")
def failed_fsync(ground: Ground) -> Outcome:
    scene = ground.scene()
    run = scene.start("run", failpoints="save.fsync=error@3")
    output = run.finish()
    assert "fsync of" in output and "restart 1:" in output and "restart 2:" not in output
    recovery = scene.trained_after(scene.fired("save.fsync"))
    scene.recount()
    return Outcome("the process ended, a fresh one began from the last checkpoint", [recovery] if recovery else [])


# refusals


def stopped_half_way(ground: Ground, name: str = "job", **changes: Any) -> Scene:
    """A job with two checkpoints, whose bridge has done all."""
    scene = ground.scene(name, **changes)
    (scene.folder / "data" / SPLITS[2] / "data.done").unlink()
    run = scene.start("run")
    run.wait_for(lambda: scene.passes() == 2)
    run.signal(signal.SIGTERM)
    run.finish()
    (scene.folder / "data" / SPLITS[2] / "data.done").touch()
    assert len(scene.checkpoints()) == 2
    return scene


def refused(scene: Scene, command: str, kind: type[errors.StreamtrainError], *words: str) -> None:
    before = scene.snapshot()
    process = scene.start(command, name="refused")
    assert process.end() == kind.exit_code, process.output[-3000:]
    line = next(x for x in process.output.splitlines() if x.startswith("error: "))
    for word in words:
        assert word in line, line
    assert scene.snapshot() == before


@case("17", "topic deleted, and deleted and made anew", fast=True)
def topic_deleted(ground: Ground) -> Outcome:
    scene = stopped_half_way(ground)
    names = topics.TopicNames(scene.job)
    client = clients.admin(scene.config.kafka())
    for future in client.delete_topics([names.samples, names.splits, names.rejects]).values():
        future.result()
    until(lambda: not topics.find(client, names))
    refused(scene, "run", errors.TopicReplaced, names.samples, "does not exist", "new stream.job")
    refused(scene, "bridge", errors.TopicReplaced, names.samples, "does not exist")
    assert not topics.find(client, names)  # nothing was made
    topics.ensure_topics(client, names, 2)
    refused(scene, "train", errors.TopicReplaced, names.samples, "made anew", "new stream.job")
    return Outcome("refused with code 10 by run, bridge and train, nothing touched")


@case("17", "topics deleted while the job runs")
def topic_deleted_running(ground: Ground) -> Outcome:
    scene = ground.scene()
    (scene.folder / "data" / SPLITS[2] / "data.done").unlink()
    run = scene.start("run")
    run.wait_for(lambda: scene.passes() == 2)
    names = topics.TopicNames(scene.job)
    client = clients.admin(scene.config.kafka())
    for future in client.delete_topics([names.samples, names.splits, names.rejects]).values():
        future.result()
    (scene.folder / "data" / SPLITS[2] / "data.done").touch()
    before = scene.checkpoints()
    code = run.end(90)
    assert code == errors.TopicReplaced.exit_code, (code, run.output[-2000:])
    assert scene.checkpoints() == before
    alone = ground.scene("alone")
    shutil.rmtree(alone.folder / "data" / SPLITS[2])
    bridge = alone.start("bridge")
    train = alone.start("train")
    train.wait_for(lambda: alone.passes() == 2)
    bridge.signal(signal.SIGTERM)
    bridge.finish()
    names = topics.TopicNames(alone.job)
    for future in client.delete_topics([names.samples, names.splits, names.rejects]).values():
        future.result()
    assert train.end(90) == errors.TopicReplaced.exit_code, train.output[-2000:]
    assert len(alone.checkpoints()) == 2
    return Outcome("ended with code 10")


@case("17", "partition count changed, retention passed, offsets gone")
def partitions_and_retention(ground: Ground) -> Outcome:
    scene = stopped_half_way(ground, "partitions")
    names = topics.TopicNames(scene.job)
    client = clients.admin(scene.config.kafka())
    client.create_partitions([NewPartitions(names.samples, 3)])[names.samples].result()
    refused(scene, "train", errors.PartitionsChanged, names.samples, "3", "2")
    scene = stopped_half_way(ground, "retention")
    scene.start("bridge").finish()
    names = topics.TopicNames(scene.job)
    places = [ck.TopicPartition(names.samples, p) for p in (0, 1)]
    ends = {p: f.result().offset for p, f in client.list_offsets({x: OffsetSpec.latest() for x in places}).items()}
    for future in client.delete_records([ck.TopicPartition(p.topic, p.partition, e) for p, e in ends.items()]).values():
        future.result()
    refused(scene, "train", errors.RetentionPassed, names.samples, "offset", "Retention")
    return Outcome("refused with codes 11 and 12, nothing touched")


@case("17", "another cluster; a witness without its checkpoint")
def other_cluster(ground: Ground) -> Outcome:
    scene = stopped_half_way(ground)
    shutil.move(scene.config.model_save_path / "20240101" / "2", ground.folder / "aside")
    refused(scene, "train", errors.CheckpointMissing, "20240101/2", "Restore that directory")
    shutil.move(ground.folder / "aside", scene.config.model_save_path / "20240101" / "2")
    here = scene.config.path.read_text()
    with EmbeddedBroker(ground.folder / "kafka") as broker:
        elsewhere = here.replace(scene.config.kafka()["bootstrap.servers"], broker.bootstrap)
        scene.config.path.write_text(elsewhere)
        topics.ensure_topics(clients.admin({"bootstrap.servers": broker.bootstrap}), topics.TopicNames(scene.job), 2)
        refused(scene, "train", errors.OtherCluster, "cluster_id", "bootstrap.servers")
    scene.config.path.write_text(here)
    scene.settle()
    return Outcome("refused with codes 13 and 14; put right, it went on")


@case("17", "the group's offsets reset by hand")
def offsets_reset(ground: Ground) -> Outcome:
    scene = stopped_half_way(ground)
    names = topics.TopicNames(scene.job)
    places = [ck.TopicPartition(names.samples, p, 0) for p in (0, 1)] + [ck.TopicPartition(names.splits, 0, 0)]
    client = clients.admin(scene.config.kafka())
    request = [ck.ConsumerGroupTopicPartitions(scene.job, places)]
    for future in client.alter_consumer_group_offsets(request).values():
        future.result()
    scene.settle()
    assert "reset by hand" in (scene.folder / "log" / "workerlog.0").read_text()
    return Outcome("the checkpoint holds, the offsets were rolled forward to it")


@case("18", "a hanging transaction of someone else", topologies=1, fast=True)
def hanging_transaction(ground: Ground) -> Outcome:
    scene = ground.scene()
    names = topics.TopicNames(scene.job)
    topics.ensure_topics(clients.admin(scene.config.kafka()), names, 2)
    other = clients.producer(scene.config.kafka(), f"{scene.job}.stranger")
    other.init_transactions(30)
    other.begin_transaction()
    other.produce(names.splits, b"never committed", partition=0)
    other.flush(10)
    bridge = scene.start("bridge")
    bridge.finish()  # it goes on; readers are held back
    assert scene.markers() == []
    found = [t for t in held_back(scene.config, scene.config.kafka()) if t["topic"] == names.splits]
    assert [t["transactional_id"] for t in found] == [f"{scene.job}.stranger"] and found[0]["since"]
    status = scene.start("status").finish()
    assert f"producer id {found[0]['producer_id']}" in status and "since" in status
    other.abort_transaction(30)
    scene.recount_topic()
    return Outcome("status names producer id and since when; once it is aborted all rows are there")


# ends


@case("19", "SIGTERM while waiting and in the middle of a pass")
def sigterm(ground: Ground) -> Outcome:
    scene = ground.scene(runner={"checkpoint_per_pass": 4, "save_delta_frequency": 0})
    (scene.folder / "data" / SPLITS[2] / "data.done").unlink()
    run = scene.start("run")
    run.wait_for(lambda: scene.passes() == 2)
    assert scene.checkpoints() == []
    run.signal(signal.SIGTERM)
    run.finish(70)
    assert scene.checkpoints() == ["20240101/2"]
    assert scene.leftovers() == []
    (scene.folder / "data" / SPLITS[2] / "data.done").touch()
    run = scene.start("run", failpoints="pass.predicted=stop@1")
    run.wait_for(lambda: scene.has_fired("pass.predicted"))
    run.signal(signal.SIGTERM)
    os.kill(scene.fired_pid("pass.predicted"), signal.SIGCONT)
    run.finish(70)
    assert scene.leftovers() == []
    scene.settle()
    return Outcome("exit code 0, what was done was saved, nothing left running")


@case("19", "run itself killed -9, and SIGINT")
def run_killed(ground: Ground) -> Outcome:
    scene = ground.scene()
    (scene.folder / "data" / SPLITS[1] / "data.done").unlink()
    run = scene.start("run")
    run.wait_for(lambda: scene.passes() == 1)
    assert len(scene.leftovers()) > ground.servers + ground.workers
    run.process.kill()
    until(lambda: scene.leftovers() == [])
    run = scene.start("run")
    run.wait_for(lambda: scene.roles("worker"))
    run.signal(signal.SIGINT)
    run.finish(70)
    until(lambda: scene.leftovers() == [])
    (scene.folder / "data" / SPLITS[1] / "data.done").touch()
    begin = time.time()
    scene.settle()
    recovery = scene.trained_after(begin)
    return Outcome("nothing is left running; started again it goes on", [recovery] if recovery else [], 1)


# all at once, and on several machines


@case("20", "strace: SIGKILL at the N-th fsync, then at the N-th rename", needs="strace")
def strace_sweep(ground: Ground) -> Outcome:
    counts = {call: strace_lives(ground, call) for call in ("fsync", "rename")}
    return Outcome(f"kills until a run ended well: {counts}", kills=sum(counts.values()))


def strace_lives(ground: Ground, call: str) -> int:
    """Each life of worker 0 is killed at one system call later than the last one, until one ends well.

    Without a supervisor and its roles' state files, whose renames would be counted too.
    """
    scene = ground.scene(call, stream={"state_dir": "/proc/none"})
    for split in SPLITS[2:]:
        write_split(scene.folder / "data", split, [])
    scene.start("bridge").finish()
    number, hung = 1, 0
    while number < 200:
        launcher = scene.fleetrun()
        launcher.wait_for(lambda: scene.roles("worker"))
        said = strace_until_its_end(scene, call, number)
        if said is None:  # Paddle's rendezvous found its port taken: nobody watches, so nobody starts it again
            hung += 1
            assert hung < 5
            launcher.process.kill()
            for role in [*scene.roles("worker"), *scene.roles("server")]:
                role.kill()
        launcher.end(60)
        until(lambda: not scene.roles("server") and not scene.roles("worker"))
        if said is not None and "killed by SIGKILL" not in said:
            assert number > 10, "strace killed hardly anything"
            scene.recount()
            return number - 1
        number += said is not None
    raise AssertionError(f"200 lives, and none ended well at {call}")


def strace_until_its_end(scene: Scene, call: str, number: int) -> str | None:
    """What strace saw of worker 0, which is killed at its call number `number`; None when it hangs."""
    log = scene.folder / "strace.log"
    command = [
        "strace", "-q", "-o", str(log), "-e", f"trace={call}", "-e", f"inject={call}:signal=SIGKILL:when={number}",
        "-p", str(scene.roles("worker")[0].pid),
    ]  # fmt: skip
    try:
        subprocess.run(command, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=60, check=False)
    except subprocess.TimeoutExpired:
        return None
    return log.read_text()


@case("20", "strace: SIGKILL in the write of the manifest", needs="strace")
def strace_manifest(ground: Ground) -> Outcome:
    """Without inference models: the next write after the sealing is the manifest's then."""
    scene = ground.scene(stream={"inference_model": "none"})
    run = scene.start("run", failpoints="save.sealed=stop@1")
    run.wait_for(lambda: scene.has_fired("save.sealed") and is_stopped(scene.fired_pid("save.sealed")))
    pid = scene.fired_pid("save.sealed")
    log = scene.folder / "strace.log"
    tracer = subprocess.Popen(
        ["strace", "-q", "-o", str(log), "-e", "trace=write,openat", "-e", "inject=write:signal=SIGKILL:when=1",
         "-p", str(pid)], stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    run.wait_for(lambda: psutil.pid_exists(pid) and traced(pid))
    os.kill(pid, signal.SIGCONT)
    tracer.wait(30)
    run.finish()
    assert "manifest.json" in log.read_text() and "killed by SIGKILL" in log.read_text()
    recovery = scene.trained_after(scene.fired("save.sealed"))
    scene.recount()
    return Outcome("the staged directory was cleared", [recovery] if recovery else [], 1)


def traced(pid: int) -> bool:
    return "TracerPid:\t0\n" not in Path(f"/proc/{pid}/status").read_text()


@case("21", "roles on several machines: a server, worker 0 and a whole host die", fast=True)
def several_machines(ground: Ground) -> Outcome:
    scene = ground.scene(days=2)
    hosts = Hosts(scene, ground.servers, ground.workers)
    bridge = scene.start("bridge")
    hosts.start_all()
    victims = [("server", ground.servers - 1), ("worker", 0)]
    recoveries = []
    slowest = 0.0
    for number, victim in enumerate(victims):
        hosts.run_until(lambda number=number: scene.passes() >= 2 * number + 1)
        begin = time.time()
        hosts.kill(victim)
        slowest = max(slowest, hosts.all_ended(begin))
        hosts.start_all()
        hosts.run_until(lambda begin=begin: scene.trained_after(begin) is not None)
        recoveries.append(scene.trained_after(begin) or 0.0)
    hosts.run_until(hosts.all_done)
    bridge.finish()
    assert slowest < 15
    scene.close()
    scene.recount()
    return Outcome(f"all ended within {slowest:.1f} s, met again at the newest checkpoint", recoveries, len(victims))


class Hosts:
    """Each role as a process group of its own with its own working directory, started again when it fails."""

    def __init__(self, scene: Scene, servers: int, workers: int) -> None:
        self._scene = scene
        ports = [free_port_pair() for _ in range(servers + workers)]
        self._at = [",".join(f"127.0.0.1:{p}" for p in part) for part in (ports[:servers], ports[servers:])]
        self._roles = [("server", i) for i in range(servers)] + [("worker", i) for i in range(workers)]
        self._running: dict[tuple[str, int], Process] = {}
        self._done: set[tuple[str, int]] = set()

    def start_all(self) -> None:
        for role in self._roles:
            if role not in self._running and role not in self._done:
                kind, index = role
                cwd = self._scene.folder / f"{kind}{index}"
                cwd.mkdir(exist_ok=True)
                self._running[role] = self._scene.start(
                    "train", "--role", kind, "--index", str(index), "--servers-at", self._at[0],
                    "--workers-at", self._at[1], name=f"{kind}{index}", cwd=cwd,
                )  # fmt: skip

    def kill(self, role: tuple[str, int]) -> None:
        self._running.pop(role).process.kill()

    def all_ended(self, begin: float) -> float:
        """Seconds until every other role has ended, each with exit code 6."""
        for role, process in self._running.items():
            assert process.end(20) == errors.PeerLost.exit_code, (role, process.output[-2000:])
        self._running.clear()
        return time.time() - begin

    def run_until(self, condition: Callable[[], bool], seconds: float = 90) -> None:
        """Starts again what failed, as a restart policy would."""
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, [p.output[-1500:] for p in self._running.values()]
            for role, process in list(self._running.items()):
                code = process.process.poll()
                if code == 0:
                    self._done.add(self._running.pop(role) and role)
                elif code is not None:
                    del self._running[role]
            self.start_all()
            time.sleep(0.1)

    def all_done(self) -> bool:
        return len(self._done) == len(self._roles)


@case("22", "stopped with 2 servers x 2 workers, gone on with 1x1, 1x2, 2x1", topologies=1)
def elastic(ground: Ground) -> Outcome:
    scene = ground.scene(stream={"servers": 2, "workers": 2})
    for split in SPLITS[1:]:
        (scene.folder / "data" / split / "data.done").unlink()
    for number, (servers, workers) in enumerate(((2, 2), (1, 1), (1, 2), (2, 1))):
        (scene.folder / "data" / SPLITS[number] / "data.done").touch()
        text = scene.config.path.read_text()
        kept = [x for x in text.splitlines() if not x.strip().startswith(("servers:", "workers:"))]
        at = next(i for i, x in enumerate(kept) if x.startswith("stream:"))
        kept[at + 1 : at + 1] = [f"  servers: {servers}", f"  workers: {workers}"]
        scene.config.path.write_text("\n".join(kept) + "\n")
        run = scene.start("run")
        run.wait_for(lambda number=number: scene.passes() > number)
        if number < 3:
            run.signal(signal.SIGTERM)
        run.finish()
    scene.recount()
    return Outcome("each went on from the last one's checkpoint")


# helpers


def until(condition: Callable[[], bool], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def is_stopped(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() == psutil.STATUS_STOPPED)
    except psutil.NoSuchProcess:
        return False


def is_zombie(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True


def set_topic(client: Any, topic: str, key: str, value: str) -> None:
    entry = ConfigEntry(key, value, incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=[entry])
    for future in client.incremental_alter_configs([resource]).values():
        future.result()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def free_port_pair() -> int:
    """A port with the one after it free too."""
    while True:
        port = free_port()
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port + 1))
                return port
            except OSError:
                continue
