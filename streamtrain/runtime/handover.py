"""How roles get the environment that Paddle's launcher must not see.

The launcher writes its environment into its log folder (default.*.log, envlog.N, backup_env.N.json), where everybody
may read it. So it gets the few variables without which no process starts; the others, and any secret in them, are in
files of mode 0600 in the run's folder, one a role, and each role reads and removes one before anything else:

    environment/N    NAME=VALUE, each ended by a zero byte

A role that `fleetrun` has started finds no such folder: its environment is as its user gave it.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from pathlib import Path

from streamtrain.errors import DiskError, TrainingError
from streamtrain.files import refusals

#: The folder of the files, for a role that the launcher starts.
FOLDER = "STREAMTRAIN_ENVIRONMENT"
#: What a process needs to start: it finds its libraries, its interpreter and its folders by them.
PLAIN = frozenset(
    {
        "PATH", "HOME", "USER", "LANG", "TZ", "TMPDIR", "LD_LIBRARY_PATH", "LD_PRELOAD", "DYLD_LIBRARY_PATH",
        "VIRTUAL_ENV", "PYTHONPATH", "PYTHONHOME", "PYTHONUNBUFFERED", "PYTHONUTF8", "PYTHONHASHSEED",
        "PYTHONDONTWRITEBYTECODE", "PYTHONPYCACHEPREFIX", "CUDA_VISIBLE_DEVICES",
    }
)  # fmt: skip
PLAIN_PREFIXES = ("LC_", "MALLOC_")


def hand_over(environment: Mapping[str, str], run_dir: Path, roles: int) -> dict[str, str]:
    """The part of `environment` that the launcher of `roles` roles may see; the other part is left in run_dir for them.

    Raises DiskError when it cannot be written.
    """
    plain = {n: v for n, v in environment.items() if n in PLAIN or n.startswith(PLAIN_PREFIXES)}
    rest = b"".join(os.fsencode(f"{n}={v}") + b"\0" for n, v in environment.items() if n not in plain)
    folder = run_dir / "environment"
    with refusals(
        DiskError, folder, "cannot be written", remedy="Check TMPDIR and its folder.", full="Make room in TMPDIR."
    ):
        folder.mkdir(mode=0o700)
        for number in range(roles):
            descriptor = os.open(folder / str(number), os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(rest)
    return {**plain, FOLDER: str(folder)}


def take() -> None:
    """For a role, before anything else: adds what was handed over to this process's environment. A variable that the
    launcher has set stays as it is. Raises TrainingError when nothing is left for this role."""
    folder = os.environ.pop(FOLDER, None)
    if folder is None:
        if log_dir := os.environ.get("PADDLE_LOG_DIR"):
            close_off(Path(log_dir))
        return
    for item in _claim(Path(folder)).split(b"\0"):
        name, separator, value = item.partition(b"=")
        if separator and name not in os.environb:
            os.environb[name] = value


def _claim(folder: Path) -> bytes:
    """The content of a file that no other role has: who removes it has it."""
    for path in sorted(folder.glob("*")):
        with contextlib.suppress(FileNotFoundError):
            content = path.read_bytes()
            path.unlink()
            return content
    raise TrainingError(
        f"{folder} holds no environment for this role", remedy="Start the job again: its run folder was changed."
    )


def close_off(log_dir: Path) -> None:
    """Leaves the launcher's files that hold its environment, also those of earlier runs, to their owner alone."""
    for path in (*log_dir.glob("envlog.*"), *log_dir.glob("backup_env.*.json"), *log_dir.glob("*.log")):
        with contextlib.suppress(OSError):  # of another user
            if path.suffix != ".log" or _holds_environment(path):
                path.chmod(0o600)


def _holds_environment(log: Path) -> bool:
    with log.open("rb") as file:
        return file.read(8) == b"environ("
