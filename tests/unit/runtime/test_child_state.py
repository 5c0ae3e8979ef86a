"""A child's state file: written atomically by one process, read by another, whatever the child ends with."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from streamtrain.errors import DataError, StreamtrainError
from streamtrain.runtime import child_state
from streamtrain.runtime.child_state import RUN_DIR, ChildState, failure, read, reporting, write
from streamtrain.runtime.launch import start_module


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(RUN_DIR, str(tmp_path))
    return tmp_path


def test_nothing_is_written_without_a_run_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv(RUN_DIR, raising=False)
    monkeypatch.chdir(tmp_path)
    with reporting("worker"):
        pass
    assert not list(tmp_path.rglob("*"))


def test_a_good_end(folder: Path) -> None:
    with reporting("worker", 3, phase="starting"):
        [state] = read(folder)
        assert (state.name, state.state, state.phase) == ("worker 3", "running", "starting")
    [state] = read(folder)
    assert state.state == "done" and failure("the worker", 0, [state]) is None


def test_an_error_of_ours_keeps_message_remedy_and_code(folder: Path) -> None:
    with pytest.raises(DataError), reporting("bridge"):
        raise DataError("part-0, line 3 is bad", remedy="Fix it.")
    found = failure("the bridge", 3, read(folder))
    assert found is not None and found.exit_code == DataError.exit_code
    assert str(found) == "part-0, line 3 is bad. Fix it."


def test_any_other_error_is_reported_by_its_type(folder: Path) -> None:
    with pytest.raises(ZeroDivisionError), reporting("bridge"):
        raise ZeroDivisionError("division by zero")
    found = failure("the bridge", 1, read(folder))
    assert found is not None and (found.message, found.exit_code) == ("ZeroDivisionError: division by zero", 1)


def test_a_child_that_reported_nothing_is_judged_by_its_exit_code() -> None:
    running = ChildState("bridge", 0, 1, "running")
    for states in ([], [running]):
        found = failure("the bridge", -signal.SIGKILL, states)
        assert found is not None and (found.message, found.exit_code) == ("the bridge was killed (SIGKILL)", 1)
        found = failure("the bridge", 7, states)
        assert found is not None and (found.message, found.exit_code) == ("the bridge ended with exit code 7", 7)
        assert failure("the bridge", 0, states) is None


def test_readers_see_whole_states_while_two_threads_write(folder: Path) -> None:
    def worker(phase: str) -> None:
        for _ in range(300):
            write("worker", 0, "running", phase=phase)

    threads = [threading.Thread(target=worker, args=(phase,)) for phase in ("reading", "waiting for Kafka" * 50)]
    for thread in threads:
        thread.start()
    phases = set()
    while any(thread.is_alive() for thread in threads):
        phases |= {state.phase for state in read(folder)}
    for thread in threads:
        thread.join()
    assert phases <= {"reading", "waiting for Kafka" * 50}
    assert [p.name for p in folder.iterdir()] == ["worker-0.json"]


def test_the_bridge_reports_a_bad_config_to_its_parent(tmp_path: Path) -> None:
    """As the pipeline starts it: the reason comes through its state file, not out of its output."""
    config = tmp_path / "config_online.yaml"
    config.write_text("runner: {}\n")
    run_dir = tmp_path / "run"
    run_dir.mkdir()
    bridge = start_module("streamtrain.cli.main", ["bridge", "-m", str(config)], run_dir=run_dir, output=tmp_path / "o")
    code = bridge.wait(60)
    found = failure("the bridge", code, read(run_dir))
    assert found is not None and found.exit_code == code == 2
    assert "runner.train_data_dir: required" in found.message


def test_a_killed_child_leaves_running(tmp_path: Path) -> None:
    script = (
        "import os, signal\n"
        "from streamtrain.runtime.child_state import reporting\n"
        "with reporting('worker'):\n    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], env={RUN_DIR: str(tmp_path), "PYTHONPATH": ":".join(sys.path)}
    )
    [state] = read(tmp_path)
    assert state.state == "running" and done.returncode == -signal.SIGKILL


def test_every_variable_is_named_in_the_docstring() -> None:
    names = [v for k, v in vars(child_state).items() if k.isupper() and k[0] != "_" and isinstance(v, str)]
    assert len(names) == 6 and all(name in (child_state.__doc__ or "") for name in names)


def test_a_failed_child_is_an_error_of_ours() -> None:
    found = failure("x", 5, [])
    assert isinstance(found, StreamtrainError) and found.exit_code == 5
