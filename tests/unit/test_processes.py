"""Children end with their parent, whenever it ends: also before they can ask the kernel for it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from streamtrain.processes import HEAD, processors
from tests.support.paths import ROLE_SCRIPT, ROOT

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the signal is Linux's")
#: Says its id, waits for a word on its standard input, then asks to die with its parent, and says that it lives.
CHILD = (
    "import os, sys; print(os.getpid(), flush=True); sys.stdin.readline();"
    "from streamtrain.processes import die_with_parent; die_with_parent(); print('lives', flush=True)"
)
PARENT = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {CHILD!r}])"


def start(code: str, head: int) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT,
        env={**os.environ, HEAD: str(head)},
    )  # fmt: skip


@pytest.mark.parametrize("killed", [True, False])
def test_a_parent_that_ends_before_its_child_asks(killed: bool) -> None:
    """The child outlives its parent while it is starting: that one can no longer take it along."""
    parent = start(PARENT, os.getpid())
    assert parent.stdin is not None and parent.stdout is not None
    child = psutil.Process(int(parent.stdout.readline()))
    if killed:
        parent.kill()
        parent.wait()
        assert child.is_running()
    parent.stdin.write("go\n")
    parent.stdin.flush()
    assert parent.stdout.readline() == ("" if killed else "lives\n")
    psutil.wait_procs([child], timeout=30)
    assert not child.is_running()
    if not killed:
        assert parent.wait(30) == 0


def test_a_role_whose_family_has_ended(tmp_path: Path) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    role = subprocess.run(
        [sys.executable, str(ROLE_SCRIPT), "-m", str(tmp_path / "no.yaml")], env={**os.environ, HEAD: str(ended.pid)},
        capture_output=True, timeout=120,
    )  # fmt: skip
    assert role.returncode == -signal.SIGKILL, role.stdout + role.stderr


@pytest.mark.parametrize(
    ("quota", "expected"), [("max 100000", 8), ("250000 100000", 2), ("50000 100000", 1), (None, 8), ("nonsense", 8)]
)
@pytest.mark.parametrize("group", ["", "/pod", "/pod/job"])
def test_processors(monkeypatch: pytest.MonkeyPatch, quota: str | None, expected: int, group: str) -> None:
    """What the process is bound to, and a container's quota, or that of what it is part of."""
    files = {"/proc/self/cgroup": "1:name=systemd:/x\n0::/pod/job\n"}
    if quota is not None:
        files[f"/sys/fs/cgroup{group}/cpu.max"] = f"{quota}\n"

    def read_text(path: Path) -> str:
        if str(path) not in files:
            raise FileNotFoundError(str(path))
        return files[str(path)]

    monkeypatch.setattr("os.sched_getaffinity", lambda _pid: set(range(8)))
    monkeypatch.setattr(Path, "read_text", read_text)
    assert processors() == expected
