"""Clean stops, and the end of `run` itself."""

from __future__ import annotations

import os
import signal
import time

from tests.faults.ground import Ground, Outcome, case, recoveries
from tests.support.processes import until
from tests.support.scene import SPLITS


@case("19", "SIGTERM while waiting and in the middle of a pass")
def sigterm(ground: Ground) -> Outcome:
    scene = ground.scene(runner={"checkpoint_per_pass": 4, "save_delta_frequency": 0})
    scene.hold(SPLITS[2])
    run = scene.run_to_pass(2)
    assert scene.checkpoints() == []
    run.signal(signal.SIGTERM)
    run.finish(70)
    assert scene.checkpoints() == ["20240101/2"]
    assert scene.leftovers() == []
    scene.release(SPLITS[2])
    run = scene.start("run", failpoints="pass.predicted=stop@1")
    run.wait_for(lambda: scene.has_fired("pass.predicted"))
    run.signal(signal.SIGTERM)
    os.kill(scene.fired_pid("pass.predicted"), signal.SIGCONT)
    run.finish(70)
    assert scene.leftovers() == []
    scene.settle()
    return Outcome("exit code 0, what was done was saved, nothing left running")


@case("19", "run itself killed -9, and SIGINT")
def run_killed(ground: Ground) -> Outcome:
    scene = ground.scene()
    scene.hold(SPLITS[1])
    run = scene.run_to_pass(1)
    assert len(scene.leftovers()) > ground.servers + ground.workers
    run.process.kill()
    until(lambda: scene.leftovers() == [])
    run = scene.start("run")
    run.wait_for(lambda: scene.roles("worker"))
    run.signal(signal.SIGINT)
    run.finish(70)
    until(lambda: scene.leftovers() == [])
    scene.release(SPLITS[1])
    begin = time.time()
    scene.settle()
    recovered = recoveries(scene.trained_after(begin))
    return Outcome("nothing is left running; a restart resumes", recovered, 1)
