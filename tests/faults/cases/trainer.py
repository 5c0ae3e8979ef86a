"""Workers and servers killed, frozen and replaced, at every point of a pass, a restore and a commit."""

from __future__ import annotations

import os
import signal
import time
from typing import Any

import psutil

from streamtrain import errors
from streamtrain.contracts.marker import Marker, Range
from streamtrain.contracts.sample import SCHEMA
from streamtrain.kafka import clients, topics
from tests.faults.ground import Ground, Outcome, case, recoveries
from tests.support.jobs import rows, write_split
from tests.support.processes import is_stopped, is_zombie
from tests.support.scene import ROWS, SPLITS


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
    assert f"topic {names.samples}, partition 0, offset 0 is not a row" in trainer.output
    assert scene.checkpoints() == [] and scene.passes() == 0
    return Outcome("the pass failed before training, naming topic, partition, offset")


def killed_trainer(ground: Ground, points: dict[str, int], **changes: Any) -> Outcome:
    """A role is killed at each point once; the supervisor restarts all roles each time."""
    scene = ground.scene(days=2, **changes)
    armed = ",".join(f"{name}=kill@{number}" for name, number in points.items())
    output = scene.start("run", failpoints=armed).finish(60 + 25 * len(points))
    assert f"restart {len(points)}:" in output
    moments = [scene.fired(name) for name in points]
    recovered = recoveries(*map(scene.trained_after, moments))
    recount = scene.recount()
    return Outcome(f"{recount.rows} rows, {recount.keys} keys: exact", recovered, len(points))


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
    return Outcome("ended with code 6 after stream.max_restarts; a restart resumes", kills=2)


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
    recovered = recoveries(scene.trained_after(begin), scene.trained_after(scene.fired("server.up")))
    scene.recount()
    return Outcome(f"noticed after {noticed:.1f} s", recovered, 2)


@case("10", "a server frozen: its endpoint does not answer")
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
    recovered = recoveries(scene.trained_after(begin))
    scene.recount()
    return Outcome(f"noticed after {noticed:.1f} s", recovered, 1)


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
    return Outcome(f"{outcome.text}; rolled forward, donefile complete", outcome.recoveries, outcome.kills)


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
    """The last split comes once both have taken over, or the first one would be done before the other one begins. One
    may be fenced before it has restored anything."""
    scene = ground.scene()
    scene.hold(SPLITS[3])
    bridge = scene.start("bridge")
    both = [scene.start("train", name=name) for name in ("one", "two")]
    worker_log = scene.folder / "log" / "workerlog.0"

    def both_have_taken_over() -> bool:
        restored = worker_log.exists() and worker_log.read_text().count("last model: ") >= 2
        return restored or any(process.process.poll() is not None for process in both)

    bridge.wait_for(both_have_taken_over, 120)
    scene.release(SPLITS[3])
    bridge.finish()
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
    return Outcome("one ends with code 8; the other continues, and starts its own Kafka if the first one's ended")


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
    """Without a supervisor, which would find it frozen and end it."""
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
    text = log.read_text()
    assert "newer instance" in text or "newer trainer" in text, text[-3000:]
    assert scene.snapshot() == before
    scene.close()
    scene.recount()
