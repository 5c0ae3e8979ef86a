"""`run --profile`: where a pass's time goes."""

from pathlib import Path

import pytest

from streamtrain.checkpoint.journal import Journal
from tests.support.scene import Scene

pytestmark = [pytest.mark.paddle, pytest.mark.kafka]


def test_parts_of_each_pass(tmp_path: Path, kafka: dict[str, str], job: str) -> None:
    scene = Scene(tmp_path, kafka, job)
    scene.start("run", "--profile").finish()
    scene.recount()
    records = [record for record in Journal(scene.config.model_save_path).read() if record.rows]
    for record in records:
        for what, seconds in (("predict", record.predict_seconds), ("train", record.train_seconds)):
            parts = {name: spent for name, spent in record.profile.items() if name.startswith(f"{what}_")}
            assert parts[f"{what}_lookup"] > 0 < parts[f"{what}_products"] and parts[f"{what}_pools"] > 0
            assert sum(parts.values()) < 1.5 * seconds + 0.1
        assert record.profile["train_push"] > 0 == record.profile.get("predict_push", 0)
    log = (tmp_path / "log" / "workerlog.0").read_text()
    assert log.count("seconds by part: ") == len(Journal(scene.config.model_save_path).read()) > len(records) > 1
    scene.close()
