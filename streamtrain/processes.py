"""Child processes: how they end."""

from __future__ import annotations

import contextlib
import ctypes
import signal
import subprocess
import sys

import psutil

PR_SET_PDEATHSIG = 1


def die_with_parent() -> None:
    """This process is killed when the thread that started it ends (Linux; nothing elsewhere).

    For a preexec_fn, or for a process to call for itself.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def end(process: subprocess.Popen[bytes], grace_s: float = 20) -> None:
    """SIGTERM, then SIGKILL after grace_s seconds; waits for its end. Does nothing when it has ended."""
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(grace_s)
        except subprocess.TimeoutExpired:
            process.kill()
    process.wait()


def end_family(launcher: subprocess.Popen[bytes], variable: str, value: str) -> None:
    """Ends the launcher and whatever it started, orphans too: all have `variable` with this value in their
    environment. Waits until they are gone."""
    launcher.kill()
    launcher.wait()
    while family := [p for p in psutil.process_iter() if _has(p, variable, value)]:
        for process in family:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(family, timeout=10)


def _has(process: psutil.Process, variable: str, value: str) -> bool:
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE and process.environ().get(variable) == value)
    except psutil.Error:
        return False
