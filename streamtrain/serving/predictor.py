"""Predictor: loads the freshest valid inference model, and those that are published after it."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from streamtrain.contracts import reports
from streamtrain.contracts.inference_models import DoneLine
from streamtrain.contracts.manifest import NAME
from streamtrain.contracts.metrics import LabelMetrics
from streamtrain.engine.inference import F32
from streamtrain.errors import CheckpointError
from streamtrain.locations import Location
from streamtrain.masking import mask_text
from streamtrain.serving import catalog
from streamtrain.serving.bundle import open_bundle, read_manifest
from streamtrain.serving.catalog import Chain, Listing, age
from streamtrain.serving.chain import Built, Stack
from streamtrain.serving.files import Files, Stamp
from streamtrain.serving.inputs import check_lengths
from streamtrain.serving.model import Model, Version, check_columns
from streamtrain.serving.row_objects import AnyRow, dense_columns, parse_rows
from streamtrain.serving.rows import Columns

log = logging.getLogger("streamtrain.serving")

#: Seconds after which watch() reads a damaged model again although its files are as they were.
RETRY_S = 60.0


@dataclass(frozen=True)
class _Damage:
    problem: str
    stamp: Stamp
    seen: float


@dataclass(frozen=True)
class _Running:
    model: Model
    digests: tuple[str, ...]
    age: tuple[str, int, float]


class _Damaged(Exception):
    """A model of a chain is damaged. below: the part of the chain below it, as far as it was just built."""

    def __init__(self, line: DoneLine, problem: str, below: Built | None = None) -> None:
        super().__init__(problem)
        self.line = line
        self.below = below


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
        self._running: _Running | None = None
        self._refreshing = threading.Lock()
        self._damages: dict[str, _Damage] = {}
        self._logged: set[str] = set()  # digests of damaged models
        self._stop = threading.Event()
        self._watcher: threading.Thread | None = None
        self.problems: tuple[str, ...] = ()
        self.reloads = 0
        self.failed_reloads = 0
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
        running = self._running
        return running.model.version if running else None

    @property
    def keys(self) -> int:
        running = self._running
        return running.model.keys if running else 0

    @property
    def memory(self) -> int:
        """Bytes of the running model's tables. A reload needs up to three times as much while it lasts."""
        running = self._running
        return running.model.nbytes if running else 0

    @property
    def targets(self) -> tuple[str, ...]:
        """Names of the running model's predictions; empty when there is none."""
        running = self._running
        return running.model.targets if running else ()

    @property
    def metrics(self) -> dict[str, LabelMetrics]:
        """Of the pass that the running model was published after, by label; none for models before 0.4.0."""
        running = self._running
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
        [sum(counts)]. dense: by name, [rows, n], or [rows] for one float.

        Raises DataError when they do not belong together, or floats that the model takes are missing.
        """
        model = self._model()
        columns = Columns(np.asarray(counts, np.int64), np.asarray(slots), np.asarray(feasigns, np.uint64))
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
        if (running := self._running) is None:
            raise CheckpointError(f"{self.source} has had no inference model yet")
        return running.model

    def refresh(self) -> bool:
        """Reads the donefiles and loads a newer model. True when another model runs now.

        A newer model that is damaged or incomplete is reported (log and `problems`) and read again at the next call.
        The freshest valid model that is newer than the running one takes its place, if there is one.
        """
        return self._refresh(patient=False)

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
                self._refresh(patient=True)
            except Exception:  # whatever it is, the running model continues to predict
                log.exception("the search for a newer model failed")
            if self._running is None and not waiting:
                waiting = True
                log.warning("waiting for a first inference model below %s", self.source)
            if self._stop.wait(seconds):
                return

    def _refresh(self, *, patient: bool) -> bool:
        with self._refreshing:
            try:
                listing = catalog.read(self._files)
                if listing is None:
                    listing = self._single()
            except CheckpointError as error:
                self._report([str(error)])
                return False
            problems = list(listing.problems)
            swapped = self._run_freshest(listing.lines, problems, patient)
            self._report(problems)
            return swapped

    def _single(self) -> Listing:
        """The directory of one model, as if a donefile listed it. It is loaded once."""
        if self._running is not None or self._files.find(NAME) is None:
            return Listing(())
        manifest, digest = read_manifest(self._files, "")
        if manifest.kind != "full":
            raise CheckpointError(
                f"{self._files.url} is an incremental model: it needs the one below it",
                remedy="Give the model_save_path that it lies in.",
            )
        return Listing((DoneLine(path="", digest=digest, day=manifest.day, pass_id=manifest.pass_id, kind="full"),))

    def _run_freshest(self, lines: Sequence[DoneLine], problems: list[str], patient: bool) -> bool:
        """Puts the freshest valid model in place of the running one; False when there is no newer one.

        problems: what is wrong is added. patient: a model that is known as damaged is not read again at once.
        """
        running = self._running
        listed = {line.digest for line in lines}
        self._damages = {digest: d for digest, d in self._damages.items() if digest in listed}
        for line in catalog.unlinked(lines):
            if running is None or age(line) > running.age:
                problems.append(f"{self._files.name(line.path)} patches a model that no donefile names")
        built: Built | None = None
        bad: set[str] = set()
        for chain in catalog.chains(lines):
            newest = chain[-1]
            if running is not None and not self._is_newer(newest, running, listed):
                break
            if any(line.digest in bad for line in chain):
                continue
            try:
                for line in chain:
                    if patient and (problem := self._still_damaged(line)) is not None:
                        raise _Damaged(line, problem)
                built = self._build(chain, built)
                model = self._ready(newest, built)
            except _Damaged as damaged:
                bad.add(damaged.line.digest)
                built = damaged.below or built
                problems.append(str(damaged))
                continue
            self._running = _Running(model, built.digests, age(newest))
            self.reloads += 1
            log.info("running %s: %d keys", model.version, model.keys)
            return True
        return False

    @staticmethod
    def _is_newer(line: DoneLine, running: _Running, listed: set[str]) -> bool:
        """A model of the same pass is newer when the running model is no longer listed: the trainer went back behind
        that pass and recreated its model. An older model never replaces the running one."""
        if line.digest == running.model.version.digest:
            return False
        if running.model.version.digest in listed:
            return age(line) > running.age
        return age(line)[:2] >= running.age[:2]

    def _still_damaged(self, line: DoneLine) -> str | None:
        """What is wrong with it, when it is known as damaged and its files are as they were then; else None."""
        damage = self._damages.get(line.digest)
        if damage is None or time.monotonic() - damage.seen > RETRY_S:
            return None
        return damage.problem if self._files.stamp(line.path) == damage.stamp else None

    def _build(self, chain: Chain, built: Built | None) -> Built:
        """The chain put together, upon the part of it that runs or was built just before, if there is one.

        Raises _Damaged, with the part below the damaged model.
        """
        digests = tuple(line.digest for line in chain)
        running = self._running
        stack = Stack()
        if built is not None and built.digests == digests[: len(built.digests)]:
            stack = Stack(built.digests, built.tables, built.bundle)
        elif running is not None and running.digests == digests[: len(running.digests)]:
            stack = Stack(running.digests, running.model.tables)
        for line in chain[len(stack.digests) :]:
            stamp = self._files.stamp(line.path)
            try:
                bundle = open_bundle(self._files, line.path, line.digest)
                try:
                    stack.add(bundle)
                except ValueError as error:
                    raise CheckpointError(f"{self._files.name(line.path)}: {error}") from error
            except CheckpointError as error:
                self._record_damage(line, error, stamp)
                raise _Damaged(line, str(error), stack.built()) from error
        complete = stack.built()
        assert complete is not None  # a chain all of which runs already is not a newer one
        return complete

    def _ready(self, line: DoneLine, built: Built) -> Model:
        try:
            return Model(built.bundle, built.tables, threads=self.threads)
        except CheckpointError as error:
            named = CheckpointError(f"{self._files.name(line.path)}: {error}")
            self._record_damage(line, named, self._files.stamp(line.path))
            raise _Damaged(line, str(named), built) from error

    def _record_damage(self, line: DoneLine, error: CheckpointError, stamp: Stamp) -> None:
        self._damages[line.digest] = _Damage(str(error), stamp, time.monotonic())
        self.failed_reloads += 1
        if line.digest not in self._logged:
            self._logged.add(line.digest)
            kept = f"{self.version} stays" if self.version else "There is no model yet"
            log.error("SKIPPED: %s. %s; it is tried again", error, kept)

    def _report(self, problems: list[str]) -> None:
        for problem in problems:
            if problem not in self.problems and problem not in (d.problem for d in self._damages.values()):
                log.warning("%s", problem)
        self.problems = tuple(problems)


def _of_one(predictions: F32) -> F32:
    return predictions[:, 0] if predictions.shape[1] == 1 else predictions


def _by_name(predictions: F32, model: Model) -> dict[str, F32]:
    return {name: predictions[:, place] for place, name in enumerate(model.targets)}
