"""One `streamtrain run` of a job, measured from outside: by its log, its journal and the processor seconds of its
processes."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime

from bench.processes import counted
from bench.speed_job import released
from streamtrain.checkpoint.journal import Journal
from streamtrain.config import JobConfig

_LINE = re.compile(
    r"^(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3}) INFO streamtrain\.trainer: pass \S+: (\d+ rows|predict AUC|train AUC)",
    re.M,
)


@dataclass(frozen=True)
class Pass:
    """When it began, was predicted and was trained, seconds since 1970."""

    begun: float
    predicted: float
    trained: float


@dataclass(frozen=True)
class Measured:
    """whole: seconds from the start of the process to its end. to_first: until the first pass is read. rows: of a pass.
    held: seconds that checkpoints held the trainer up, the last one's apart. last: seconds of the last checkpoint, with
    the day's end. cpu: processor seconds by part."""

    whole: float
    to_first: float
    rows: int
    passes: list[Pass]
    held: list[float]
    last: float
    parts: Mapping[str, float]
    cpu: Mapping[str, float]

    @property
    def end_to_end(self) -> float:
        """Rows a second of everything."""
        return self.rows * len(self.passes) / self.whole

    @property
    def in_window(self) -> float:
        """Rows a second from the end of the first pass to the end of the last: checkpoints between are in it, the day's
        end is not."""
        return self.rows * (len(self.passes) - 1) / (self.passes[-1].trained - self.passes[0].trained)

    @property
    def predict_us(self) -> float:
        """Of a row, the first pass apart: its table is empty."""
        return self._us(lambda each: each.predicted - each.begun)

    @property
    def train_us(self) -> float:
        """The same; what a checkpoint's tables make the training wait is in it."""
        return self._us(lambda each: each.trained - each.predicted)

    def _us(self, seconds: Callable[[Pass], float]) -> float:
        later = self.passes[1:]
        return 1e6 * sum(map(seconds, later)) / (len(later) * self.rows)


def run(config: JobConfig, rows: int) -> Measured:
    """Raises SystemExit when it fails."""
    folder = config.path.parent
    began, since = time.time(), time.monotonic()
    with (folder / "run.out").open("wb") as out:
        command = [sys.executable, "-m", "streamtrain.cli.main", "run", "-m", str(config.path)]
        process = subprocess.Popen(command, cwd=folder, stdout=out, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL)
        with counted(process.pid) as cpu, released(config):
            code = process.wait()
    whole = time.monotonic() - since
    if code:
        raise SystemExit(f"streamtrain run ended with {code}: read {folder / 'run.out'}")
    passes = passes_of((folder / "log" / "workerlog.0").read_text("utf-8", "replace"))
    records = Journal(config.model_save_path).read()
    saved = [record for record in records if record.checkpoint_seconds is not None]
    held = [r.checkpoint_parts.get("held", r.checkpoint_seconds or 0.0) for r in saved[:-1]]
    last = saved[-1]
    return Measured(
        whole, passes[0].begun - began, rows, passes, held, last.checkpoint_seconds or 0.0, last.checkpoint_parts, cpu
    )


def passes_of(log: str) -> list[Pass]:
    """From worker 0's log."""
    times = [(datetime.strptime(at, "%Y-%m-%d %H:%M:%S,%f").timestamp(), what) for at, what in _LINE.findall(log)]
    begun, predicted, trained = (
        [at for at, what in times if what.endswith(end)] for end in ("rows", "predict AUC", "train AUC")
    )
    return [Pass(*each) for each in zip(begun, predicted, trained, strict=True)]
