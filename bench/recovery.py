"""Recovery and checkpoints at size: 1 million keys, 1.5 million dense parameters; a table, build/recovery.json.

A worker is killed -9 in the middle of passes, once its spare roles are ready; the time to the first row trained after
it is taken apart by the supervisor's and worker 0's logs. Steps that spare roles have behind them take no time. A
checkpoint's seconds are those of passes.jsonl, by part.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import datetime
from pathlib import Path

from streamtrain.checkpoint.journal import Journal, PassRecord
from streamtrain.config import JobConfig
from streamtrain.kafka.embedded import EmbeddedBroker
from streamtrain.proof.job import recount_job
from tests.support.jobs import write_config
from tests.support.scene import Scene

SLOTS, FEATURES = 300, 384
DONEFILE = "data.done"
READY = "ready for a round"
STEPS = (
    ("noticed, all ended", "restart"),
    ("new processes, until the role runs", "streamtrain: config "),
    ("Paddle's import, the model", "the model is built"),
    ("joining the servers", "joined the servers"),
    ("Kafka, checkpoint verified", "verified, loading"),
    ("loading into the servers", " loaded, "),
    ("reading the pass", "rows, "),
    ("predicting it, until the first row is trained", "predict AUC"),
)


def write_rows(path: Path, rows: int, first: int, keys: int, seed: int) -> None:
    """`rows` lines of FEATURES feasigns each; the n-th feasign is n modulo `keys`, from `first` on."""
    source = random.Random(seed)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as out:
        for row in range(rows):
            numbers = range(first + row * FEATURES, first + (row + 1) * FEATURES)
            pairs = (f"{n % keys + 1}:{2 + n % SLOTS}" for n in numbers)
            out.write(f"{source.randint(0, 1)}:1 {' '.join(pairs)}\n")
    (path.parent / DONEFILE).touch()


def make_job(folder: Path, kafka: dict[str, str], keys: int, kills: int, spare_after: float) -> JobConfig:
    config = write_config(
        folder, "recovery", kafka, new_keys={"spare_roles_after": spare_after},
        runner={"split_interval": 60, "end_day": "20240101", "train_batch_size": 256},
        hyper_parameters={"slot_num": SLOTS, "layer_sizes": [512, 256, 128]},
    )  # fmt: skip
    config.raw["table_parameters"]["embedding"]["shard_num"] = 10
    first = 0
    for number, split in enumerate(config.schedule.splits()):
        rows = -(-keys // FEATURES) if number == 0 else 500 if number <= 2 * kills + 1 else 0
        write_rows(folder / "data" / split.path / "part-0", rows, first, keys, number)
        first += rows * FEATURES
        if number >= 2:
            (folder / "data" / split.path / DONEFILE).unlink()
    return config


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--keys", type=int, default=1_000_000)
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--spare-after", type=float, default=5, help="stream.spare_roles_after; 0: none")
    parser.add_argument("--build", type=Path, default=Path("build"))
    arguments = parser.parse_args()
    with (
        tempfile.TemporaryDirectory(prefix="streamtrain-recovery-") as top,
        EmbeddedBroker(Path(top) / "kafka") as broker,
    ):
        folder = Path(top) / "job"
        folder.mkdir()
        config = make_job(
            folder, {"bootstrap.servers": broker.bootstrap}, arguments.keys, arguments.kills, arguments.spare_after
        )
        report = measure(config, folder, arguments.kills)
    arguments.build.mkdir(parents=True, exist_ok=True)
    (arguments.build / "recovery.json").write_text(json.dumps(report, indent=2) + "\n")
    print(json.dumps(report, indent=2))
    return 0 if report["ok"] else 1


def measure(config: JobConfig, folder: Path, kills: int) -> dict[str, object]:
    journal = Journal(config.model_save_path)
    finder = Scene.__new__(Scene)
    finder.config = config
    output = folder / "run.out"
    with output.open("wb") as out:
        run = subprocess.Popen(
            [sys.executable, "-m", "streamtrain.cli.main", "-v", "run", "-m", str(config.path)],
            stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
    try:
        moments = []
        splits = [folder / "data" / split.path for split in config.schedule.splits()]
        log = folder / "log" / "workerlog.0"
        for number in range(kills):
            at = 2 + 2 * number
            wait(lambda at=at: len(journal.read()) >= at, run)
            if config.stream.spare_roles_after:
                wait(lambda number=number: log.read_text().count(READY) >= number + 2, run)
            release(splits[at : at + 2])
            time.sleep(0.5)
            finder.roles("worker")[0].kill()
            moments.append(time.time())
        release(splits[2 + 2 * kills :])
        run.wait(600)
    finally:
        run.kill()
    lives = [life(moment, output.read_text(), (folder / "log" / "workerlog.0").read_text()) for moment in moments]
    starts = [started(r) for r in journal.read() if r.rows]
    totals = sorted(min(s - m for s in starts if s > m) for m in moments)
    saved = [r for r in journal.read() if r.checkpoint_seconds is not None]
    found = recount_job(config)
    return {
        "keys": found.keys, "kills": kills, "ok": found.ok, "lost": found.lost, "duplicated": found.duplicated,
        "seconds_to_the_first_trained_row": {"median": statistics.median(totals), "worst": totals[-1]},
        "spent_on_median": {name: round(statistics.median(x[name] for x in lives), 2) for name, _ in STEPS},
        "checkpoint_seconds": statistics.median(r.checkpoint_seconds or 0 for r in saved),
        "checkpoint_parts": {
            name: round(statistics.median(r.checkpoint_parts.get(name, 0.0) for r in saved), 3)
            for name in dict.fromkeys(name for r in saved for name in r.checkpoint_parts)
        },
    }  # fmt: skip


def release(splits: list[Path]) -> None:
    for split in splits:
        (split / DONEFILE).touch()


def started(record: PassRecord) -> float:
    return record.ended - (record.checkpoint_seconds or 0) - record.train_seconds


def life(moment: float, supervisor: str, worker: str) -> dict[str, float]:
    """Seconds of each step after a kill, from the first line of its kind after the one before; 0.0 for one that has
    none."""
    lines = [(t, x) for text in (supervisor, worker) for x in text.splitlines() if (t := stamp(x)) and t >= moment]
    lines.sort(key=lambda line: line[0])
    end = next(t for t, x in lines if STEPS[-1][1] in x)
    found, at = {}, moment
    for name, words in STEPS:
        here = next((t for t, x in lines if at - 0.002 <= t <= end and words in x), at)
        found[name] = here - at
        at = here
    return found


def stamp(line: str) -> float | None:
    match = re.match(r"(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d),(\d{3}) ", line)
    if match is None:
        return None
    return datetime.strptime(match[1], "%Y-%m-%d %H:%M:%S").timestamp() + int(match[2]) / 1000


def wait(condition: object, run: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 300
    while not condition():  # type: ignore[operator]
        assert run.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)


if __name__ == "__main__":
    sys.exit(main())
