"""What Paddle's own launcher leaves in its log folder: its environment, with any secret in it (default.*.log, envlog.N,
backup_env.N.json), where everybody may read it. A role that it has started leaves these files to their owner."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path


def close_off() -> None:
    """For a role, before anything else. Does nothing for one that another process has started."""
    if folder := os.environ.get("PADDLE_LOG_DIR"):
        close_off_in(Path(folder))


def close_off_in(log_dir: Path) -> None:
    """Also the files of earlier runs."""
    for path in (*log_dir.glob("envlog.*"), *log_dir.glob("backup_env.*.json"), *log_dir.glob("*.log")):
        with contextlib.suppress(OSError):  # of another user
            if path.suffix != ".log" or _holds_environment(path):
                path.chmod(0o600)


def _holds_environment(log: Path) -> bool:
    with log.open("rb") as file:
        return file.read(8) == b"environ("
