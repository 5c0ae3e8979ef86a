"""The demo: MovieLens-100K as a stream, killed in the middle, recounted at the end."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import yaml

from streamtrain.checkpoint.journal import Journal, PassRecord, unpack
from streamtrain.config import JobConfig, load_config
from streamtrain.contracts import reports
from streamtrain.demo import movielens
from streamtrain.demo.rating_rows import json_lines
from streamtrain.engine.stats import Counts
from streamtrain.errors import ConfigError, StreamtrainError
from streamtrain.proof.job import recount_job
from streamtrain.proof.recount import Recount
from streamtrain.runtime.pipeline import Pipeline

CONFIG = "config_online.yaml"
SPLIT_INTERVAL = 360  # minutes: the ratings come a few hundred a day
#: What the demo changes of a model's config_online.yaml.
CHANGES: dict[str, Any] = {
    "runner": {
        "model_save_path": "model",
        "split_interval": SPLIT_INTERVAL,
        "split_per_pass": 1440 // SPLIT_INTERVAL,
        "save_delta_frequency": 1,
    },
    "stream": {"job": "movielens", "partitions": 2, "workers": 1, "consistency_rows": 500, "consistency_every": 10},
}
#: The model whose config is not of these data, and what else the demo changes of it.
SLOT_DNN = "slot_dnn"
SLOT_DNN_CHANGES: dict[str, Any] = {
    "runner": {"train_batch_size": 4},
    "hyper_parameters": {"layer_sizes": [], "weight_std": 0.3, "slot_num": len(movielens.SLOTS)},
}


def merged(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of `base` with the changes in its place, mapping by mapping; a list is replaced as a whole."""
    result = deepcopy(dict(base))
    for key, value in changes.items():
        both = isinstance(value, Mapping) and isinstance(result.get(key), Mapping)
        result[key] = merged(result[key], value) if both else deepcopy(value)
    return result


def prepare(directory: Path, days: int, model: str = SLOT_DNN) -> JobConfig:
    """Fetches the data, writes data/, the model's folder and config_online.yaml. days: 0 takes all.

    Raises ConfigError when the directory holds something that is not a demo, or there is no such model.
    """
    source_dir = model_source(model)
    if directory.exists() and any(directory.iterdir()):
        if not (directory / CONFIG).exists():
            raise ConfigError(f"{directory} is not empty and not a demo's", remedy="Give another --dir.")
        shutil.rmtree(directory)
    directory.mkdir(parents=True, exist_ok=True)
    with (directory / ".gitignore").open("w") as out:
        out.write("*\n")
    source = movielens.fetch(directory / "source")
    of_slot_dnn = model == SLOT_DNN
    tree = movielens.write_tree(
        source, directory / "data", days=days, split_interval=SPLIT_INTERVAL, donefile="data.done",
        lines=movielens.feasign_lines if of_slot_dnn else json_lines,
    )  # fmt: skip
    shutil.copytree(source_dir, directory / model, ignore=shutil.ignore_patterns("__pycache__", "*.yaml", "log"))
    config = yaml.safe_load((source_dir / CONFIG).read_text())
    of_data = {"runner": {"model_dir": model, "start_day": tree.first_day, "end_day": tree.last_day}}
    for changes in (CHANGES, SLOT_DNN_CHANGES if of_slot_dnn else {}, of_data):
        config = merged(config, changes)
    path = directory / CONFIG
    path.write_text(yaml.safe_dump(config, sort_keys=False))
    return load_config(path)


def model_names() -> list[str]:
    """The models that come with it."""
    return sorted(path.parent.name for path in _models().glob(f"*/{CONFIG}"))


def model_source(name: str) -> Path:
    """models/NAME, which is part of the installed package too. Raises ConfigError when there is none."""
    if name not in (names := model_names()):
        raise ConfigError(f"--model: there is no {name}", remedy=f"Give one of: {', '.join(names)}.")
    return _models() / name


def _models() -> Path:
    return Path(__file__).with_name("models")


class Killer:
    """Kills the whole trainer, once, when half of the passes are trained."""

    def __init__(self, config: JobConfig, say: Callable[[str], None]) -> None:
        self._journal = Journal(config.model_save_path)
        self._index = config.schedule.pass_index
        self._half = config.schedule.total_passes // 2
        self._say = say
        self.pipeline: Pipeline | None = None
        self.fired = False

    def tick(self) -> None:
        if self.fired or self.pipeline is None:
            return
        newest = self._journal.newest()
        if newest is None or self._index(newest.id) + 1 < max(1, self._half):
            return
        pids = self.pipeline.supervisor.kill()
        if pids:
            self.fired = True
            self._say(f"kill -9 of the whole trainer: processes {', '.join(map(str, pids))}")


def run(
    directory: Path,
    days: int,
    *,
    model: str = SLOT_DNN,
    say: Callable[[str], None],
    follow: Callable[[JobConfig], tuple[Callable[[], None], Callable[[int, str], None]]],
    stop: threading.Event | None = None,
) -> dict[str, Any]:
    """Runs the demo and returns the summary, which is also in summary.json.

    follow(config) gives tick() and on_restart(number, reason), for showing the passes.
    """
    say("fetching MovieLens-100K and writing the tree of logs")
    config = prepare(directory, days, model)
    tick, on_restart = follow(config)
    killer = Killer(config, say)

    def both() -> None:
        tick()
        killer.tick()

    pipeline = Pipeline(config, stop=stop, on_restart=on_restart, tick=both)
    killer.pipeline = pipeline
    pipeline.run()
    if stop is not None and stop.is_set():
        raise StreamtrainError("the demo was stopped before its end", remedy="Start it again.")
    tick()
    say("recounting every key from the source files")
    result = recount_job(config)
    records = Journal(config.model_save_path).read()
    summary = summarize(
        records, result, pipeline.supervisor.restarts, reports.read(config.model_save_path, reports.CONSISTENCY)
    )
    (directory / "summary.json").write_bytes(orjson.dumps(summary, option=orjson.OPT_INDENT_2))
    plot(records, summary, directory / "auc.png")
    return summary


def summarize(
    records: list[PassRecord], result: Recount, restarts: int, consistency: dict[str, Any] | None
) -> dict[str, Any]:
    """What goes into summary.json. The second half begins with the pass that half of the rows come before."""
    rows = sum(r.rows for r in records)
    second: list[PassRecord] = []
    before = 0
    for r in records:
        if before >= rows // 2:
            second.append(r)
        before += r.rows
    fields = ("day", "pass_id", "rows", "predict_auc", "train_auc", "seconds")
    return {
        "rows_published": result.rows,
        "rows_rejected": result.rejected,
        "rows_trained": rows,
        "passes": [{k: v for k, v in asdict(r).items() if k in fields} for r in records],
        "auc_all": auc_over(records),
        "auc_second_half": auc_over(second),
        "labels": {
            name: {"all": over(records, name), "second_half": over(second, name)}
            for name in dict.fromkeys(name for r in records for name in r.labels)
        },
        "restarts": restarts,
        "consistency": consistency,
        "recount": {"keys": result.keys, "lost": result.lost, "duplicated": result.duplicated},
    }


def auc_over(records: list[PassRecord], label: str | None = None) -> float | None:
    """AUC over all rows of several passes, each row predicted before it was trained. label: by default the first."""
    histograms = [unpack(r.histograms.get(label or "", r.predict_histogram)) for r in records if r.rows]
    if not histograms:
        return None
    pos, neg = (np.sum([h[i] for h in histograms], axis=0) for i in range(2))
    return float(Counts(pos, neg).auc)


def over(records: list[PassRecord], label: str) -> dict[str, float | None]:
    """AUC and COPC of a label over all rows of several passes, as predicted."""
    counted = [m for r in records if r.rows and label in r.labels and (m := r.labels[label].predict) is not None]
    clicks = sum(m.rows * (m.actual_ctr or 0.0) for m in counted)
    predicted = sum(m.rows * (m.predicted_ctr or 0.0) for m in counted)
    return {"auc": auc_over(records, label), "copc": clicks / predicted if predicted else None}


def plot(records: list[PassRecord], summary: dict[str, Any], path: Path) -> None:
    """Predict AUC a pass, and over all rows so far, as a PNG."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    trained = [r for r in records if r.rows and r.predict_auc is not None]
    rows = np.cumsum([r.rows for r in trained])
    so_far = [auc_over(trained[: i + 1]) for i in range(len(trained))]
    figure, axes = plt.subplots(figsize=(9, 4.5), layout="constrained")
    axes.scatter(rows, [r.predict_auc for r in trained], s=10, color="#9bb7d4", label="one pass")
    axes.plot(rows, so_far, color="#1f4e79", label="all rows so far")
    axes.set_xlabel("rows trained")
    axes.set_ylabel("AUC, predicted before trained")
    axes.set_ylim(0.45, 0.85)
    axes.set_title(
        f"MovieLens-100K as a stream: AUC {summary['auc_all']:.4f} over all, "
        f"{summary['auc_second_half']:.4f} over the second half"
    )
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right")
    figure.savefig(path, dpi=120)
    plt.close(figure)
