"""Role scripts under Paddle's launcher, without our supervisor."""

import os
import subprocess
import sys
from pathlib import Path

import psutil

from streamtrain.engine.environment import engine_environment
from tests.support.paths import ROOT
from tests.support.scene import Process


def run_roles(script: str, arguments: list[str], folder: Path, done: Path, servers: int = 1, workers: int = 1) -> None:
    """Runs tests/support/`script` in every role until `done` is there, then ends them all.

    Paddle's servers do not end by themselves. Output goes to `folder`."""
    command = [
        sys.executable, "-m", "paddle.distributed.launch", "--run_mode", "ps", "--server_num", str(servers),
        "--trainer_num", str(workers), "--log_dir", str(folder / f"log-{done.stem}"),
        str(ROOT / "tests" / "support" / script), *arguments,
    ]  # fmt: skip
    log = folder / f"{done.stem}.out"
    with log.open("wb") as out:
        launcher = subprocess.Popen(
            command, env={**os.environ, **engine_environment(), "PYTHONPATH": str(ROOT)}, stdout=out,
            stderr=subprocess.STDOUT, cwd=folder, start_new_session=True,
        )  # fmt: skip
    try:
        Process(launcher, log).wait_for(done.exists, 60, alive=False)
    finally:
        for process in [*psutil.Process(launcher.pid).children(recursive=True), psutil.Process(launcher.pid)]:
            process.kill()
        launcher.wait()
