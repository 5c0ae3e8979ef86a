"""Roles that are started ahead of their round: a restart takes them."""

import contextlib
import os
import signal
from pathlib import Path

import psutil
import pytest

from streamtrain.runtime.child_state import HELD, RUN_DIR
from tests.support.processes import until
from tests.support.scene import SPLITS, Scene

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


def test_a_restart_takes_the_roles_that_were_started_ahead(tmp_path: Path, kafka: dict[str, str], job: str) -> None:
    scene = Scene(tmp_path, kafka, job, stream={"spare_roles_after": 0.5})
    scene.hold(SPLITS[3])
    running = scene.run_to_pass(2)
    until(lambda: sorted(held(scene).values()) == ["PSERVER", "TRAINER"])
    spare = set(held(scene))
    [worker] = scene.roles("worker")
    assert worker.pid not in spare
    os.kill(worker.pid, signal.SIGKILL)
    until(lambda: any(role.pid != worker.pid for role in scene.roles("worker")))
    assert {role.pid for kind in ("server", "worker") for role in scene.roles(kind)} <= spare
    scene.release(SPLITS[3])
    running.finish()
    scene.recount()
    assert not scene.leftovers()  # the spare roles of the second round neither
    scene.close()


def test_spare_roles_that_have_died_are_replaced(tmp_path: Path, kafka: dict[str, str], job: str) -> None:
    scene = Scene(tmp_path, kafka, job, stream={"spare_roles_after": 0.5})
    scene.hold(SPLITS[3])
    running = scene.run_to_pass(2)
    until(lambda: sorted(held(scene).values()) == ["PSERVER", "TRAINER"])
    spare = set(held(scene))
    for pid in spare:
        os.kill(pid, signal.SIGKILL)
    [worker] = scene.roles("worker")
    os.kill(worker.pid, signal.SIGKILL)
    until(lambda: any(role.pid != worker.pid for role in scene.roles("worker")))
    assert not spare & {role.pid for role in scene.roles("worker")}
    scene.release(SPLITS[3])
    running.finish()
    scene.recount()
    assert "the roles that were started ahead have ended" in running.output
    scene.close()
