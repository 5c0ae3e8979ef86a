"""Role scripts under Paddle's launcher, without the supervisor."""

from pathlib import Path

from streamtrain.runtime import launch
from tests.support.paths import TESTS
from tests.support.scene import Process


def run_roles(script: str, arguments: list[str], folder: Path, done: Path, servers: int = 1, workers: int = 1) -> None:
    """Runs tests/support/`script` in every role until `done` is there, then ends them all.

    Paddle's servers do not end by themselves. Output goes to `folder`.
    """
    run_dir, log_dir = folder / f"run-{done.stem}", folder / f"log-{done.stem}"
    run_dir.mkdir()
    launcher = launch.start_roles(
        TESTS / "support" / script, arguments, servers=servers, workers=workers, run_dir=run_dir, log_dir=log_dir,
        cwd=folder,
    )  # fmt: skip
    try:
        Process(launcher, log_dir / "launcher.log").wait_for(done.exists, 60, alive=False)
    finally:
        launch.end_roles(launcher, run_dir)
