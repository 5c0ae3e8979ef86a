"""Role scripts under Paddle's launcher, without the supervisor."""

import shutil
from pathlib import Path

from streamtrain.runtime import launch
from tests.support.paths import TESTS
from tests.support.scene import Process

#: Starts: Paddle's launcher chooses ports that another process may take before its servers listen.
TRIES = 3
_TAKEN = "Fail to listen"


def run_roles(script: str, arguments: list[str], folder: Path, done: Path, servers: int = 1, workers: int = 1) -> None:
    """Runs tests/support/`script` in every role until `done` is there, then ends them all.

    Paddle's servers do not end by themselves. Output goes to `folder`.
    """
    run_dir, log_dir = folder / f"run-{done.stem}", folder / f"log-{done.stem}"
    for _ in range(TRIES):
        shutil.rmtree(run_dir, ignore_errors=True)
        shutil.rmtree(log_dir, ignore_errors=True)
        run_dir.mkdir()
        launcher = launch.start_roles(
            TESTS / "support" / script, arguments, servers=servers, workers=workers, run_dir=run_dir, log_dir=log_dir,
            cwd=folder,
        )  # fmt: skip
        try:
            process = Process(launcher, log_dir / "launcher.log")
            process.wait_for(lambda: done.exists() or _lost_a_port(log_dir), 60, alive=False)
        finally:
            launch.end_roles(launcher, run_dir)
        if done.exists():
            return
    raise AssertionError(f"in {TRIES} starts a port was taken each time: {log_dir}")


def _lost_a_port(log_dir: Path) -> bool:
    return any(_TAKEN in file.read_text("utf-8", "replace") for file in log_dir.glob("*") if file.is_file())
