"""The health check of a part: a real process that works, hangs, is stopped, is dead."""

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from streamtrain.runtime import part_state
from streamtrain.runtime.health import problem
from streamtrain.runtime.part_state import PartReporter
from tests.support.paths import ROOT
from tests.support.processes import is_stopped, until

PROCESS = """import pathlib, sys, time
from streamtrain.runtime.part_state import PartReporter
report = PartReporter(pathlib.Path(sys.argv[1]), "bridge")
report("publishing")
while not pathlib.Path(sys.argv[1], "hang").exists():
    report.beat()
    time.sleep(0.05)
time.sleep(1000)
"""


@pytest.fixture
def process(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen([sys.executable, "-c", PROCESS, str(tmp_path)], cwd=ROOT) as running:
        until((tmp_path / "bridge.json").exists)
        yield running
        running.kill()


def test_one_that_works_is_healthy_and_stays_so(tmp_path: Path, process: subprocess.Popen[bytes]) -> None:
    begin = time.time()
    assert process.poll() is None and problem(tmp_path, "bridge", 10) is None
    until(lambda: (tmp_path / "bridge.json").stat().st_mtime > begin + 2)


def test_one_that_hangs_is_not(tmp_path: Path, process: subprocess.Popen[bytes]) -> None:
    (tmp_path / "hang").touch()
    reason = until(lambda: problem(tmp_path, "bridge", 2.5))
    assert process.poll() is None
    assert "bridge gave no sign of life for" in reason and "it was last: publishing" in reason


def test_one_that_is_stopped_or_dead_is_not(tmp_path: Path, process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGSTOP)
    until(lambda: is_stopped(process.pid))
    assert f"process {process.pid} is stopped" in (problem(tmp_path, "bridge", 1000) or "")
    process.kill()
    process.wait()
    assert f"process {process.pid} has ended" in (problem(tmp_path, "bridge", 1000) or "")


def test_what_is_missing_or_elsewhere_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "bridge has reported nothing" in (problem(tmp_path, "bridge", 1) or "")
    PartReporter(tmp_path, "bridge")("waiting")
    assert problem(tmp_path, "bridge", 1000) is None
    monkeypatch.setattr(part_state.socket, "gethostname", lambda: "another")
    assert "not here" in (problem(tmp_path, "bridge", 1000) or "")
    (tmp_path / "bridge.json").write_text("{}")
    assert "cannot be read" in (problem(tmp_path, "bridge", 1000) or "")
