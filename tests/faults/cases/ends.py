"""Clean stops, and the end of `run` itself."""

from __future__ import annotations

import contextlib
import os
import signal
import time

import psutil

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


@case("19", "SIGTERM to the bridge alone, then to the workers alone", fast=True)
def sigterm_to_children(ground: Ground) -> Outcome:
    """As Paddle's launcher does when one of its processes dies: it is no wish of who started the job."""
    scene = ground.scene()
    scene.hold(SPLITS[2])
    run = scene.run_to_pass(2)
    [bridge] = [p for p in psutil.Process(run.process.pid).children() if "bridge" in p.cmdline()]
    bridge.terminate()
    run.wait_for(lambda: "restart 1 of the bridge: the bridge was stopped by a signal" in run.output)
    for worker in scene.roles("worker"):
        worker.terminate()
    run.wait_for(lambda: "was stopped by a signal, before the end of the stream" in run.output)
    scene.release(SPLITS[2])
    begin = time.time()
    run.finish(120)
    scene.recount()
    recovered = recoveries(scene.trained_after(begin))
    return Outcome("each was restarted, all was trained", recovered, 0)


@case("19", "SIGTERM to the worker, again and again, while a pass is trained", topologies=1)
def sigterm_while_pushing(ground: Ground) -> Outcome:
    """Paddle waits for the pushes of a pass in a sleep; a signal that cut it short would lose rows."""
    scene = ground.scene()
    run = scene.start("run", failpoints="pass.predicted=stop@2")
    run.wait_for(lambda: scene.has_fired("pass.predicted"))
    worker = psutil.Process(scene.fired_pid("pass.predicted"))
    worker.resume()
    trained = scene.passes()
    with contextlib.suppress(psutil.NoSuchProcess):
        while scene.passes() == trained:
            worker.terminate()
            time.sleep(0.002)
    run.finish(120)
    scene.recount()
    return Outcome("the pass's rows are in the checkpoint", [], 0)


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
