"""Each failpoint is reached by a job that dies and resumes."""

from pathlib import Path

import pytest

from streamtrain.failpoints import POINTS, TRACE
from tests.support.scene import Scene

pytestmark = [pytest.mark.kafka, pytest.mark.paddle]


@pytest.mark.usefixtures("plain_protocol")
def test_each_is_reached(tmp_path: Path, kafka: dict[str, str], job: str, monkeypatch: pytest.MonkeyPatch) -> None:
    trace = tmp_path / "trace"
    trace.mkdir()
    monkeypatch.setenv(TRACE, str(trace))
    runner = {
        "need_infer_dump": True, "infer_data_dir": "data", "model_save_path": f"plain://{tmp_path}/bucket.store/models"
    }  # fmt: skip
    scene = Scene(tmp_path / "job", kafka, job, runner=runner, stream={"predict_dump_dir": "predict_dump_data"})
    scene.start("run", failpoints="pass.trained=kill@2").finish()
    scene.fired("pass.trained")
    scene.recount()
    scene.start("checkpoints", "rewind", "--to", scene.checkpoints()[0], name="rewind").finish()
    assert {p.name for p in trace.iterdir()} == set(POINTS)
