"""A folder of this process alone, for copies of what is on a store."""

from __future__ import annotations

import atexit
import contextlib
import functools
import os
import shutil
import socket
import tempfile
from pathlib import Path

import psutil

VIEWS = ".views"


@functools.cache
def view_folder(cache: Path) -> Path:
    """Of this process, below the job's local folder where that can be written; it goes with the process."""
    views, is_new = cache / VIEWS, not cache.exists()
    try:
        views.mkdir(parents=True, exist_ok=True)
        for left in views.iterdir():
            if _is_of_the_dead(left.name):
                shutil.rmtree(left, ignore_errors=True)
        folder = Path(tempfile.mkdtemp(prefix=f"{os.getpid()}-{socket.gethostname()}-", dir=views))
    except OSError:
        folder = Path(tempfile.mkdtemp(prefix="streamtrain-view-"))

    def remove() -> None:
        shutil.rmtree(folder, ignore_errors=True)
        with contextlib.suppress(OSError):
            views.rmdir()
            if is_new:
                cache.rmdir()

    atexit.register(remove)
    return folder


def _is_of_the_dead(name: str) -> bool:
    """Whether a view is that of a process that was killed. Other machines that share the disk have other processes."""
    pid, _, rest = name.partition("-")
    host = rest.rpartition("-")[0]
    return host == socket.gethostname() and pid.isdecimal() and not psutil.pid_exists(int(pid))
