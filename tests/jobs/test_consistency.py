"""Online against offline: real jobs, whose exported models agree with the trainer, or are wrong on purpose."""

import json
from pathlib import Path

import pytest
import yaml

from streamtrain.contracts import reports
from tests.support.mutants import break_code
from tests.support.scene import Scene

pytestmark = [pytest.mark.kafka, pytest.mark.paddle]


def use_adam(scene: Scene) -> None:
    """Its state takes other columns of Paddle's text than AdaGrad's."""
    raw = yaml.safe_load(scene.config.path.read_text())
    adam = {"learning_rate": 0.05, "initial_range": 0.001, "beta1_decay_rate": 0.9, "beta2_decay_rate": 0.999,
            "ada_epsilon": 1e-8, "weight_bounds": [-10.0, 10.0]}  # fmt: skip
    for key in ("embed_sgd_param", "embedx_sgd_param"):
        raw["table_parameters"]["embedding"]["accessor"][key] = {"name": "SparseAdamSGDRule", "adam": adam}
    scene.config.path.write_text(yaml.safe_dump(raw, sort_keys=False))


def test_they_agree(tmp_path: Path, kafka: dict[str, str], job: str) -> None:
    """After an incremental model in the trainer, after the day's full one by command, at 2 x 2."""
    stream = {"consistency_rows": 40, "consistency_every": 3}
    scene = Scene(tmp_path, kafka, job, 2, 2, runner={"save_delta_frequency": 1}, stream=stream)
    use_adam(scene)
    scene.start("run").finish()
    found = reports.read(scene.config.model_save_path, reports.CONSISTENCY)
    assert found is not None and found["ok"], found
    assert 1e-9 < found["worst"]["relative"] < found["tolerance"]  # they are computed apart from each other
    assert found["rows"] == 40 and len(found["variables"]) == 8  # 4 slots, concat, 2 layers, prediction
    asked = scene.start("consistency", "--rows", "500", "--json", name="asked").finish()
    said = json.loads(asked[asked.index("{") :])
    assert said["ok"] and said["model"] == "20240102/inference_model_0"
    assert said["rows"] == 454  # all rows of the day
    assert said["worst"]["ins_id"].startswith("20240101/")
    status = scene.start("status", "--json", name="status").finish()
    assert json.loads(status[status.index("{") :])["consistency"] == found
    assert not scene.leftovers()


def test_a_wrong_model_is_red(tmp_path: Path, kafka: dict[str, str], job: str, monkeypatch: pytest.MonkeyPatch) -> None:
    break_code("export-wrong-weights", tmp_path, monkeypatch)
    scene = Scene(tmp_path, kafka, job, stream={"consistency_rows": 40})
    scene.start("run").finish()
    found = reports.read(scene.config.model_save_path, reports.CONSISTENCY)
    assert found is not None and not found["ok"] and "error" not in found, found
    assert found["worst"]["relative"] > 10 * found["tolerance"]
    assert "DIFFERS FROM THE TRAINER" in (tmp_path / "log" / "workerlog.0").read_text()
    asked = scene.start("consistency", name="asked")
    assert asked.end() == 1 and "online and offline DIFFER" in asked.output
