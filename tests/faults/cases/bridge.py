"""The bridge killed, frozen and replaced; files that are missing, late, changed or bad."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time

from streamtrain import errors
from streamtrain.kafka import clients, topics
from streamtrain.kafka.embedded import EmbeddedBroker
from tests.faults.ground import Ground, Outcome, case, recoveries
from tests.support.jobs import rows, write_split
from tests.support.processes import is_stopped
from tests.support.scene import ROWS, SPLITS
from tests.support.topics import set_topic


def killed_bridge(ground: Ground, points: dict[str, int]) -> Outcome:
    """The bridge is killed at each point once, and restarted each time."""
    scene = ground.scene()
    armed = ",".join(f"{name}=kill@{number}" for name, number in points.items())
    for _ in points:
        assert scene.start("bridge", failpoints=armed).end() == -signal.SIGKILL
    scene.start("bridge", failpoints=armed).finish()
    recovered = recoveries(*(scene.bridged_after(scene.fired(name)) for name in points))
    scene.recount_topic()
    return Outcome("every split is committed once", recovered, len(points))


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
        recovered = recoveries(scene.bridged_after(begin))
        scene.recount_topic()
        scene.close()
    return Outcome("a new producer settled it, the split is committed once", recovered)


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
    assert bridge.end() == errors.DataError.exit_code
    assert "its max.message.bytes is 80" in bridge.output and "line " in bridge.output
    assert scene.markers() == []
    set_topic(client, names.samples, "max.message.bytes", "1000000")
    scene.start("bridge").finish()
    scene.recount_topic()
    return Outcome("the whole split was aborted, naming the line; with a higher limit it is bridged")


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
    scene.hold(SPLITS[1])
    bridge = scene.start("bridge")
    bridge.wait_for(lambda: f"{SPLITS[1]}: waiting (no data.done)" in bridge.output)
    state = json.loads((scene.config.state_dir / "bridge.json").read_text())
    assert SPLITS[1] in state["doing"]
    begin = time.time()
    scene.release(SPLITS[1])
    bridge.finish()
    recovered = recoveries(scene.bridged_after(begin))
    scene.recount_topic()
    skip = ground.scene("skip", stream={"missing_split": "skip", "missing_split_grace_second": 0.3})
    shutil.rmtree(skip.folder / "data" / SPLITS[1])
    skip.start("bridge").finish()
    assert [e.marker.status for e in skip.markers()] == ["data", "skipped", "empty", "data"]
    skip.recount_topic()
    return Outcome("wait: reported in log and status; skip: a marker records it", recovered)


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
    recovered = recoveries(scene.trained_after(begin))
    return Outcome("run trained and saved it, then ended with code 3", recovered)
