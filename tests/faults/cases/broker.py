"""Kafka killed, frozen and away."""

from __future__ import annotations

import contextlib
import os
import signal
import time

import psutil

from streamtrain import errors
from streamtrain.kafka.embedded import EmbeddedBroker
from tests.faults.ground import Ground, Outcome, case, recoveries
from tests.support.ports import free_port
from tests.support.scene import SPLITS


@case("14", "broker killed -9 with a transaction open, restarted")
def broker_killed(ground: Ground) -> Outcome:
    with EmbeddedBroker(ground.folder / "kafka") as broker:
        scene = ground.scene(kafka={"bootstrap.servers": broker.bootstrap})
        run = scene.start("run", failpoints="bridge.flushed=stop@2,commit.fenced=stop@1")
        run.wait_for(lambda: scene.has_fired("bridge.flushed") and scene.has_fired("commit.fenced"))
        assert broker.pid is not None
        os.kill(broker.pid, signal.SIGKILL)
        broker.stop()
        for name in ("bridge.flushed", "commit.fenced"):
            if psutil.pid_exists(scene.fired_pid(name)):
                os.kill(scene.fired_pid(name), signal.SIGCONT)
        time.sleep(1)  # both sides meet a broker that is not there
        begin = time.time()
        broker.start()
        run.finish(180)
        recovered = recoveries(scene.trained_after(begin))
        scene.recount()
        scene.close()
    return Outcome("both waited and resumed", recovered, 1)


@case("14", "run's own broker killed -9 while it starts, three times", topologies=1)
def broker_killed_starting(ground: Ground) -> Outcome:
    scene = ground.scene(kafka={})
    run = scene.start("run")
    killed: set[int] = set()

    def starting() -> list[psutil.Process]:
        found = []
        for process in psutil.Process(run.pid).children(recursive=True):
            with contextlib.suppress(psutil.Error):
                if process.pid not in killed and "kafka.Kafka" in process.cmdline():
                    found.append(process)
        return found

    for _ in range(3):
        run.wait_for(starting)
        victim = starting()[0]
        killed.add(victim.pid)
        victim.kill()
    output = run.finish(180)
    assert output.count("Kafka was killed while it started (SIGKILL)") + output.count("Kafka died") == 3
    scene.recount()
    return Outcome("it was restarted each time", kills=3)


@case("14", "broker frozen for 60 s")
def broker_frozen(ground: Ground) -> Outcome:
    with EmbeddedBroker(ground.folder / "kafka") as broker:
        scene = ground.scene(kafka={"bootstrap.servers": broker.bootstrap})
        scene.hold(SPLITS[3])
        run = scene.run_to_pass(3)
        assert broker.pid is not None
        os.kill(broker.pid, signal.SIGSTOP)
        try:
            scene.release(SPLITS[3])
            begin = time.time()
            log = scene.folder / "log" / "workerlog.0"
            run.wait_for(lambda: "the broker is away" in log.read_text(), 30)
            status = scene.start("status", "--json")
            assert status.end(40) == errors.KafkaError.exit_code
            assert '"doing": "waiting for Kafka at ' in status.output
            run.wait_for(lambda: time.time() - begin > 60, 70)
        finally:
            os.kill(broker.pid, signal.SIGCONT)
        thawed = time.time()
        run.finish(180)
        recovered = recoveries(scene.trained_after(thawed))
        scene.recount()
        scene.close()
    return Outcome("waited, reported it in log and status, resumed", recovered)


@case("14", "broker unreachable at start")
def broker_unreachable(ground: Ground) -> Outcome:
    port = free_port()
    scene = ground.scene(kafka={"bootstrap.servers": f"127.0.0.1:{port}"})
    run = scene.start("run")
    run.wait_for(lambda: "waiting for Kafka" in run.output, 30)
    begin = time.time()
    with EmbeddedBroker(ground.folder / "kafka", port):
        run.finish()
        recovered = recoveries(scene.trained_after(begin))
        scene.recount()
        scene.close()
    return Outcome("waited, reported it, resumed", recovered)
