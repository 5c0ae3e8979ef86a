"""PaddleRec's models, each as a whole job: `streamtrain run`, `recount`, `predict`. A table of what was seen.

    python -m bench.paddlerec CHECKOUT [MODEL ..] [--folder DIR] [--as-it-is]

CHECKOUT is a checkout of github.com/PaddlePaddle/PaddleRec; nothing is written there. A model is copied into DIR, and
changed as bench/paddlerec_models.py says; --as-it-is leaves the changes out. Rows have Criteo's form: 13 floats, 26
categories, labels that both tell.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from bench.paddlerec_models import CATEGORIES, FLOATS, HISTORY, MODELS, Model
from streamtrain.kafka.embedded import EmbeddedBroker

ROOT = Path(__file__).resolve().parents[1]
SPLITS, ROWS, VOCABULARY = 3, 1000, 10
Row = dict[str, list[float]]


class Rows:
    """Rows of a model. Each of the first slots and floats has a weight; their sum gives the labels."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self._source = random.Random(1)
        self._weights: dict[int, float] = {}

    def row(self) -> Row:
        source, model = self._source, self._model
        if model.name == "dssm":
            return self._texts()
        row: Row = {}
        floats = {name: [round(source.random() / 10, 5) for _ in range(width)] for name, width in model.dense.items()}
        score = 30 * sum(values[0] - values[1] for values in floats.values() if len(values) == FLOATS)
        for name, width in model.dense.items():
            if width == CATEGORIES:  # the values of ids
                floats[name] = [1.0] * width
        for number, name in enumerate(model.slots, 1):
            if name in model.counts:
                row[name] = [self._feasign(kind) for kind in range(model.counts[name])]
                score += sum(self._weights[int(feasign)] for feasign in row[name][:4])
                continue
            count = source.randint(3, HISTORY) if name.startswith("hist") else 1
            if model.name == "din":
                count = len(row["hist_item_seq"]) if name == "hist_cat_seq" else count
            kind = number % 2 if model.name == "din" else number  # its history has the ids of its targets
            row[name] = [self._feasign(kind) for _ in range(count)]
            if number <= 4 and count == 1:
                score += self._weights[int(row[name][0])]
        if "mask" in floats:
            count = len(row["hist_item_seq"])
            floats["mask"] = [0.0] * count + [-1e9] * (HISTORY - count)
        label = 1.0
        for name in model.labels:  # a later one is 0 where an earlier one is
            label *= float(source.random() < 1 / (1 + math.exp(-score)))
            row[name] = [label]
        return {**row, **floats}

    def _feasign(self, kind: int) -> int:
        feasign = (kind + 1) * 1_000_000 + self._source.randrange(VOCABULARY) + 1
        self._weights.setdefault(feasign, self._source.gauss(0, 1.5))
        return feasign

    def _texts(self) -> Row:
        """A query, a document of its topic, and one of another."""
        topic = self._source.randrange(10)
        topics = {"query": topic, "doc_pos": topic, "doc_neg_0": (topic + self._source.randint(1, 9)) % 10}
        texts = {name: [self._feasign(of) for _ in range(5)] for name, of in topics.items()}
        return {**texts, "label": [1.0]}


@dataclass
class Seen:
    """Of a model. how: what was done with it. error: the error's own words, '' when it went all the way."""

    model: Model
    how: str
    rows: int = 0
    auc: str = "-"
    recount: str = "-"
    served: str = "-"
    error: str = ""


def prepare(model: Model, checkout: Path, folder: Path, broker: str, *, changed: bool) -> None:
    """The model's copy, its config and its rows in `folder`. broker: its address."""
    copy = folder / "model"
    left_out = shutil.ignore_patterns("data", "picture", "*.md", "__pycache__")
    shutil.copytree(checkout / "models" / model.folder, copy, ignore=left_out)
    theirs = next((copy / name for name in ("config.yaml", "config_online.yaml") if (copy / name).exists()), None)
    hyper = dict(yaml.safe_load(theirs.read_text())["hyper_parameters"]) if theirs is not None else {}
    if changed:
        for name, path in model.files.items():
            shutil.copy(checkout / "models" / path, copy / name)
        for edit in model.edits:
            file = copy / edit.file
            file.write_text(edit.apply(file.read_text()))
        shutil.copy(ROOT / "bench" / "sparse_layers.py", copy)
    config = {**config_of(model, hyper), "kafka": {"bootstrap.servers": broker}}
    (folder / "config_online.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    rows = Rows(model)
    for split in range(SPLITS):
        directory = folder / "data" / "20240101" / f"{split * 24 // SPLITS:02d}00"
        directory.mkdir(parents=True)
        made = [rows.row() for _ in range(ROWS)]
        (directory / "part-0").write_text("".join(map(line_of, made)))
        (directory / "data.done").touch()
    names = {*model.slots, *model.dense}
    objects = [json.dumps({n: v for n, v in rows.row().items() if n in names}) for _ in range(20)]
    (folder / "rows.json").write_text("".join(f"{text}\n" for text in objects))


def line_of(row: Row) -> str:
    return " ".join(f"{name}:{value:.10g}" for name, values in row.items() for value in values) + "\n"


def config_of(model: Model, hyper: dict[str, Any]) -> dict[str, Any]:
    own = 3 if model.cvm else 1
    rule = {
        "name": "SparseAdaGradSGDRule",
        "adagrad": {"learning_rate": model.sparse_rate, "initial_g2sum": 0.03, "initial_range": 0.05},
    }
    tables = {
        name: {
            "shard_num": 4,
            "accessor": {
                "accessor_class": "CtrCommonAccessor" if model.cvm else "SparseAccessor", "fea_dim": width - own + 3,
                "embedx_dim": width - own, "embed_sgd_param": rule,
                "embedx_sgd_param": rule if width > own else {"name": "SparseNaiveSGDRule"},
            },
        }
        for name, width in model.widths.items()
    }  # fmt: skip
    numbers = numbers_of(model.slots)
    optimizer = {**hyper.get("optimizer", {}), "learning_rate": 0.01}  # there are few rows
    named = {name: number for name, number in numbers.items() if name != str(number)}
    stream = {"job": model.name.replace("_", "-"), "format": "name_value", "workers": 1}
    return {
        "runner": {
            "train_data_dir": "data", "data_donefile": "data.done", "data_sleep_second": 0.2, "model_dir": "model",
            "split_interval": 1440 // SPLITS, "split_per_pass": 1, "start_day": "20240101", "end_day": "20240101",
            "checkpoint_per_pass": SPLITS, "train_batch_size": 8,
        },
        "hyper_parameters": {**hyper, "optimizer": optimizer, **model.hyper},
        "table_parameters": tables,
        "stream": {
            **stream, "slots": list(numbers.values()), "labels": list(model.labels),
            **({"features": named} if named else {}), **({"dense": dict(model.dense)} if model.dense else {}),
        },
    }  # fmt: skip


def numbers_of(slots: Sequence[str]) -> dict[str, int]:
    """A name that is a slot's number is its number; the others, `1` among them, get those that are left."""
    own = {int(name) for name in slots if name.isdigit() and int(name) > 1}
    free = (number for number in range(2, 65536) if number not in own)
    return {name: int(name) if name.isdigit() and int(name) in own else next(free) for name in slots}


def streamtrain(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "streamtrain.cli.main", *arguments], cwd=folder, capture_output=True, text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)}, check=False, timeout=900,
    )  # fmt: skip


def try_one(model: Model, checkout: Path, folder: Path, broker: str, *, changed: bool) -> Seen:
    edits = model.edits if changed else ()
    lines = sum(edit.lines for edit in edits)
    seen = Seen(model, f"{lines} lines changed" if edits else "unchanged")
    prepare(model, checkout, folder, broker, changed=changed)
    done = streamtrain(folder, "run", "-m", "config_online.yaml")
    (folder / "run.txt").write_text(done.stdout + done.stderr)
    journal = folder / "output_model" / "passes.jsonl"
    if done.returncode or not journal.exists():
        seen.error = words_of(done)
        return seen
    passes = [json.loads(text) for text in journal.read_text().splitlines()]
    seen.rows = sum(record["rows"] for record in passes)
    by_label = {name: metrics["predict"] for name, metrics in passes[-1]["labels"].items()}
    seen.auc = ", ".join(f"{name} {m['auc']:.3f}" for name, m in by_label.items() if m["auc"] is not None) or "-"
    done = streamtrain(folder, "recount", "-m", "config_online.yaml", "--json")
    seen.recount = json.loads(done.stdout)["verdict"] if done.stdout.startswith("{") else words_of(done)
    done = streamtrain(folder, "predict", "-m", "config_online.yaml", "rows.json", "--json")
    seen.served = "yes" if done.returncode == 0 else words_of(done)
    return seen


def words_of(done: subprocess.CompletedProcess[str]) -> str:
    """What a command says of its end."""
    lines = [line for line in (done.stderr or done.stdout).splitlines() if line.strip()]
    at = next((n for n, line in enumerate(lines) if "rror" in line), max(0, len(lines) - 3))
    return " ".join(lines[at : at + 3])[:600]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkout", type=Path)
    parser.add_argument("models", nargs="*", metavar="MODEL", help=", ".join(model.name for model in MODELS))
    parser.add_argument("--folder", type=Path, help="Where copies and jobs are kept; by default they are removed.")
    parser.add_argument("--as-it-is", action="store_true", help="Run the models unchanged.")
    arguments = parser.parse_args()
    by_name = {model.name: model for model in MODELS}
    if unknown := [name for name in arguments.models if name not in by_name]:
        parser.error(f"{unknown[0]} is none of {', '.join(by_name)}")
    failed = 0
    with tempfile.TemporaryDirectory() as scratch, EmbeddedBroker(Path(scratch) / "kafka") as broker:
        print("| model | runs | rows | AUC of the last pass | recount | predict | |\n|---|---|---|---|---|---|---|")
        for name in arguments.models or by_name:
            folder = (arguments.folder or Path(scratch)) / name
            shutil.rmtree(folder, ignore_errors=True)
            changed = not arguments.as_it_is
            seen = try_one(by_name[name], arguments.checkout, folder, broker.bootstrap, changed=changed)
            note = seen.error or seen.model.note
            how = "cannot" if seen.error else seen.how
            cells = [name, how, f"{seen.rows:,}", seen.auc, seen.recount, seen.served, note]
            print(f"| {' | '.join(cells)} |", flush=True)
            failed += bool(seen.error)
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
