"""What the trainer publishes for serving, read from the layout alone; killed between export and checkpoint."""

import itertools
import signal
from pathlib import Path

import pytest

from streamtrain.contracts import reports
from streamtrain.proof.job import recount_job
from tests.support.models import set_accessor
from tests.support.models_reader import checkpoint_keys, keys_in, overlay, read_all
from tests.support.scene import SPLITS, Scene

pytestmark = [pytest.mark.kafka, pytest.mark.paddle]


def test_base_and_increments_are_the_full_one(tmp_path: Path, kafka: dict[str, str], job: str) -> None:
    """Also over a day's shrink that deletes keys, and kills between export, checkpoint and donefiles."""
    runner = {"save_delta_frequency": 1, "save_first_base": True}
    scene = Scene(tmp_path, kafka, job, days=2, runner=runner, stream={"consistency_rows": 50})
    # keys that the shrink takes below embedx_threshold: the trainer must not go on with what the text leaves out
    set_accessor(scene, show_click_decay_rate=0.5, delete_threshold=2.5, embedx_threshold=5)
    points = ("day.shrunk", "commit.model", "commit.renamed")
    kills = ",".join(f"{name}=kill@{2 + n % 2}" for n, name in enumerate(points))
    kills = kills.replace("day.shrunk=kill@2", "day.shrunk=kill")
    scene.start("run", failpoints=kills).finish(180)
    for name in points:
        scene.fired(name)
    root = scene.config.model_save_path
    full, incremental = read_all(root)
    assert [m.line["path"] for m in full] == [f"2024010{d}/inference_model_0" for d in (1, 2, 3)]
    passes = [(f"2024010{d}", n + 1) for d in (1, 2) for n in range(len(SPLITS))]
    assert [(m.line["day"], m.line["pass_id"]) for m in incremental] == passes
    assert not full[0].keys
    for before, after in itertools.pairwise(full):
        assert overlay(before, incremental) == after.keys
    assert full[2].keys == checkpoint_keys(root / "20240102" / "4")
    zeros = [k for k, v in full[2].keys.items() if v.endswith(" 0" * 8)]
    assert 0 < len(zeros) < len(full[2].keys)
    checked = reports.read(root, reports.CONSISTENCY)
    assert checked is not None and checked["ok"], checked
    assert "DIFFERS" not in (tmp_path / "log" / "workerlog.0").read_text()
    assert sum(len(m.deleted) for m in incremental) > 0
    for (day, pass_id), model in zip(passes, incremental, strict=True):
        touched = keys_in(tmp_path / "data", f"{day}/{SPLITS[pass_id - 1][-4:]}")
        if pass_id < len(SPLITS):  # the last of a day is after the shrink
            assert set(model.keys) == touched
        else:
            assert touched - set(model.keys) == touched - set(checkpoint_keys(root / day / str(pass_id)))
            forgotten = set(model.keys) - touched  # their embedx is gone
            assert all(model.keys[key].endswith(" 0" * 8) for key in forgotten)
        assert model.manifest["event_time"] > f"{day[:4]}-{day[4:6]}-{day[6:]}T00:00:00"
        assert [f["slot"] for f in model.manifest["feeds"]] == [2, 3, 4, 5] and model.manifest["thresholds"] is None


def test_only_incremental_ones_2x2(tmp_path: Path, kafka: dict[str, str], job: str) -> None:
    runner = {"save_delta_frequency": 2, "checkpoint_per_pass": 3}
    scene = Scene(tmp_path, kafka, job, 2, 2, days=2, runner=runner, stream={"inference_model": "incremental"})
    set_accessor(scene, show_click_decay_rate=0.5, delete_threshold=1.5)
    scene.start("run", failpoints="pass.trained=kill@3").finish(180)
    scene.fired("pass.trained")
    root = scene.config.model_save_path
    full, incremental = read_all(root)
    assert [m.line["path"] for m in full] == ["20240101/inference_model_2"]  # the first one: there is nothing to patch
    assert [m.line["path"][-1] for m in incremental] == ["4", "2", "4"]
    assert set(incremental[1].keys) == keys_in(tmp_path / "data", "20240102/0000", "20240102/0600")
    assert overlay(full[0], incremental) == checkpoint_keys(root / "20240102" / "4")
    assert sum(len(m.deleted) for m in incremental) > 0


def test_without_a_base_the_next_one_is_full(tmp_path: Path, kafka: dict[str, str], job: str) -> None:
    """The donefile of the full ones is lost between two runs: nothing is patched that readers cannot find."""
    scene = Scene(tmp_path, kafka, job, days=2, stream={"inference_model": "incremental"})
    second = tmp_path / "data" / "20240102"
    second.rename(tmp_path / "later")
    run = scene.start("run")
    run.wait_for(lambda: scene.passes() == len(SPLITS))
    run.signal(signal.SIGTERM)
    run.finish()
    root = scene.config.model_save_path
    (root / "base_donefile.txt").unlink()
    (tmp_path / "later").rename(second)
    scene.start("run").finish()
    full, incremental = read_all(root)
    assert [m.line["path"] for m in full] == ["20240102/inference_model_1"]
    assert overlay(full[0], incremental) == checkpoint_keys(root / "20240102" / "4")


def test_paddlerecs_thresholds_full_ones_at_a_url(tmp_path: Path, kafka: dict[str, str], job: str) -> None:
    """Uploaded to an fsspec URL; keys below base_threshold are left out, and the manifest records the threshold."""
    serving = tmp_path / "serving"
    scene = Scene(
        tmp_path, kafka, job, days=1,
        runner={"save_delta_frequency": 2, "model_save_path": f"file://{serving}"},
        stream={"inference_model": "full", "inference_keys": "thresholds", "checkpoint_dir": "checkpoints"},
    )  # fmt: skip
    set_accessor(scene, base_threshold=2.0)
    scene.start("run", failpoints="commit.renamed=kill@2").finish(180)
    scene.fired("commit.renamed")
    full, incremental = read_all(serving)
    assert [m.line["path"] for m in full] == ["20240101/inference_model_2", "20240102/inference_model_0"]
    assert not incremental and full[1].manifest["thresholds"]["base_threshold"] == 2.0
    everything = checkpoint_keys(tmp_path / "checkpoints" / "20240101" / "4")
    assert 0 < len(full[1].keys) < len(everything)
    assert full[1].keys.items() <= everything.items()
    assert recount_job(scene.config).ok


def test_the_gate_withholds(tmp_path: Path, kafka: dict[str, str], job: str) -> None:
    """The first pass's AUC is 0.5: out of bounds, trained, its model withheld; the next one has its keys too."""
    gate = {"min_auc": 0.505, "min_rows": 1}
    scene = Scene(tmp_path, kafka, job, runner={"save_delta_frequency": 1}, stream={"gate": gate})
    scene.start("run").finish()
    found = scene.recount()
    assert found.rows > 0
    log = (tmp_path / "log" / "workerlog.0").read_text()
    assert "pass 20240101/1 is OUT OF BOUNDS: predict AUC 0.5000 is below stream.gate.min_auc, 0.505" in log
    assert "its inference model is WITHHELD" in log
    full, _ = read_all(scene.config.model_save_path)
    assert full[0].line["path"] != "20240101/inference_model_1"
    assert keys_in(tmp_path / "data", SPLITS[0]) <= set(full[0].keys)


def test_the_gate_keeps_a_pass_from_training(tmp_path: Path, kafka: dict[str, str], job: str) -> None:
    gate = {"min_auc": 0.505, "min_rows": 1, "train": False}
    scene = Scene(tmp_path, kafka, job, stream={"gate": gate})
    scene.start("run", failpoints="commit.renamed=kill@2").finish()
    newest = scene.config.model_save_path / "20240101" / str(len(SPLITS))
    assert not checkpoint_keys(newest)  # never trained, so never better than 0.5
    found = recount_job(scene.config)
    assert found.ok and found.rows == 0
