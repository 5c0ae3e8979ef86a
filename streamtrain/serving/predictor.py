"""Predictor: loads the freshest valid inference model, and those that are published after it."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from streamtrain.contracts import reports
from streamtrain.contracts.metrics import LabelMetrics
from streamtrain.engine.inference import F32
from streamtrain.errors import CheckpointError
from streamtrain.locations import Location
from streamtrain.masking import mask_text
from streamtrain.serving.files import Files
from streamtrain.serving.freshest import Freshest
from streamtrain.serving.inputs import check_lengths
from streamtrain.serving.model import Model, Version, check_columns
from streamtrain.serving.row_objects import AnyRow, dense_columns, parse_rows, whole_numbers
from streamtrain.serving.rows import Columns

log = logging.getLogger("streamtrain.serving")


class Predictor:
    """Predicts with the freshest model below `source`: a model_save_path (local, or on a store), or the directory
    of one full inference model.

    threads: how many predict at once, by default one a processor. load: whether to load at once; else `version` is
    None until refresh() finds a model. All methods may be called by any thread; all of a prediction is of the model
    that was running when it began.

    Raises CheckpointError when there is no valid model (with load), ConfigError for the URL.
    """

    def __init__(self, source: str | Path | Location, *, threads: int | None = None, load: bool = True) -> None:
        self._files = Files(source)
        self.threads = threads or len(os.sched_getaffinity(0))
        self._freshest = Freshest(self._files, threads=self.threads)
        self._stop = threading.Event()
        self._watcher: threading.Thread | None = None
        if load and not self.refresh():
            nothing = ("there is neither a donefile nor a manifest.json with a model",)
            reasons = "; ".join(problem.rstrip(".") for problem in self.problems or nothing)
            raise CheckpointError(
                f"{self._files.url} has no inference model: {reasons}",
                remedy="Give a job's model_save_path, or the directory of a full inference model.",
            )

    @property
    def source(self) -> str:
        """Where models are read, as it may be shown: secrets of a URL are masked."""
        return mask_text(self._files.url)

    @property
    def version(self) -> Version | None:
        """The running model's; None when there is none."""
        running = self._freshest.running
        return running.model.version if running else None

    @property
    def problems(self) -> tuple[str, ...]:
        """What the last search for a newer model found wrong."""
        return self._freshest.problems

    @property
    def reloads(self) -> int:
        """How often a model was loaded."""
        return self._freshest.reloads

    @property
    def failed_reloads(self) -> int:
        """How often a model was damaged."""
        return self._freshest.failed_reloads

    @property
    def keys(self) -> int:
        running = self._freshest.running
        return running.model.keys if running else 0

    @property
    def memory(self) -> int:
        """Bytes of the running model's tables. A reload needs up to three times as much while it lasts."""
        running = self._freshest.running
        return running.model.nbytes if running else 0

    @property
    def targets(self) -> tuple[str, ...]:
        """Names of the running model's predictions; empty when there is none."""
        running = self._freshest.running
        return running.model.targets if running else ()

    @property
    def metrics(self) -> dict[str, LabelMetrics]:
        """Of the pass that the running model was published after, by label; none for models before 0.4.0."""
        running = self._freshest.running
        return running.model.metrics if running else {}

    @property
    def consistency(self) -> dict[str, Any] | None:
        """The trainer's newest comparison of online and offline below `source`; None when there is none."""
        try:
            return reports.decode(self._files.find(reports.CONSISTENCY))
        except CheckpointError:
            return None

    def predict(self, lines: Sequence[AnyRow]) -> F32:
        """Predictions: [rows] of a model with one target, [rows, targets] of one with several, in the order of
        `targets`.

        lines: a row each, `feasign:slot` text, or values by name as an object or its JSON, {"user": [1, 2], "price":
        0.3}. A label (slot 1), slots and names that the model lacks are ignored.

        Raises DataError with the number of a row that is not valid, the first is 1.
        """
        return self.answer(lines)[0]

    def predict_by_name(self, lines: Sequence[AnyRow]) -> dict[str, F32]:
        """The same, [rows] of each target, by its name."""
        return self.answer_by_name(lines)[0]

    def answer(self, lines: Sequence[AnyRow], first: int = 1, name: str = "line") -> tuple[F32, Version]:
        """predict() with the model's version; lines are counted from `first` and called `name` in errors."""
        predictions, model = self._answer_rows(lines, first, name)
        return _of_one(predictions), model.version

    def answer_by_name(
        self, lines: Sequence[AnyRow], first: int = 1, name: str = "line"
    ) -> tuple[dict[str, F32], Version]:
        """predict_by_name() in the same way."""
        predictions, model = self._answer_rows(lines, first, name)
        return _by_name(predictions, model), model.version

    def predict_arrays(self, counts: Any, slots: Any, feasigns: Any, dense: Mapping[str, Any] | None = None) -> F32:
        """Predictions as predict() gives them, of columns as SampleBatch has them: counts [rows], slots and feasigns
        [sum(counts)]. feasigns of int64 are taken by their bits, -1 as 2^64 - 1. dense: by name, [rows, n], or [rows]
        for one float.

        Raises DataError when they do not belong together or are no whole numbers, or floats that the model takes are
        missing.
        """
        model = self._model()
        columns = Columns(
            whole_numbers(counts, "counts", np.int64), whole_numbers(slots, "slots", np.int64),
            whole_numbers(feasigns, "feasigns", np.uint64),
        )  # fmt: skip
        check_columns(columns)
        columns = replace(columns, dense=dense_columns(model.form, dense or {}, len(columns)))
        check_lengths(columns, model.form.fixed, 1, "row")
        return _of_one(model.predict(columns))

    def _answer_rows(self, rows: Sequence[AnyRow], first: int, name: str) -> tuple[F32, Model]:
        model = self._model()
        columns = parse_rows(rows, model.form, first, name)
        check_lengths(columns, model.form.fixed, first, name)
        return model.predict(columns), model

    def _model(self) -> Model:
        """The running one: asked for once by each prediction, since a reload may swap it meanwhile."""
        if (running := self._freshest.running) is None:
            raise CheckpointError(f"{self.source} has had no inference model yet")
        return running.model

    def refresh(self) -> bool:
        """Reads the donefiles and loads a newer model. True when another model runs now.

        A newer model that is damaged or incomplete is reported (log and `problems`) and read again at the next call.
        The freshest valid model that is newer than the running one takes its place, if there is one.
        """
        return self._freshest.refresh(patient=False)

    def watch(self, seconds: float) -> None:
        """Refreshes in a thread, every so many seconds, until close()."""
        if self._watcher is None:
            self._watcher = threading.Thread(target=self._watch, args=(seconds,), name="model-watch", daemon=True)
            self._watcher.start()

    def close(self) -> None:
        """Ends watch()."""
        self._stop.set()
        if self._watcher is not None:
            self._watcher.join()

    def _watch(self, seconds: float) -> None:
        waiting = False
        while True:
            try:
                self._freshest.refresh(patient=True)
            except Exception:  # whatever it is, the running model continues to predict
                log.exception("the search for a newer model failed")
            if self._freshest.running is None and not waiting:
                waiting = True
                log.warning("waiting for a first inference model below %s", self.source)
            if self._stop.wait(seconds):
                return


def _of_one(predictions: F32) -> F32:
    return predictions[:, 0] if predictions.shape[1] == 1 else predictions


def _by_name(predictions: F32, model: Model) -> dict[str, F32]:
    return {name: predictions[:, place] for place, name in enumerate(model.targets)}
