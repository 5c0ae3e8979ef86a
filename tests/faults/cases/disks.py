"""Full disks, failed fsyncs, damaged checkpoints, and a kill at each system call of a save."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from pathlib import Path

import psutil

from streamtrain.checkpoint.store import CheckpointStore
from tests.faults.ground import Ground, Outcome, case, recoveries
from tests.support.jobs import rows, write_split
from tests.support.processes import is_stopped, until
from tests.support.scene import SPLITS, Scene, tmpfs


@case("15", "disk full while staging", needs="tmpfs")
def disk_full_staging(ground: Ground) -> Outcome:
    folder = ground.folder / "small"
    with tmpfs(folder, 8):
        scene = ground.scene(runner={"model_save_path": str(folder / "model")}, stream={"max_restarts": 100})
        scene.hold(SPLITS[1])
        run = scene.run_to_pass(1)
        filler = folder / "filler"
        filler.write_bytes(b"x")
        fill(filler)
        scene.release(SPLITS[1])
        run.wait_for(lambda: "restart 2:" in run.output, 60)
        reason = next(x for x in run.output.splitlines() if x.startswith("restart") and re.search("space|full", x))
        assert scene.checkpoints() == ["20240101/1"]
        begin = time.time()
        filler.unlink()
        run.finish()
        recovered = recoveries(scene.trained_after(begin))
        scene.recount()
        scene.close()
    return Outcome(f"restarted, reporting: {re.split(r': (?=[A-Z])', reason)[-1].strip()[:100]}", recovered)


@case("15", "disk full while spooling", needs="tmpfs")
def disk_full_spooling(ground: Ground) -> Outcome:
    folder = ground.folder / "small"
    with tmpfs(folder, 1):
        scene = ground.scene(stream={"spool_dir": str(folder / "spool"), "max_restarts": 100})
        filler = folder / "filler"
        filler.write_bytes(b"x")
        fill(filler)
        run = scene.start("run")
        run.wait_for(lambda: "stream.spool_dir" in run.output, 60)
        assert "Free some space" in run.output and scene.passes() == 0
        begin = time.time()
        filler.unlink()
        run.finish()
        recovered = recoveries(scene.trained_after(begin))
        scene.recount()
        scene.close()
    return Outcome("named the folder, resumed when there was space", recovered)


@case("15", "disk full in the broker's folder", needs="tmpfs", topologies=1)
def disk_full_broker(ground: Ground) -> Outcome:
    folder = ground.folder / "small"
    with tmpfs(folder, 400):
        scene = ground.scene(kafka={}, stream={"broker_dir": str(folder / "kafka"), "max_restarts": 100})
        scene.hold(SPLITS[1])
        run = scene.run_to_pass(1)
        filler = folder / "filler"
        filler.write_bytes(b"x")
        fill(filler)
        for split, seed in zip(SPLITS[1:], range(20, 30), strict=False):
            write_split(scene.folder / "data", split, rows(3000, seed=seed))
        run.wait_for(lambda: "the embedded Kafka died" in run.output, 90)
        begin = time.time()
        filler.unlink()
        run.finish(180)
        recovered = recoveries(scene.trained_after(begin))
        scene.recount()
        scene.close()
    return Outcome("Kafka died and was restarted, all waited", recovered)


def fill(path: Path) -> None:
    """Makes the file take all space that is left."""
    with path.open("ab", buffering=0) as out:
        for size in (1 << 20, 1 << 12, 1):
            while True:
                try:
                    if out.write(b"x" * size) < size:
                        break
                except OSError:
                    break


@case("16", "a checkpoint damaged: one byte flipped, cut, a file gone, its manifest bad")
def damaged(ground: Ground) -> Outcome:
    scene = ground.scene()
    scene.hold(*SPLITS[1:])
    run = scene.run_to_pass(1)
    scene.release(*SPLITS[1:])
    run.finish()
    kinds = (flip, cut, remove, spoil_manifest)
    for damage in kinds:
        newest = CheckpointStore(scene.config.model_save_path).list()[-1].path
        assert newest.name == "4"
        path = damage(newest)
        again = scene.start("run", name="again")
        again.finish()
        log = (scene.folder / "log" / "workerlog.0").read_text()
        assert f"checkpoint 20240101/4 is SKIPPED: {path}" in log, (path, log[-2000:])
        scene.recount()
    return Outcome(f"{len(kinds)} kinds: skipped, reported; the next older one was loaded, the pass trained again")


def flip(checkpoint: Path) -> Path:
    path = next(p for p in sorted(checkpoint.glob("embedding.shard/*.txt")) if p.stat().st_size > 100)
    data = bytearray(path.read_bytes())
    data[50] ^= 1
    path.write_bytes(data)
    return path


def cut(checkpoint: Path) -> Path:
    path = sorted((checkpoint / ".dense").iterdir())[0]
    os.truncate(path, path.stat().st_size - 5)
    return path


def remove(checkpoint: Path) -> Path:
    path = sorted(checkpoint.glob("embedding.shard/*.txt"))[1]
    path.unlink()
    return path


def spoil_manifest(checkpoint: Path) -> Path:
    path = checkpoint / "manifest.json"
    path.write_bytes(path.read_bytes()[:-40])
    return path


@case("16", "a failed fsync is not repeated")
def failed_fsync(ground: Ground) -> Outcome:
    scene = ground.scene()
    run = scene.start("run", failpoints="save.fsync=error@3")
    output = run.finish()
    assert "fsync of" in output and "restart 1:" in output and "restart 2:" not in output
    recovered = recoveries(scene.trained_after(scene.fired("save.fsync")))
    scene.recount()
    return Outcome("the process ended, a fresh one began from the last checkpoint", recovered)


@case("20", "strace: SIGKILL at the N-th fsync, then at the N-th rename", needs="strace")
def strace_sweep(ground: Ground) -> Outcome:
    counts = {call: strace_lives(ground, call) for call in ("fsync", "rename")}
    return Outcome(f"kills until a run ended well: {counts}", kills=sum(counts.values()))


def strace_lives(ground: Ground, call: str) -> int:
    """Each life of worker 0 is killed at one system call later than the last one (three, from the 20th on), until one
    ends well: a call of any of its threads, of which one commits and one trains; strace counts each thread's own. Lives
    go on from each other's checkpoints, so that the calls of all of them are met.

    Without a supervisor and its roles' state files, whose renames would be counted too.
    """
    scene = ground.scene(call, stream={"state_dir": "/proc/none"})
    for split in SPLITS[2:]:
        write_split(scene.folder / "data", split, [])
    scene.start("bridge").finish()
    number, kills, hung = 1, 0, 0
    while number < 200:
        launcher = scene.fleetrun()
        launcher.wait_for(lambda: scene.roles("worker"))
        trace = strace_until_its_end(scene, call, number)
        if trace is None:  # Paddle's rendezvous found its port taken: nothing watches, so nothing restarts it
            hung += 1
            assert hung < 5
            launcher.process.kill()
            for role in [*scene.roles("worker"), *scene.roles("server")]:
                role.kill()
        launcher.end(60)
        until(lambda: not scene.roles("server") and not scene.roles("worker"))
        if trace is not None and "killed by SIGKILL" not in trace:
            assert number > 10, "strace killed hardly anything"
            scene.recount()
            return kills
        if trace is not None:
            kills += 1
            number += 1 if number < 20 else 3
    raise AssertionError(f"200 lives, and none ended well at {call}")


def strace_until_its_end(scene: Scene, call: str, number: int) -> str | None:
    """What strace saw of worker 0, which is killed at its call number `number`; None when it hangs."""
    log = scene.folder / "strace.log"
    command = [
        "strace", "-f", "-q", "-o", str(log), "-e", f"trace={call}",
        "-e", f"inject={call}:signal=SIGKILL:when={number}", "-p", str(scene.roles("worker")[0].pid),
    ]  # fmt: skip
    try:
        subprocess.run(command, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=60, check=False)
    except subprocess.TimeoutExpired:
        return None
    return log.read_text()


@case("20", "strace: SIGKILL in the write of the manifest", needs="strace")
def strace_manifest(ground: Ground) -> Outcome:
    """Without inference models, and in the thread that strace finds by the process's id: the next write after the
    sealing is the manifest's then."""
    scene = ground.scene(stream={"inference_model": "none", "fast_paths": {"save": False}})
    run = scene.start("run", failpoints="save.sealed=stop@1")
    run.wait_for(lambda: scene.has_fired("save.sealed") and is_stopped(scene.fired_pid("save.sealed")))
    pid = scene.fired_pid("save.sealed")
    log = scene.folder / "strace.log"
    tracer = subprocess.Popen(
        ["strace", "-q", "-o", str(log), "-e", "trace=write,openat", "-e", "inject=write:signal=SIGKILL:when=1",
         "-p", str(pid)], stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    run.wait_for(lambda: psutil.pid_exists(pid) and traced(pid))
    os.kill(pid, signal.SIGCONT)
    tracer.wait(30)
    run.finish()
    assert "manifest.json" in log.read_text() and "killed by SIGKILL" in log.read_text()
    recovered = recoveries(scene.trained_after(scene.fired("save.sealed")))
    scene.recount()
    return Outcome("the staged directory was cleared", recovered, 1)


def traced(pid: int) -> bool:
    return "TracerPid:\t0\n" not in Path(f"/proc/{pid}/status").read_text()
