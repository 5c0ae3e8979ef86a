"""Seconds of inference models at size: full ones of a million keys, incremental ones by touched keys; of it, what
Paddle's saving takes. A table, and build/exports.json.
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
from pathlib import Path

from streamtrain.checkpoint.journal import Journal, PassRecord
from streamtrain.kafka.embedded import EmbeddedBroker
from tests.support.models_reader import checkpoint_keys, overlay, read_all
from tests.support.scene import Scene

SLOTS, FEATURES = 300, 384


def write_rows(path: Path, keys: int, seed: int) -> None:
    """As few rows of FEATURES feasigns as have each of the first `keys` feasigns once."""
    source = random.Random(seed)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as out:
        for first in range(0, keys, FEATURES):
            pairs = (f"{n + 1}:{2 + n % SLOTS}" for n in range(first, min(first + FEATURES, keys)))
            out.write(f"{source.randint(0, 1)}:1 {' '.join(pairs)}\n")
    (path.parent / "data.done").touch()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--keys", type=int, default=1_000_000)
    parser.add_argument("--build", type=Path, default=Path("build"))
    arguments = parser.parse_args()
    touched = (arguments.keys, 10_000, 1_000, 10_000, 100_000, 10_000)
    with (
        tempfile.TemporaryDirectory(prefix="streamtrain-exports-") as top,
        EmbeddedBroker(Path(top) / "kafka") as broker,
    ):
        scene = Scene(
            Path(top) / "job", {"bootstrap.servers": broker.bootstrap}, "exports",
            runner={"split_interval": 720, "end_day": "20240103", "train_batch_size": 256, "save_delta_frequency": 1},
            hyper_parameters={"slot_num": SLOTS, "layer_sizes": [512, 256, 128]},
        )  # fmt: skip
        for number, keys in enumerate(touched):
            split = scene.config.schedule.split(number)
            write_rows(scene.folder / "data" / split.path / "part-0", keys, number)
        scene.start("run").finish(900)
        records = Journal(scene.config.model_save_path).read()
        root = scene.config.model_save_path
        full, incremental = read_all(root)
        assert overlay(full[-2], incremental) == full[-1].keys == checkpoint_keys(root / "20240103" / "2")
        assert len(full[-1].keys) == arguments.keys
        rows = [line(r, keys) for r, keys in zip(records, touched, strict=True)]
    arguments.build.mkdir(parents=True, exist_ok=True)
    (arguments.build / "exports.json").write_text(json.dumps(rows, indent=2) + "\n")
    columns = list(rows[0])
    print("| " + " | ".join(columns) + " |\n" + "| --- " * len(columns) + "|")
    for row in rows:
        print("| " + " | ".join(f"{v:,}" if isinstance(v, int) else str(v) for v in row.values()) + " |")
    return 0


def line(record: PassRecord, touched: int) -> dict[str, float | int | str]:
    """Seconds of one pass's saving, by part. day end: shrink, and the unseen days' count."""
    parts = record.checkpoint_parts

    def seconds(*names: str) -> float | str:
        found = [parts[n] for n in names if n in parts]
        return round(sum(found), 2) if found else "-"

    return {
        "pass": str(record.id),
        "touched keys": touched,
        "incremental: Paddle's saving": seconds("paddle_touched"),
        "incremental: ours": seconds("export_incremental"),
        "full: ours": seconds("export_full"),
        "day end": seconds("paddle_shrink"),
        "checkpoint, Paddle's saving": seconds("paddle_dense", "paddle_sparse", "paddle_values"),
        "checkpoint, ours": seconds("checked", "sealed", "committed"),
        "all": round(record.checkpoint_seconds or 0, 2),
    }


if __name__ == "__main__":
    raise SystemExit(main())
