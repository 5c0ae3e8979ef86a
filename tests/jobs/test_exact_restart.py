"""A checkpoint, loaded into fresh servers of any number and saved again, is the same in every statistic."""

import os
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest

from streamtrain.contracts.tensors import read_tensor
from tests.support.paths import MODEL
from tests.support.roles import run_roles
from tests.support.scene import SPLITS, Scene

pytestmark = [pytest.mark.kafka, pytest.mark.paddle]


def sparse(checkpoint: Path) -> dict[str, str]:
    """Every line of the sparse table by its key: slot, unseen_days, delta_score, show, click, weights, g2sums."""
    lines = [x for p in checkpoint.glob("embedding.shard/*.txt") for x in p.read_text().splitlines()]
    found = {line.split(" ", 1)[0]: line for line in lines}
    assert len(found) == len(lines)
    return found


def optimizer(checkpoint: Path) -> list[str]:
    """The dense table's lines: value, Adam's moments and beta powers of each parameter."""
    parts = sorted((checkpoint / ".dense").iterdir())
    lines = [x for p in parts for x in p.read_text().splitlines()]
    return [x for x in lines if x.strip()]


def values(checkpoint: Path) -> dict[str, bytes]:
    """The dense parameters as they are computed with: one binary tensor each."""
    return {p.name: p.read_bytes() for p in checkpoint.iterdir() if p.is_file() and p.suffix != ".json"}


def save_again(scene: Scene, source: Path, servers: int, workers: int) -> Path:
    target = scene.folder / f"again-{servers}x{workers}"
    arguments = [str(scene.config.path), str(source), str(target)]
    run_roles("resave_role.py", arguments, scene.folder, scene.folder / f"{target.name}.done", servers, workers)
    return target


def test_save_load_save_is_exact(tmp_path: Path, kafka: dict[str, str], job: str) -> None:
    stream = {"inference_model": "none"}  # publishing one sets delta_score to 0
    scene = Scene(tmp_path, kafka, job, 2, 2, hyper_parameters={"layer_sizes": [32, 16]}, stream=stream)
    scene.start("run").finish()
    saved = scene.config.model_save_path / "20240101" / str(len(SPLITS))
    before = (sparse(saved), optimizer(saved), values(saved))
    assert len(before[0]) > 150
    assert any(float(line.split(" ")[3]) > 0 for line in before[0].values())  # delta_score is not all 0
    columns = [line.split() for line in before[1]]
    assert len(columns) > 500
    assert all(len(c) == 5 and all(float(x) for x in c[2:]) for c in columns)  # its value, and Adam's whole state
    for servers, workers in ((2, 2), (1, 1), (3, 1)):
        again = save_again(scene, saved, servers, workers)
        after = (sparse(again), optimizer(again), values(again))
        assert after[0] == before[0]
        assert after[2] == before[2]
        assert after[1] == before[1], f"{servers}x{workers}"
    scene.close()


def test_what_no_server_has_is_restored_too(tmp_path: Path, kafka: dict[str, str], job: str) -> None:
    """The mean and variance of batch_norm, which inference models predict with."""
    model = shutil.copytree(MODEL, tmp_path / "net", ignore=shutil.ignore_patterns("__pycache__"))
    network = (model / "net.py").read_text()
    pooled = "layer = paddle.concat(pooled, axis=1)"
    assert pooled in network
    normed = f"{pooled}\n        layer = paddle.static.nn.batch_norm(layer, moving_mean_name='mean', name='norm')"
    (model / "net.py").write_text(network.replace(pooled, normed))
    scene = Scene(tmp_path, kafka, job, runner={"model_dir": str(model)})
    scene.hold(SPLITS[3])
    running = scene.run_to_pass(3)
    os.kill(running.process.pid, signal.SIGTERM)
    assert running.end() == 0
    saved = scene.config.model_save_path / "20240101" / "3"
    before = values(saved)
    assert np.abs(read_tensor(before["mean"])).max() > 1e-4 and len(before) == 8
    assert values(save_again(scene, saved, 2, 1)) == before
    scene.release(SPLITS[3])
    scene.start("run").finish()
    after = read_tensor(values(saved.parent / "4")["mean"])
    published = sorted(saved.parent.glob("inference_model_*"))[-1]
    assert (read_tensor((published / "dense" / "mean").read_bytes()) == after).all()
    scene.recount()
    scene.close()
