"""The quick way to build a network makes the programs that Paddle's own way makes."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from streamtrain.config import JobConfig, load_config
from tests.support.everything_job import write_everything
from tests.support.jobs import write_config
from tests.support.paths import ROOT, TESTS

pytestmark = pytest.mark.paddle

KAFKA = {"bootstrap.servers": "127.0.0.1:1"}


def of_slots(folder: Path, *, pool: bool = False) -> JobConfig:
    return write_config(folder, "job", KAFKA, hyper_parameters={"slot_num": 30, "layer_sizes": [8]},
                        stream={"job": "job", "workers": 1, "fast_paths": {"pool": pool}})  # fmt: skip


def of_joined_slots(folder: Path) -> JobConfig:
    return of_slots(folder, pool=True)


def of_everything(folder: Path) -> JobConfig:
    config = write_everything(folder, "job", KAFKA)
    raw = yaml.safe_load(config.path.read_text())
    raw["stream"]["inference_model"] = "full"
    config.path.write_text(yaml.safe_dump(raw))
    return load_config(config.path)


@pytest.mark.parametrize("job", [of_slots, of_joined_slots, of_everything])
def test_the_same_programs(tmp_path: Path, job: Callable[[Path], JobConfig]) -> None:
    config = job(tmp_path)
    texts = []
    for way in ("quick", "slow"):
        out = tmp_path / way
        command = [sys.executable, str(TESTS / "support" / "program_builder.py"), str(config.path), str(out), way]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=environment)
        assert done.returncode == 0, done.stderr[-3000:]
        texts.append(out.read_text())
    assert "distributed_push_sparse" in texts[0] and texts[0] == texts[1]
