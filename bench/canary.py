"""From a line in a finished split to a prediction that knows it.

`run` and `serve` with their defaults, a split every few seconds, a key of its own in each of them that serving is asked
for until it is known.

A key that no split has had yet predicts what any unknown one does; once the model that serves has learnt it, its
prediction is another. Time counts from the split's donefile. Into build/canary.md and .json; ends with a recount.

python -m bench.canary [--splits 40] [--every 4]
"""

from __future__ import annotations

import argparse
import contextlib
import json
import random
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import yaml

from bench.freshness import Costs, Stream, latencies, worst_of_100
from bench.ratios import Figure, write
from bench.speed_job import MODEL
from streamtrain.checkpoint.journal import Journal
from streamtrain.config import JobConfig, load_config
from streamtrain.proof.job import recount_job

SLOTS, VOCABULARY = 26, 200
INTERVAL = 10  # minutes: 144 splits a day
#: Rows of a split that have its key, all of them clicked.
MARKED = 40
#: Of keys that no split has: where they begin.
CANARIES, NOBODY = 10**12, 10**13
POLL_S = 0.02
#: Between two looks of the bridge, and of serving by default.
NOTICE_S, REFRESH_S = 0.2, 1.0


@dataclass(frozen=True)
class Pace:
    """splits of so many rows, one every `every` seconds; a pass has split_per_pass of them, a model follows each
    models_every-th pass."""

    splits: int = 40
    every: float = 4.0
    rows: int = 500
    split_per_pass: int = 1
    models_every: int = 1


def make_job(folder: Path, pace: Pace) -> JobConfig:
    config = yaml.safe_load((MODEL / "config_online.yaml").read_text())
    config["runner"].update(
        split_interval=INTERVAL, split_per_pass=pace.split_per_pass, start_day="20240101", end_day="20240101",
        checkpoint_per_pass=pace.models_every, save_delta_frequency=pace.models_every, model_dir=str(MODEL),
        train_batch_size=256, data_sleep_second=NOTICE_S,
    )  # fmt: skip
    config["hyper_parameters"].update(slot_num=SLOTS, layer_sizes=[64, 32])
    config["stream"]["job"] = "canary"
    path = folder / "config_online.yaml"
    path.write_text(yaml.safe_dump(config))
    assert pace.splits < 1440 // INTERVAL
    return load_config(path)


def write_split(config: JobConfig, number: int, rows: int) -> Path:
    """Its file, without donefile, which is returned."""
    source = random.Random(number)
    folder = Path(config.data_dir) / config.schedule.split(number).path
    folder.mkdir(parents=True)
    lines = []
    for row in range(rows):
        pairs = [(s * 1000 + source.randrange(VOCABULARY), s) for s in range(2, SLOTS + 2)]
        pairs += [(s * 1000 + source.randrange(VOCABULARY), s) for s in source.choices(range(2, SLOTS + 2), k=4)]
        marked = row % (rows // MARKED) == 0
        if marked:
            pairs.append((CANARIES + number, 2))
        label = 1 if marked else source.randint(0, 1)
        lines.append(f"{label}:1 " + " ".join(f"{feasign}:{slot}" for feasign, slot in pairs))
    (folder / "part-0").write_text("\n".join(lines) + "\n")
    return folder / config.runner.data_donefile


class Canaries:
    """Asks serving for the keys of finished splits until it knows them."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._wanted: dict[int, float] = {}
        self._ended = threading.Event()
        self.known: dict[int, float] = {}
        self._thread = threading.Thread(target=self._ask_on)
        self._thread.start()

    def expect(self, number: int) -> None:
        self._wanted[number] = time.monotonic()

    def close(self) -> None:
        self._ended.set()
        self._thread.join()

    def _ask_on(self) -> None:
        while not self._ended.wait(POLL_S):
            wanted = {n: t for n, t in list(self._wanted.items()) if n not in self.known}
            if not wanted:
                continue
            try:
                unknown, *found = self._predict([NOBODY, *(CANARIES + n for n in wanted)])
            except OSError:
                continue  # no model yet
            now = time.monotonic()
            for (number, since), value in zip(wanted.items(), found, strict=True):
                if value != unknown:
                    self.known[number] = now - since

    def _predict(self, keys: list[int]) -> list[float]:
        rest = " ".join(f"{s * 1000}:{s}" for s in range(3, SLOTS + 2))
        body = json.dumps({"rows": [f"{key}:2 {rest}" for key in keys]}).encode()
        request = urllib.request.Request(self._url + "/predict", body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=10) as answer:
            found: list[float] = json.load(answer)["predictions"]
        return found


@contextlib.contextmanager
def child(folder: Path, name: str, *arguments: str) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
    """A streamtrain command and the file of its output; SIGTERM at the end, if it still runs."""
    output = folder / f"{name}.out"
    with output.open("wb") as out:
        command = [sys.executable, "-m", "streamtrain.cli.main", *arguments]
        process = subprocess.Popen(command, cwd=folder, stdout=out, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL)
    try:
        yield process, output
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        process.wait()


def measure(folder: Path, pace: Pace) -> tuple[list[float], Costs]:
    """Seconds from each split's donefile to a prediction that knows its key, those of the first model apart; and what
    the run's own journal says of its parts. Raises SystemExit when one is not known within a minute, or the recount is
    not right."""
    config = make_job(folder, pace)
    splits, first = pace.splits, pace.split_per_pass * pace.models_every
    donefiles = [write_split(config, number, pace.rows) for number in range(splits)]
    for donefile in donefiles[:first]:
        donefile.touch()
    with (
        child(folder, "run", "run", "-m", str(config.path)) as (run, _),
        child(folder, "serve", "serve", "-m", str(config.path), "--port", "0") as (_, output),
    ):
        url = wait_for_url(output)
        canaries = Canaries(url)
        try:
            canaries.expect(0)
            wait(lambda: 0 in canaries.known, 120, run)  # all is started: this one does not count
            for number in range(first, splits):
                time.sleep(pace.every)
                donefiles[number].touch()
                canaries.expect(number)
            wait(lambda: len(canaries.known) == splits - first + 1, 60, run)
        finally:
            canaries.close()
        run.send_signal(signal.SIGTERM)
        run.wait()
    recount = recount_job(config)
    if recount.lost or recount.duplicated:
        raise SystemExit(f"the recount is wrong: {recount.to_json()}")
    records = Journal(config.model_save_path).read()[pace.models_every :]
    saved = [record for record in records if record.checkpoint_seconds]
    costs = Costs(
        notice=NOTICE_S, bridged=0.0, fixed=statistics.mean(r.seconds for r in records), row=0.0,
        checkpoint=statistics.mean(r.checkpoint_seconds or 0.0 for r in saved),
        held=statistics.mean(r.checkpoint_parts.get("held", 0.0) for r in saved), refresh=REFRESH_S, load=0.0,
    )  # fmt: skip
    return [canaries.known[number] for number in range(first, splits)], costs


def wait(condition: Callable[[], bool], seconds: float, run: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        if run.poll() is not None or time.monotonic() > deadline:
            raise SystemExit("a canary was not known in time, or the run has ended: read run.out and log/")
        time.sleep(POLL_S)


def wait_for_url(output: Path) -> str:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if found := re.match(r"(http://\S+) serves", output.read_text()):
            return found[1]
        time.sleep(POLL_S)
    raise SystemExit("serve does not listen")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--splits", type=int, default=Pace.splits)
    parser.add_argument("--every", type=float, default=Pace.every, help="seconds between two donefiles")
    parser.add_argument("--rows", type=int, default=Pace.rows, help="of a split")
    parser.add_argument("--split-per-pass", type=int, default=1)
    parser.add_argument("--models-every", type=int, default=1, help="passes")
    parser.add_argument("--build", type=Path, default=Path("build"))
    given = parser.parse_args()
    given.build.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="streamtrain-canary-", dir=given.build) as folder:
        pace = Pace(given.splits, given.every, given.rows, given.split_per_pass, given.models_every)
        seconds, costs = measure(Path(folder).resolve(), pace)
    simulated = latencies(Stream(1000, pace.every, pace.rows, pace.split_per_pass, pace.models_every), costs)
    figures = [
        Figure("donefile to a prediction that knows the split", "s", seconds),
        Figure("the same, 99th percentile", "s", [worst_of_100(seconds)]),
        Figure("the same, mean", "s", [statistics.mean(seconds)]),
        Figure("the mean that bench.freshness says, for the journal's seconds", "s", [statistics.mean(simulated)]),
    ]
    title = f"{given.splits} splits of {given.rows} rows, one every {given.every:g} s, `run` and `serve` as they come"
    more = {"pace": asdict(pace), "costs": asdict(costs)}
    print(write(given.build / "canary", title, figures, more, f"{len(seconds)} splits, the first one apart"))


if __name__ == "__main__":
    main()
