"""Whole jobs that dump, and are killed while they do."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from streamtrain.dumps import FILES, read_dump
from streamtrain.errors import ConfigError, TrainingError
from tests.support.jobs import rows, write_split
from tests.support.models import model_that_dumps
from tests.support.scene import SPLITS, Scene, can_mount, tmpfs

pytestmark = [pytest.mark.kafka, pytest.mark.paddle]
PREDICTED = "sigmoid_0.tmp_0"


def labels_of(scene: Scene) -> dict[str, dict[str, int]]:
    """By pass, each row's ins_id and label, from the source files; a pass is a split."""
    found: dict[str, dict[str, int]] = {}
    for number, split in enumerate(SPLITS, 1):
        here = found.setdefault(f"{split.split('/')[0]}/{number}", {})
        for index, file in enumerate(sorted((scene.folder / "data" / split).glob("part-*"))):
            for line, text in enumerate(file.read_text().splitlines(), 1):
                if text and text != "nonsense":
                    here[f"{split}/{index}/{line}"] = int(text[0])
    return found


def dumped(root: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """By pass, its rows; each id once, nothing half done beside them."""
    assert not list(root.glob("*/.*"))
    for place in sorted(root.glob("*/*")):
        lines = list(read_dump(place))
        assert len(dict(lines)) == len(lines)
        yield f"{place.parent.name}/{place.name}", dict(lines)


@pytest.mark.parametrize(
    ("servers", "workers", "failpoints"), [(1, 1, "pass.trained=kill@2,dump.aside=kill"), (2, 2, "dump.written=kill@3")]
)
def test_every_row_once_though_killed(
    servers: int, workers: int, failpoints: str, tmp_path: Path, kafka: dict[str, str], job: str
) -> None:
    model = model_that_dumps(tmp_path / "model_dir", '[predicted, "click"]', "self.all_vars", '["out.w", "fc_0.b"]')
    runner = {"need_train_dump": True, "model_dir": str(model), "checkpoint_per_pass": 2}
    scene = Scene(
        tmp_path, kafka, job, servers, workers, runner=runner, stream={"predict_dump_dir": "predict_dump_data"}
    )
    more = rows(20, seed=9)
    write_split(tmp_path / "data", SPLITS[1], [*more[:4], "", "nonsense", *more[4:]], file="part-1")
    scene.start("run", failpoints=failpoints).finish()
    for point in failpoints.split(","):
        scene.fired(point.split("=")[0])
    scene.recount()

    labels = labels_of(scene)
    assert len(labels[f"{SPLITS[1][:8]}/2"]) == 151 + 20
    predicted_first = dict(dumped(tmp_path / "predict_dump_data"))
    assert {
        pass_id: {i: int(v["click"][0]) for i, v in here.items()} for pass_id, here in predicted_first.items()
    } == labels
    train = dict(dumped(tmp_path / "train_dump_data"))
    assert {pass_id: set(here) for pass_id, here in train.items()} == {
        pass_id: set(here) for pass_id, here in labels.items()
    }
    predicted = [
        v for here in (*predicted_first.values(), *train.values()) for row in here.values() for v in [row[PREDICTED]]
    ]
    assert len(predicted) == 2 * (150 + 171 + 153)
    assert all(v.shape == (1,) and 0 < v[0] < 1 for v in predicted)
    place = tmp_path / "train_dump_data" / SPLITS[1][:8] / "2"
    workers_seen = sorted(p.name for p in place.glob("part-*"))
    assert workers_seen == [f"part-{w:03d}-00000" for w in range(workers)]
    first = next(iter(train[f"{SPLITS[1][:8]}/2"].values()))
    assert len(first) == 4 + 1 + 2 + 1 and sum(v.size for v in first.values()) == 4 * 9 + 36 + 8 + 1 + 1
    params = [x for p in place.glob("part-*") for x in p.read_bytes().splitlines() if x.startswith(b"(0,0,")]
    assert sorted(x.split(b")")[0] for x in params) == sorted([b"(0,0,out.w", b"(0,0,fc_0.b"] * workers)
    assert (place / FILES).read_text() == "".join(f"{SPLITS[1]}/{n}\t{SPLITS[1]}/part-{n}\n" for n in (0, 1))


def test_what_cannot_be_dumped_is_refused(tmp_path: Path, kafka: dict[str, str], job: str) -> None:
    """Before anything is touched."""
    model = model_that_dumps(tmp_path / "model_dir", '[predicted, "nix"]', "[]", "[]")
    scene = Scene(
        tmp_path, kafka, job, runner={"model_dir": str(model)}, stream={"predict_dump_dir": "predict_dump_data"}
    )
    run = scene.start("train")
    assert run.end() == ConfigError.exit_code
    assert "static_model.py: infer_dump_fields names nix, which the network lacks" in run.output
    assert not (tmp_path / "predict_dump_data").exists() and not list((tmp_path / "model").glob("*"))


@pytest.mark.skipif(not can_mount(), reason="mounts a tmpfs")
def test_a_full_disk_is_seen(tmp_path: Path, kafka: dict[str, str], job: str) -> None:
    with tmpfs(tmp_path / "small", 1) as folder:
        (folder / "filler").write_bytes(bytes((1 << 20) - 4096))
        runner = {"need_train_dump": True, "train_dump_fields_dir": str(folder)}
        scene = Scene(tmp_path / "job", kafka, job, runner=runner, stream={"max_restarts": 0})
        run = scene.start("run")
        assert run.end() == TrainingError.exit_code, run.output
        assert f"{folder}/20240101/.1-" in run.output and "Is the disk" in run.output
        assert not scene.checkpoints() and not (folder / "20240101" / "1").exists()
