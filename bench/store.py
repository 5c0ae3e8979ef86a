"""A checkpoint's seconds with and without a store, and a start's on a machine that has nothing; build/store.json.

The store is tests/support/plain_store: whole objects on this machine's disk, no network. Its share is what the protocol
costs: digests, copies, a few small objects; a real store adds bytes by its speed, and its latency by some thirty calls.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import datetime
from pathlib import Path
from typing import Any

from bench.recovery import FEATURES, SLOTS, write_rows
from streamtrain.checkpoint.journal import Journal, PassRecord
from streamtrain.checkpoint.store import CheckpointStore
from streamtrain.config import JobConfig
from streamtrain.kafka.embedded import EmbeddedBroker
from tests.support.jobs import write_config
from tests.support.paths import ROOT
from tests.support.plain_store import ENTRY_POINTS

PASSES = 6


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--keys", type=int, default=1_000_000)
    parser.add_argument("--build", type=Path, default=Path("build"))
    arguments = parser.parse_args()
    paths = [str(ROOT), str(ENTRY_POINTS), os.environ.get("PYTHONPATH", "")]
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
    report: dict[str, Any] = {"keys": arguments.keys}
    with tempfile.TemporaryDirectory(prefix="streamtrain-store-") as top, EmbeddedBroker(Path(top) / "kafka") as broker:
        for kind in ("local", "store"):
            report[kind] = measure(Path(top) / kind, kind, {"bootstrap.servers": broker.bootstrap}, arguments.keys)
    arguments.build.mkdir(parents=True, exist_ok=True)
    (arguments.build / "store.json").write_text(json.dumps(report, indent=2) + "\n")
    print(json.dumps(report, indent=2))
    return 0


def measure(folder: Path, kind: str, kafka: dict[str, str], keys: int) -> dict[str, Any]:
    where = {"model_save_path": "model" if kind == "local" else f"plain://{folder / 'bucket'}.store/model"}
    config = write_config(
        folder, f"bench-{kind}", kafka, stream={"checkpoint_dir": "cache", "inference_model": "none"},
        runner={"split_interval": 1440 // PASSES, "end_day": "20240101", "train_batch_size": 256, **where},
        hyper_parameters={"slot_num": SLOTS, "layer_sizes": [512, 256, 128]},
    )  # fmt: skip
    first = 0
    for number, split in enumerate(config.schedule.splits()):
        rows = -(-keys // FEATURES) if number == 0 else 500
        write_rows(folder / "data" / split.path / "part-0", rows, first, keys, number)
        first += rows * FEATURES
    last = folder / "data" / "20240101" / config.schedule.split(PASSES - 1).time / "data.done"
    last.unlink()
    process = subprocess.Popen([sys.executable, "-m", "streamtrain.cli.main", "run", "-m", str(config.path)])
    while len(Journal(config.model_save_path).read()) < PASSES - 1:
        if process.poll() is not None:
            raise SystemExit(process.returncode)
        time.sleep(0.2)
    process.terminate()
    process.wait()
    saved = Journal(config.model_save_path).read()[2:]  # the second has the first one's keys too, and all later ones
    megabytes = size(config)
    if kind == "store":
        shutil.rmtree(folder / "cache")
    last.touch()
    subprocess.run([sys.executable, "-m", "streamtrain.cli.main", "run", "-m", str(config.path)], check=True)
    return {"megabytes": megabytes, **seconds(saved), "restore": restore(folder / "log" / "workerlog.0")}


def size(config: JobConfig) -> float:
    newest = CheckpointStore(config.model_save_path).list()[-1].manifest
    assert newest is not None
    return round(sum(entry.bytes for entry in newest.files) / 1e6, 1)


def seconds(records: list[PassRecord]) -> dict[str, Any]:
    """Medians: all of a checkpoint, and its part from the sealed files to the donefile."""
    return {
        "checkpoint": round(statistics.median(r.checkpoint_seconds or 0 for r in records), 2),
        "committed": round(statistics.median(r.checkpoint_parts.get("committed", 0) for r in records), 2),
    }


def restore(log: Path) -> float:
    """Seconds from the servers joined to the checkpoint verified, on this machine's disk."""
    begin = end = 0.0
    for line in log.read_text("utf-8", "replace").splitlines():
        if (match := re.match(r"([0-9-]+ [0-9:]+),([0-9]+) ", line)) is None:
            continue
        at = datetime.strptime(match[1], "%Y-%m-%d %H:%M:%S").timestamp() + int(match[2]) / 1000
        if "joined the servers" in line:
            begin = at
        elif "verified, loading" in line:
            end = at
    return round(end - begin, 2)


if __name__ == "__main__":
    raise SystemExit(main())
