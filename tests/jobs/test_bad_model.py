"""A model that cannot be trained or served is not committed: a learning rate of 1e38, a network that gives NaN."""

import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from streamtrain.checkpoint.store import CheckpointStore
from tests.support.cli import run
from tests.support.jobs import MODEL, rows, write_config, write_split

pytestmark = [pytest.mark.kafka, pytest.mark.paddle]


def trained(folder: Path, kafka: dict[str, str], job: str, end_day: str, **changes: Any) -> tuple[int, str]:
    """Exit code and output of `run` over two passes a day."""
    config = write_config(folder, job, kafka, runner={"end_day": end_day}, stream={"max_restarts": 1}, **changes)
    for number, split in enumerate(("20240101/0000", "20240101/1200", "20240102/0000", "20240102/1200")):
        write_split(folder / "data", split, rows(100, number))
    done = run("run", "-m", str(config.path), seconds=150)
    return done.returncode, done.stdout + done.stderr


def test_an_absurd_learning_rate_saves_nothing(tmp_path: Path, kafka: dict[str, str], job: str) -> None:
    code, output = trained(tmp_path, kafka, job, "20240101")
    assert code == 0, output
    store = CheckpointStore(tmp_path / "model")
    before = [str(pass_id) for pass_id in store.ids()]
    config = tmp_path / "config_online.yaml"
    values = yaml.safe_load(config.read_text())
    values["hyper_parameters"]["optimizer"]["learning_rate"] = 1e38
    values["runner"]["end_day"] = "20240102"
    config.write_text(yaml.safe_dump(values))
    done = run("run", "-m", str(config), seconds=150)
    output = done.stdout + done.stderr
    assert done.returncode == 19, output
    assert re.search(r"dense parameter \S+ has a value of \S*e\+3\d", output) and "Lower the learning rates" in output
    assert "restart" not in output and "Traceback" not in output
    assert [str(pass_id) for pass_id in store.ids()] == before
    log = (tmp_path / "log" / "workerlog.0").read_text()
    assert "hyper_parameters.optimizer.learning_rate was 0.001 up to pass 20240101/2, it is 1e+38 from now on" in log
    values["hyper_parameters"]["optimizer"]["learning_rate"] = 0.001
    config.write_text(yaml.safe_dump(values))
    done = run("run", "-m", str(config), seconds=150)
    assert done.returncode == 0, done.stdout + done.stderr
    assert [str(pass_id) for pass_id in store.ids()] == [*before, "20240102/1", "20240102/2"]


def test_predictions_that_are_not_numbers_end_the_run(tmp_path: Path, kafka: dict[str, str], job: str) -> None:
    model = tmp_path / "net"
    shutil.copytree(MODEL, model)
    net = model / "net.py"
    text = net.read_text()
    assert "paddle.clip(layer, min=-15.0, max=15.0)" in text
    net.write_text(text.replace("paddle.clip(layer, min=-15.0, max=15.0)", "paddle.log(layer - 1000.0)"))
    changes = {"runner": {"end_day": "20240101", "model_dir": str(model)}}
    config = write_config(tmp_path, job, kafka, stream={"max_restarts": 1}, **changes)
    for number, split in enumerate(("20240101/0000", "20240101/1200")):
        write_split(tmp_path / "data", split, rows(100, number))
    done = run("run", "-m", str(config.path), seconds=150)
    output = done.stdout + done.stderr
    assert done.returncode == 19 and "the network gives predictions that are not numbers" in output, output
    assert "restart" not in output and "Traceback" not in output and not list((tmp_path / "model").glob("2024*"))
