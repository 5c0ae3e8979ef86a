"""`make soak MINUTES=30`: a live tree of logs, `streamtrain run` on it, a random process of it killed again and again.

Ends with the recount. What `run` starts is killed (Kafka, bridge, servers, workers), and `run` itself,
which is then started again as an operator would.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path

import psutil

from streamtrain.checkpoint.journal import Journal
from streamtrain.config import JobConfig
from streamtrain.proof.job import recount_job
from tests.support.jobs import rows, write_config, write_split

SPLIT_INTERVAL = 15
#: Seconds between two new splits, and between two kills.
SPLIT_S = 1.5
KILL_S = (5.0, 40.0)
KINDS = ("kafka.Kafka", " bridge ", "online_trainer.py", " run ")
NAMES = dict(zip(KINDS, ("broker", "bridge", "role", "run"), strict=True))


class Generator(threading.Thread):
    """Writes the splits of the schedule, one after the other, as time goes by; all of the rest on request."""

    def __init__(self, config: JobConfig, data: Path, seed: int) -> None:
        super().__init__(daemon=True)
        self._config = config
        self._data = data
        self._seed = seed
        self.hurry = threading.Event()
        self.written = 0

    def run(self) -> None:
        source = random.Random(self._seed)
        for split in self._config.schedule.splits():
            count = source.choice((0, 20, 60, 120, 250))
            write_split(self._data, split.path, rows(count, seed=source.randrange(1 << 30), vocabulary=500))
            self.written += 1
            self.hurry.wait(SPLIT_S)


def kind_of(process: psutil.Process) -> str:
    line = " ".join([*process.cmdline(), ""])
    return next((NAMES[k] for k in KINDS if k in line), "other")


def family(pid: int) -> list[psutil.Process]:
    found = []
    for process in [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]:
        try:
            if process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except psutil.NoSuchProcess:
            continue
    return found


def leftovers(folder: Path) -> list[str]:
    """Processes of this job that live on."""
    found = []
    for process in psutil.process_iter():
        try:
            line = " ".join(process.cmdline())
            if str(folder) in line + str(process.cwd()) and process.pid != os.getpid():
                found.append(f"{process.pid} {line[:150]}")
        except psutil.Error:
            continue
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--seed", type=int, default=None, help="of kills and rows; by default from the clock")
    parser.add_argument("--servers", type=int, default=2)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--build", type=Path, default=Path("build"), help="folder of soak.json")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # what was started is ended on the way out
    seed = arguments.seed if arguments.seed is not None else time.time_ns() % 1_000_000
    print(
        f"seed {seed}, {arguments.minutes:g} minutes, {arguments.servers} servers x {arguments.workers} workers",
        flush=True,
    )
    with tempfile.TemporaryDirectory(prefix="streamtrain-soak-", ignore_cleanup_errors=True) as top:
        report = soak(Path(top), seed, arguments.minutes * 60, arguments.servers, arguments.workers)
    arguments.build.mkdir(parents=True, exist_ok=True)
    (arguments.build / "soak.json").write_text(json.dumps(report, indent=2) + "\n")
    print(json.dumps(report, indent=2))
    finished = report["trained_to"] == report["wanted"]  # an exit code 0 alone does not say so
    return 0 if report["ok"] and finished and not report["left_running"] and not report["wrong_exits"] else 1


def soak(folder: Path, seed: int, seconds: float, servers: int, workers: int) -> dict[str, object]:
    days = math.ceil(seconds / SPLIT_S / (1440 // SPLIT_INTERVAL))
    config = write_config(
        folder, "soak", {},
        runner={"split_interval": SPLIT_INTERVAL, "split_per_pass": 4, "end_day": f"202401{days:02d}"},
        stream={"servers": servers, "workers": workers, "max_restarts": 1000, "spare_roles_after": 5},
    )  # fmt: skip
    generator = Generator(config, folder / "data", seed)
    generator.start()
    source = random.Random(seed)
    kills: Counter[str] = Counter()
    rounds, recoveries = 0, []
    begin = time.monotonic()
    left: list[str] = []
    wrong_exits: list[int] = []
    while True:
        rounds += 1
        with (folder / "run.out").open("ab") as out:
            run = subprocess.Popen(
                [sys.executable, "-m", "streamtrain.cli.main", "run", "-m", str(config.path)],
                stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip
        try:
            while run.poll() is None:
                try:
                    run.wait(source.uniform(*KILL_S))
                    continue
                except subprocess.TimeoutExpired:
                    pass
                if time.monotonic() - begin > seconds:
                    generator.hurry.set()
                    run.wait(1800)
                    continue
                moment = time.time()
                kind = kill_one(run.pid, source)
                kills[kind] += 1
                print(f"{time.monotonic() - begin:6.0f} s: {kind} killed, {passes(config)} passes, "
                      f"{generator.written} splits", flush=True)  # fmt: skip
                recoveries.append(moment)
        finally:
            run.kill()  # all that it started ends with it
            run.wait()
        if run.returncode == 0:
            break
        if run.returncode != -signal.SIGKILL:
            wrong_exits.append(run.returncode)
            print(f"run ended with exit code {run.returncode}:\n{(folder / 'run.out').read_text()[-1500:]}", flush=True)
        if rounds > 500:
            raise SystemExit("it does not end")
    time.sleep(0.5)
    left = leftovers(folder)
    found = recount_job(config)
    starts = [r.ended - (r.checkpoint_seconds or 0) - r.train_seconds for r in Journal(config.model_save_path).read()]
    after = sorted(min((s - m for s in starts if s > m), default=0.0) for m in recoveries)
    return {
        "seed": seed, "minutes": seconds / 60, "servers": servers, "workers": workers, "rounds": rounds,
        "kills": sum(kills.values()), "killed": dict(kills), "passes": passes(config), "rows": found.rows,
        "keys": found.keys, "occurrences": found.occurrences, "lost": found.lost, "duplicated": found.duplicated,
        "ok": found.ok, "trained_to": f"{found.day}/{found.pass_id}",
        "wanted": str(config.schedule.pass_at(config.schedule.total_passes - 1)),
        "left_running": left, "wrong_exits": wrong_exits,
        "seconds_to_the_next_trained_row": {"median": after[len(after) // 2], "worst": after[-1]} if after else None,
    }  # fmt: skip


def passes(config: JobConfig) -> int:
    return len(Journal(config.model_save_path).read())


def kill_one(run: int, source: random.Random) -> str:
    """A random process: first which kind, then which one of it, so that the single ones are hit as often."""
    by_kind: dict[str, list[psutil.Process]] = {}
    for process in family(run):
        try:
            by_kind.setdefault(kind_of(process), []).append(process)
        except psutil.NoSuchProcess:
            continue
    kind = source.choice(sorted(by_kind))
    victim = source.choice(by_kind[kind])
    try:
        victim.kill()
    except psutil.NoSuchProcess:
        return "nobody"
    return kind


if __name__ == "__main__":
    sys.exit(main())
