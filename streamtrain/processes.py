"""Child processes: how they end."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import psutil

PR_SET_PDEATHSIG = 1
#: The variable that names the process that started a family: children of children have it too.
HEAD = "STREAMTRAIN_HEAD"


def die_with_parent() -> None:
    """This process is killed when the thread that started it ends (Linux; nothing elsewhere).

    For a process to call for itself. A parent that has ended before the call cannot take its child along any more, and
    a child may take seconds until it calls: so it is killed at once when HEAD is none of its ancestors.
    """
    _ask_for_signal()
    head = os.environ.get(HEAD, "")
    if head.isdigit() and int(head) not in (process.pid for process in psutil.Process().parents()):
        os.kill(os.getpid(), signal.SIGKILL)


def tie_to(parent: int) -> Callable[[], None]:
    """The same for a child that this process, `parent`, is about to fork: a preexec_fn, or a call after the fork."""

    def tie() -> None:
        _ask_for_signal()
        if os.getppid() != parent:  # the parent ended before that
            os._exit(1)

    return tie


def _ask_for_signal() -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def processors() -> int:
    """How many this process may use: those that it is bound to (taskset, cpusets), and a container's quota."""
    try:
        bound = len(os.sched_getaffinity(0))
    except AttributeError:  # not Linux
        bound = os.cpu_count() or 1
    for folder in _groups():  # the quota of a group is that of its parts
        try:
            quota, period = (folder / "cpu.max").read_text().split()
            bound = min(bound, int(quota) // int(period))
        except (OSError, ValueError):  # none: "max"
            continue
    return max(1, bound)


def available_memory() -> int:
    """Bytes that this process and its children may still take: of the machine, and of a container's limit."""
    left = int(psutil.virtual_memory().available)
    for folder in _groups():
        try:
            limit, used = (int((folder / name).read_text()) for name in ("memory.max", "memory.current"))
            stat = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
            left = min(left, limit - used + int(stat.get("inactive_file", 0)))  # what files are cached gives way
        except (OSError, ValueError):  # none: "max"
            continue
    return max(0, left)


def _groups() -> list[Path]:
    """Folders of this process's cgroup of version 2, and those that it is part of."""
    try:
        group = next(x[3:] for x in Path("/proc/self/cgroup").read_text().splitlines() if x.startswith("0::"))
    except (OSError, StopIteration):
        return []
    path = Path("/sys/fs/cgroup") / group.lstrip("/")
    return [path, *path.parents]


def end(process: subprocess.Popen[bytes], grace_s: float = 20) -> None:
    """SIGTERM, then SIGKILL after grace_s seconds; waits for its end. Does nothing when it has ended."""
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(grace_s)
        except subprocess.TimeoutExpired:
            process.kill()
    process.wait()


def end_family(children: Sequence[subprocess.Popen[bytes]], variable: str, value: str) -> None:
    """Ends children and whatever they started, orphans too: all have `variable` with this value in their environment.
    Waits until they are gone."""
    for child in children:
        child.kill()
    for child in children:
        child.wait()
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
