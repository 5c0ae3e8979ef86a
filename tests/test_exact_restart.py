"""A checkpoint, loaded into fresh servers of any number and saved again, is the same in every statistic."""

import gzip
import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from streamtrain.engine.environment import engine_environment
from tests.faults.scene import SPLITS, Process, Scene

pytestmark = [pytest.mark.kafka, pytest.mark.paddle]
ROLE = Path(__file__).with_name("resave_role.py")


def sparse(checkpoint: Path) -> dict[str, str]:
    """Every line of the sparse table by its key: slot, unseen_days, delta_score, show, click, weights, g2sums."""
    lines = [x for p in checkpoint.glob("embedding.shard/*.txt") for x in p.read_text().splitlines()]
    found = {line.split(" ", 1)[0]: line for line in lines}
    assert len(found) == len(lines)
    return found


def optimizer(checkpoint: Path) -> list[str]:
    """The dense table's lines: value, Adam's moments and beta powers of each parameter."""
    parts = sorted((checkpoint / ".dense").iterdir())
    lines = [x for p in parts for x in gzip.decompress(p.read_bytes()).decode().splitlines()]
    return [x for x in lines if x.strip()]


def values(checkpoint: Path) -> dict[str, bytes]:
    """The dense parameters as they are computed with: one binary tensor each."""
    return {p.name: p.read_bytes() for p in checkpoint.iterdir() if p.is_file() and p.name != "manifest.json"}


def save_again(scene: Scene, source: Path, servers: int, workers: int) -> Path:
    target = scene.folder / f"again-{servers}x{workers}"
    command = [
        sys.executable, "-m", "paddle.distributed.launch", "--run_mode", "ps", "--server_num", str(servers),
        "--trainer_num", str(workers), "--log_dir", str(scene.folder / f"log-{target.name}"),
        str(ROLE), str(scene.config.path), str(source), str(target),
    ]  # fmt: skip
    root = str(Path(__file__).resolve().parent.parent)
    log = scene.folder / f"{target.name}.out"
    with log.open("wb") as out:
        launcher = subprocess.Popen(
            command, env={**os.environ, **engine_environment(), "PYTHONPATH": root}, stdout=out,
            stderr=subprocess.STDOUT, cwd=scene.folder, start_new_session=True,
        )  # fmt: skip
    try:
        Process(launcher, log).wait_for((scene.folder / f"{target.name}.done").exists, 60, alive=False)
    finally:
        for process in [*psutil.Process(launcher.pid).children(recursive=True), psutil.Process(launcher.pid)]:
            process.kill()  # Paddle's servers do not end by themselves
        launcher.wait()
    return target


def test_save_load_save_is_exact(tmp_path: Path, kafka: dict[str, str], job: str) -> None:
    scene = Scene(tmp_path, kafka, job, 2, 2, hyper_parameters={"layer_sizes": [32, 16]})
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
