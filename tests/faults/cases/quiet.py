"""What must not go on quietly: other configs, newer formats, bad models; and the way back, killed at each step."""

from __future__ import annotations

import signal
import sys
from typing import Any

import orjson
import yaml

from streamtrain import errors
from streamtrain.checkpoint import rewind
from tests.faults.cases.refusals import refused, stopped_half_way
from tests.faults.ground import Ground, Outcome, case
from tests.support.scene import SPLITS, Scene
from tests.support.tls import SecuredBroker, rights

POINTS = ("rewind.begun", "rewind.unlisted", "rewind.moved", "rewind.settled")


def rewound(scene: Scene, to: str, failpoints: str = "") -> int:
    return scene.start("checkpoints", "rewind", "--to", to, failpoints=failpoints, name="rewind").end()


@case("24", "checkpoints rewind killed at each step, then finished by a start")
def rewind_killed(ground: Ground) -> Outcome:
    for number, point in enumerate(POINTS):
        scene = stopped_half_way(ground, f"job{number}")
        first, second = scene.checkpoints()
        assert rewound(scene, first, f"{point}=kill") == -9 and scene.has_fired(point)
        assert (scene.config.model_save_path / rewind.NAME).exists()
        assert scene.settle().ok
        aside = [str(p.relative_to(p.parents[1])) for p in scene.config.model_save_path.glob(".set-aside/*/2*/*")]
        assert second in aside and not (scene.config.model_save_path / rewind.NAME).exists(), aside
    return Outcome("a start finished it; what came later is set aside, all was trained once", kills=len(POINTS))


@case("24", "checkpoints rewind while a trainer runs")
def rewind_while_running(ground: Ground) -> Outcome:
    scene = ground.scene()
    scene.hold(SPLITS[2])
    run = scene.run_to_pass(2)
    first = scene.checkpoints()[0]
    assert rewound(scene, first) == 0
    scene.release(SPLITS[2])
    assert run.end(90) == errors.Fenced.exit_code, run.output[-2000:]
    assert scene.settle().ok
    return Outcome("the trainer was fenced, with code 8; a start trained the passes after it again")


def changed(scene: Scene, section: str, key: str, value: Any) -> None:
    values = yaml.safe_load(scene.config.path.read_text())
    values[section][key] = value
    scene.config.path.write_text(yaml.safe_dump(values, sort_keys=False))


@case("23", "a newer format, and a key that is fixed, at a restart", topologies=1)
def not_ours(ground: Ground) -> Outcome:
    scene = stopped_half_way(ground)
    file = scene.config.model_save_path / scene.checkpoints()[-1] / "manifest.json"
    whole = file.read_bytes()
    file.write_bytes(orjson.dumps({**orjson.loads(whole), "format": 2}))
    for command in ("run", "train", "bridge"):
        refused(scene, command, errors.UnknownFormat, scene.checkpoints()[-1], "format is 2")
    file.write_bytes(whole)
    before = scene.config.path.read_text()
    for section, key, value in (("stream", "format", "multislot"), ("hyper_parameters", "slot_num", 3)):
        changed(scene, section, key, value)
        for command in ("run", "train", "bridge"):
            refused(scene, command, errors.JobChanged, "in the checkpoint", "now")
        scene.config.path.write_text(before)
    assert scene.settle().ok
    return Outcome("refused with codes 15 and 18 by run, train and bridge, nothing touched")


@case("23", "every checkpoint damaged", topologies=1)
def none_usable(ground: Ground) -> Outcome:
    scene = stopped_half_way(ground)
    for name in scene.checkpoints():
        part = next((scene.config.model_save_path / name / "embedding.shard").glob("part-*.txt"))
        part.write_bytes(part.read_bytes()[:-4])
    before = {k: v for k, v in scene.snapshot().items() if k != "passes.jsonl"}
    run = scene.start("run", name="refused")
    assert run.end() == errors.NoneUsable.exit_code and "rewind --to nothing" in run.output, run.output[-2000:]
    assert {k: v for k, v in scene.snapshot().items() if k != "passes.jsonl"} == before
    assert rewound(scene, "nothing") == 0
    assert scene.settle().ok
    return Outcome("refused with code 17; begun anew after `checkpoints rewind --to nothing`")


@case("23", "a learning rate that makes no model")
def bad_model(ground: Ground) -> Outcome:
    scene = ground.scene()
    scene.hold(SPLITS[3])
    run = scene.run_to_pass(3)
    run.signal(signal.SIGTERM)
    run.finish()
    scene.release(SPLITS[3])
    before = scene.snapshot()
    config = scene.config.path.read_text()
    changed(scene, "hyper_parameters", "optimizer", {"class": "Adam", "learning_rate": 1e38, "strategy": "async"})
    run = scene.start("run", name="refused")
    assert run.end() == errors.BadModel.exit_code and "has a value of" in run.output, run.output[-2000:]
    after = scene.snapshot()
    assert {k for k in {*before, *after} if before.get(k) != after.get(k)} <= {"passes.jsonl"}
    scene.config.path.write_text(config)
    assert scene.settle().ok
    return Outcome("ended with code 19 without a restart, nothing saved; resumed with the old one")


@case("23", "strace: the newest manifest cannot be read (EIO)", topologies=1, needs="strace")
def unreadable(ground: Ground) -> Outcome:
    scene = stopped_half_way(ground)
    file = scene.config.model_save_path / scene.checkpoints()[-1] / "manifest.json"
    before = scene.snapshot()
    for command in ("run", "train", "bridge"):
        refuse = ["-P", str(file), "-e", "trace=openat", "-e", "inject=openat:error=EIO"]
        streamtrain = [sys.executable, "-m", "streamtrain.cli.main", "-v", command, "-m", str(scene.config.path)]
        process = scene.spawn(["strace", "-f", "-q", "-o", "/dev/null", *refuse, *streamtrain], name="refused")
        assert process.end() == errors.Unreadable.exit_code, process.output[-2000:]
        assert f"{file} cannot be read: Input/output error" in process.output
    assert scene.snapshot() == before
    assert scene.settle().ok
    return Outcome("refused with code 16 by run, train and bridge, nothing touched; resumed once it could be read")


@case("23", "Kafka takes a right away while the job runs")
def right_taken_away(ground: Ground) -> Outcome:
    with SecuredBroker(ground.folder / "secured") as broker:
        scene = ground.scene(kafka=broker.access("USERS"))
        needed = rights("bridge", scene.job) | rights("trainer", scene.job)
        broker.grant(needed.values())
        scene.hold(SPLITS[3])
        run = scene.run_to_pass(3)
        lost = f"Write on topic {scene.job}.samples"
        broker.revoke(needed[lost])
        before = scene.checkpoints()
        scene.release(SPLITS[3])
        assert run.end() == errors.NotAllowed.exit_code, run.output[-2000:]
        assert f"topic {scene.job}.samples" in run.output and scene.checkpoints() == before
        broker.grant([needed[lost]])
        assert scene.settle().ok
    return Outcome("ended with code 20, naming the topic; resumed once the right was back")
