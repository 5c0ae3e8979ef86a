"""Role scripts, without the supervisor."""

import shutil
from pathlib import Path

from streamtrain.runtime.roles import Roles, end_roles, start_roles
from tests.support.paths import TESTS
from tests.support.processes import until


def run_roles(script: str, arguments: list[str], folder: Path, done: Path, servers: int = 1, workers: int = 1) -> None:
    """Runs tests/support/`script` in every role until `done` is there, then ends them all: Paddle's servers do not end
    by themselves. Output goes to `folder`."""
    run_dir, log_dir = folder / f"run-{done.stem}", folder / f"log-{done.stem}"
    for each in (run_dir, log_dir):
        shutil.rmtree(each, ignore_errors=True)
    run_dir.mkdir()
    roles = start_roles(
        TESTS / "support" / script, arguments, servers=servers, workers=workers, run_dir=run_dir, log_dir=log_dir,
        cwd=folder,
    )  # fmt: skip
    try:
        until(lambda: done.exists() or _failed(roles))
    finally:
        end_roles(roles, run_dir)
    if not done.exists():
        logs = (file.read_text("utf-8", "replace")[-4000:] for file in sorted(log_dir.iterdir()))
        raise AssertionError("\n".join(logs))


def _failed(roles: Roles) -> bool:
    return any(roles.ended().values())
