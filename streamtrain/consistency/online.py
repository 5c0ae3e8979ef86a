"""The trainer's side of the consistency check: a sample of a pass's rows, what the worker computes of them right after
an inference model was made, and a process that compares both. Training continues meanwhile.

The result is in `consistency.json` below model_save_path, for `status` and for serving's metrics.
"""

from __future__ import annotations

import importlib.util
import itertools
import logging
import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from streamtrain.checkpoint.runs import Run
from streamtrain.config import JobConfig
from streamtrain.consistency.sample import write_feeds
from streamtrain.contracts import reports
from streamtrain.contracts.manifest import ModelRef
from streamtrain.dumps import Dump, check_part
from streamtrain.errors import ConfigError, DataError, StreamtrainError
from streamtrain.feed.spool import Spool
from streamtrain.runtime import child_state, launch

if TYPE_CHECKING:
    from streamtrain.engine.engine import Engine

log = logging.getLogger("streamtrain.consistency")

#: In the folder of a comparison: its run folder, and what it writes.
RUN = "run"
RESULT = "result.json"


def take_sample(source: Path, target: Path, rows: int, *, ins_ids: bool) -> int:
    """The first rows of MultiSlot text, with ids of their own (`row/N`) where they have none. Returns how many."""
    with source.open("rb") as lines, target.open("wb") as out:
        taken = 0
        for line in itertools.islice(lines, rows):
            taken += 1
            out.write(line if ins_ids else b"1 row/%d %b" % (taken, line))
    return taken


class ConsistencyCheck:
    """Worker 0's; nothing is done when stream.consistency_rows is 0."""

    def __init__(self, config: JobConfig, engine: Engine, run: Run) -> None:
        stream = config.stream
        self._rows = stream.consistency_rows if stream.inference_model != "none" else 0
        self._every = stream.consistency_every
        self._tolerance = stream.consistency_tolerance
        if self._rows and importlib.util.find_spec("pyarrow") is None:
            raise ConfigError(
                "stream.consistency_rows needs pyarrow, which is not installed",
                remedy="Run: pip install 'streamtrain[serving]', or take the key out.",
            )
        self._engine = engine
        self._run = run
        self._spool = Spool(config.spool_dir) if self._rows else None
        self._fields = engine.compared_variables() if self._rows else ()
        self._models = 0
        self._folder: Path | None = None
        self._sampled = 0
        self._process: launch.Child | None = None
        self._comparing: Path | None = None

    def sample(self, text: Path, *, ins_ids: bool) -> None:
        """Copies rows of a pass after which a model is due, while they are on disk."""
        if self._spool is None:
            return
        self._models += 1
        if (self._models - 1) % self._every:
            return
        self._forget()
        try:
            folder = self._spool.empty(f"consistency-{self._models}")
            self._sampled = take_sample(text, folder / "sample.txt", self._rows, ins_ids=ins_ids)
            write_feeds(folder / "sample.txt", self._engine.feeds)
            self._folder = folder
        except (StreamtrainError, OSError) as error:
            log.error("consistency: NOT KNOWN: %s", error)

    def dump(self) -> None:
        """Computes the sample with the model as it is in the servers now: right after the checkpoint was saved."""
        if self._folder is None or not self._sampled:
            return
        try:
            self._dump(self._folder / "dump")
        except (StreamtrainError, OSError) as error:  # of the check alone: the training continues
            self._forget()
            self._publish({"ok": False, "error": str(error)})

    def _dump(self, directory: Path) -> None:
        directory.mkdir()
        dataset = self._engine.read([directory.with_name("sample.txt")], ins_ids=True)
        try:
            dump = Dump(directory, self._fields)
            self._engine.predict(dataset, dump)
            dumped = check_part(dump, self._engine.index)
        finally:
            dataset.release()
        if dumped != self._sampled:
            raise DataError(f"{directory}: {dumped} rows were dumped, there are {self._sampled}")

    def start(self, model: ModelRef) -> None:
        """Begins comparing with a model that is published. One comparison at a time: a slow one is waited for."""
        if self._folder is None or not self._sampled:
            return
        self.poll(wait=True)
        folder, self._folder = self._folder, None
        (folder / RUN).mkdir()
        arguments = [
            str(self._run.root), model.digest, str(folder / "sample.txt"), str(folder / "dump"), str(self._tolerance),
            str(folder / RESULT),
        ]  # fmt: skip
        self._process = launch.start_module(
            "streamtrain.consistency.compare", arguments, run_dir=folder / RUN, output=folder / "output"
        )
        self._comparing = folder

    def poll(self, *, wait: bool = False) -> None:
        """Publishes the result of a comparison that has ended. Raises Fenced when a newer trainer has taken over,
        CheckpointError."""
        if self._process is None or self._comparing is None or (not wait and self._process.poll() is None):
            return
        code = self._process.wait()
        failure = child_state.failure("the comparison", code, child_state.read(self._comparing / RUN))
        if failure is not None:
            report: dict[str, Any] = {"ok": False, "error": failure.message}
        else:
            report = orjson.loads((self._comparing / RESULT).read_bytes())
        self._process = None
        shutil.rmtree(self._comparing, ignore_errors=True)
        self._comparing = None
        self._publish(report)

    def _publish(self, report: dict[str, Any]) -> None:
        self._run.replace(self._run.root / reports.CONSISTENCY, reports.encode({**report, "time": time.time()}))
        log_report(report)

    def close(self) -> None:
        self.poll(wait=True)
        if self._spool is not None:
            self._spool.close()

    def _forget(self) -> None:
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None


def log_report(report: dict[str, Any]) -> None:
    """As an error when online and offline differ."""
    if "error" in report:
        log.error("consistency: NOT KNOWN: %s", report["error"])
        return
    worst = report["worst"]
    log.log(
        logging.INFO if report["ok"] else logging.ERROR,
        "consistency: %s %s over %d rows; largest difference %.3g (relative %.3g, tolerance %.3g) in %s, row %s",
        report["model"], "agrees" if report["ok"] else "DIFFERS FROM THE TRAINER", report["rows"], worst["absolute"],
        worst["relative"], report["tolerance"], worst["variable"], worst["ins_id"],
    )  # fmt: skip
