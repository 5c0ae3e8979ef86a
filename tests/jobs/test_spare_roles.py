"""Roles that are started ahead of their round: a restart takes them."""

import contextlib
import os
import shutil
import signal
from pathlib import Path

import psutil
import pytest

from streamtrain.runtime.child_state import HELD, RUN_DIR
from tests.support.processes import until
from tests.support.scene import SPLITS, Process, Scene

pytestmark = [pytest.mark.paddle, pytest.mark.kafka]


def held(scene: Scene) -> dict[int, str]:
    """Roles of the job that wait for a round, by process."""
    found = {}
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            environment = process.environ()
            waits = HELD in environment and not (Path(environment[RUN_DIR]) / "released").exists()
            if waits and str(scene.config.path) in process.cmdline() and process.status() != psutil.STATUS_ZOMBIE:
                found[process.pid] = environment["TRAINING_ROLE"]
    return found


def begun(scene: Scene) -> tuple[Process, dict[int, str]]:
    """A run that waits for its last split, and its spare roles."""
    scene.hold(SPLITS[3])
    running = scene.run_to_pass(2)
    until(lambda: sorted(held(scene).values()) == ["PSERVER", "TRAINER"])
    return running, held(scene)


def kill_the_worker(scene: Scene) -> None:
    """Returns when another one is there."""
    [worker] = scene.roles("worker")
    os.kill(worker.pid, signal.SIGKILL)
    until(lambda: any(role.pid != worker.pid for role in scene.roles("worker")))


def end(scene: Scene, running: Process) -> str:
    scene.release(SPLITS[3])
    output = running.finish()
    scene.recount()
    assert not scene.leftovers()  # the spare roles of the second round neither
    scene.close()
    return output


def test_a_restart_takes_the_roles_that_were_started_ahead(tmp_path: Path, kafka: dict[str, str], job: str) -> None:
    scene = Scene(tmp_path, kafka, job, stream={"spare_roles_after": 0.5})
    running, spare = begun(scene)
    assert not spare.keys() & {role.pid for role in scene.roles("worker")}
    kill_the_worker(scene)
    assert {role.pid for kind in ("server", "worker") for role in scene.roles(kind)} <= spare.keys()
    end(scene, running)


@pytest.mark.parametrize("lost", ["roles", "folder"])
def test_spare_roles_that_are_gone_are_replaced(tmp_path: Path, kafka: dict[str, str], job: str, lost: str) -> None:
    scene = Scene(tmp_path, kafka, job, stream={"spare_roles_after": 0.5})
    running, spare = begun(scene)
    folders = {psutil.Process(pid).environ()[RUN_DIR] for pid in spare}
    if lost == "roles":
        for pid in spare:
            os.kill(pid, signal.SIGKILL)
    else:
        [folder] = folders
        shutil.rmtree(folder)
    kill_the_worker(scene)
    assert not spare.keys() & {role.pid for role in scene.roles("worker")}
    assert "the roles that were started ahead have ended, or their folder is gone" in end(scene, running)


def test_a_spare_worker_that_is_asked_to_end_says_nothing_of_the_job(
    tmp_path: Path, kafka: dict[str, str], job: str
) -> None:
    scene = Scene(tmp_path, kafka, job, stream={"spare_roles_after": 0.5})
    running, spare = begun(scene)
    state = scene.config.state_dir / "trainer.json"
    before = state.read_bytes()
    worker = psutil.Process(next(pid for pid, role in spare.items() if role == "TRAINER"))
    worker.send_signal(signal.SIGTERM)
    until(lambda: not worker.is_running() or worker.status() == psutil.STATUS_ZOMBIE)
    assert state.read_bytes() == before
    kill_the_worker(scene)
    end(scene, running)
