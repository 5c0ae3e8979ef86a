"""Roles on several machines, and other numbers of servers and workers than before."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable

from streamtrain import errors
from tests.faults.ground import Ground, Outcome, case, recoveries
from tests.support.ports import free_port_pair
from tests.support.scene import SPLITS, Process, Scene


@case("21", "roles on several machines: a server, worker 0 and a whole host die")
def several_machines(ground: Ground) -> Outcome:
    scene = ground.scene(days=2)
    hosts = Hosts(scene, ground.servers, ground.workers)
    bridge = scene.start("bridge")
    hosts.start_all()
    victims = [("server", ground.servers - 1), ("worker", 0)]
    recovered = []
    slowest = 0.0
    for number, victim in enumerate(victims):
        hosts.run_until(lambda number=number: scene.passes() >= 2 * number + 1)
        begin = time.time()
        hosts.kill(victim)
        slowest = max(slowest, hosts.all_ended(begin))
        hosts.start_all()
        hosts.run_until(lambda begin=begin: scene.trained_after(begin) is not None)
        recovered += recoveries(scene.trained_after(begin))
    hosts.run_until(hosts.all_done)
    bridge.finish()
    assert slowest < 15
    scene.close()
    scene.recount()
    return Outcome(f"all ended within {slowest:.1f} s, met again at the newest checkpoint", recovered, len(victims))


class Hosts:
    """Each role as a process group with its own working directory, restarted when it fails."""

    def __init__(self, scene: Scene, servers: int, workers: int) -> None:
        self._scene = scene
        ports = [free_port_pair() for _ in range(servers + workers)]
        self.servers_at, self.workers_at = (
            ",".join(f"127.0.0.1:{p}" for p in part) for part in (ports[:servers], ports[servers:])
        )
        self._roles = [("server", i) for i in range(servers)] + [("worker", i) for i in range(workers)]
        self._running: dict[tuple[str, int], Process] = {}
        self._done: set[tuple[str, int]] = set()

    def start_all(self) -> None:
        for role in self._roles:
            if role not in self._running and role not in self._done:
                self.start_one(*role)

    def start_one(self, kind: str, index: int) -> Process:
        cwd = self._scene.folder / f"{kind}{index}"
        cwd.mkdir(exist_ok=True)
        started = self._running[kind, index] = self._scene.start(
            "train", "--role", kind, "--index", str(index), "--servers-at", self.servers_at,
            "--workers-at", self.workers_at, name=f"{kind}{index}", cwd=cwd,
        )  # fmt: skip
        return started

    def kill(self, role: tuple[str, int]) -> None:
        self._running.pop(role).process.kill()

    def all_ended(self, begin: float) -> float:
        """Seconds until every other role has ended, each with exit code 6."""
        for role, process in self._running.items():
            assert process.end(20) == errors.PeerLost.exit_code, (role, process.output[-2000:])
        self._running.clear()
        return time.time() - begin

    def run_until(self, condition: Callable[[], bool], seconds: float = 90) -> None:
        """Restarts what failed, as a restart policy would."""
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, [p.output[-1500:] for p in self._running.values()]
            for role, process in list(self._running.items()):
                code = process.process.poll()
                if code == 0:
                    self._done.add(self._running.pop(role) and role)
                elif code is not None:
                    del self._running[role]
            self.start_all()
            time.sleep(0.1)

    def all_done(self) -> bool:
        return len(self._done) == len(self._roles)


@case("22", "stopped with 2 servers x 2 workers, resumed with 1x1, 1x2, 2x1", topologies=1)
def elastic(ground: Ground) -> Outcome:
    scene = ground.scene(stream={"servers": 2, "workers": 2})
    scene.hold(*SPLITS[1:])
    for number, (servers, workers) in enumerate(((2, 2), (1, 1), (1, 2), (2, 1))):
        scene.release(SPLITS[number])
        text = scene.config.path.read_text()
        kept = [x for x in text.splitlines() if not x.strip().startswith(("servers:", "workers:"))]
        at = next(i for i, x in enumerate(kept) if x.startswith("stream:"))
        kept[at + 1 : at + 1] = [f"  servers: {servers}", f"  workers: {workers}"]
        scene.config.path.write_text("\n".join(kept) + "\n")
        run = scene.start("run")
        run.wait_for(lambda number=number: scene.passes() > number)
        if number < 3:
            run.signal(signal.SIGTERM)
        run.finish()
    scene.recount()
    return Outcome("each resumed from the last one's checkpoint")
