"""Predictor: loads the freshest inference model that is whole, and follows those that come after it."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from streamtrain.contracts import reports
from streamtrain.engine.inference import F32
from streamtrain.errors import CheckpointError
from streamtrain.serving import catalog
from streamtrain.serving.bundle import MANIFEST, open_bundle, read_manifest
from streamtrain.serving.catalog import Chain, Entry
from streamtrain.serving.chain import Built, Stack
from streamtrain.serving.files import Files, Stamp
from streamtrain.serving.model import Model, Version, check_columns
from streamtrain.serving.rows import Columns, parse

log = logging.getLogger("streamtrain.serving")

#: Seconds after which watch() reads a damaged model again although its files look as they did.
AGAIN_S = 60.0


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
    """A model of a chain is damaged. below: the chain's part below it, as far as it was built anew."""

    def __init__(self, entry: Entry, problem: str, below: Built | None = None) -> None:
        super().__init__(problem)
        self.entry = entry
        self.below = below


class Predictor:
    """Predicts with the freshest model below `source`: a model_save_path (local or an fsspec URL), or the directory
    of one full inference model.

    threads: how many predict at once, by default one a processor. load: whether to load at once; else `version` is
    None until refresh() finds a model. All methods may be called by any thread; a prediction is wholly of the model
    that was running when it began.

    Raises CheckpointError when there is no model that is whole (with load), ConfigError for the URL.
    """

    def __init__(self, source: str | Path, *, threads: int | None = None, load: bool = True) -> None:
        self._files = Files(source)
        self._threads = threads or len(os.sched_getaffinity(0))
        self._running: _Running | None = None
        self._refreshing = threading.Lock()
        self._damages: dict[str, _Damage] = {}
        self._said: set[str] = set()
        self._stop = threading.Event()
        self._watcher: threading.Thread | None = None
        self.problems: tuple[str, ...] = ()
        self.reloads = 0
        self.failed_reloads = 0
        if load and not self.refresh():
            nothing = ("there is neither a donefile nor a manifest.json with a model",)
            why = "; ".join(problem.rstrip(".") for problem in self.problems or nothing)
            raise CheckpointError(
                f"{self._files.url} has no inference model: {why}",
                remedy="Give a job's model_save_path, or the directory of a full inference model.",
            )

    @property
    def source(self) -> str:
        return self._files.url

    @property
    def version(self) -> Version | None:
        """The running model's; None when there is none."""
        running = self._running
        return running.model.version if running else None

    @property
    def keys(self) -> int:
        running = self._running
        return len(running.model.table) if running else 0

    @property
    def memory(self) -> int:
        """Bytes of the running model's table. A reload needs up to three times as much while it lasts."""
        running = self._running
        return running.model.table.nbytes if running else 0

    @property
    def consistency(self) -> dict[str, Any] | None:
        """The trainer's newest comparison of online and offline below `source`; None when there is none."""
        try:
            return reports.decode(self._files.find(reports.CONSISTENCY))
        except CheckpointError:
            return None

    def predict(self, lines: Sequence[str | bytes]) -> F32:
        """Predictions, [rows], of `feasign:slot` lines; a label (slot 1) and slots that the model has not are
        ignored. Raises DataError with the number of a line that does not parse, the first is 1."""
        return self.answer(lines)[0]

    def answer(self, lines: Sequence[str | bytes], first: int = 1, name: str = "line") -> tuple[F32, Version]:
        """The same with the model's version; lines are counted from `first` and called `name` in errors."""
        return self._answer(parse(lines, first, name))

    def predict_arrays(self, counts: Any, slots: Any, feasigns: Any) -> F32:
        """Predictions, [rows], of columns as SampleBatch has them: counts [rows], slots and feasigns [sum(counts)].

        Raises DataError when they do not belong together.
        """
        columns = Columns(np.asarray(counts, np.int64), np.asarray(slots), np.asarray(feasigns, np.uint64))
        check_columns(columns)
        return self._answer(columns)[0]

    def _answer(self, columns: Columns) -> tuple[F32, Version]:
        running = self._running  # once: a reload may swap it meanwhile
        if running is None:
            raise CheckpointError(f"{self.source} has had no inference model yet")
        return running.model.predict(columns), running.model.version

    def refresh(self) -> bool:
        """Looks at the donefiles and loads what is newer. True when another model runs now.

        A newer model that is damaged, or not all there yet, is said (log and `problems`) and looked at again the next
        time; the freshest one that is whole and newer than the running one is taken, else that stays.
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
            except Exception:  # the running model goes on, whatever it is
                log.exception("the look for a newer model failed")
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
                self._note([str(error)])
                return False
            problems = list(listing.problems)
            swapped = self._take_freshest(listing.entries, problems, patient)
            self._note(problems)
            return swapped

    def _single(self) -> catalog.Listing:
        """The directory of one model, as if a donefile named it. It is loaded once."""
        if self._running is not None or self._files.find(MANIFEST) is None:
            return catalog.Listing(())
        manifest, digest = read_manifest(self._files, "")
        if manifest.kind != "full":
            raise CheckpointError(
                f"{self._files.url} is an incremental model: it needs the one below it",
                remedy="Give the model_save_path that it lies in.",
            )
        entry = Entry(day=manifest.day, pass_id=manifest.pass_id, digest=digest, kind="full", path="")
        return catalog.Listing((entry,))

    def _take_freshest(self, entries: Sequence[Entry], problems: list[str], patient: bool) -> bool:
        running = self._running
        listed = {e.digest for e in entries}
        self._damages = {digest: d for digest, d in self._damages.items() if digest in listed}
        for entry in catalog.unlinked(entries):
            if running is None or entry.age > running.age:
                problems.append(f"{self._files.name(entry.path)} patches a model that no donefile names")
        built: Built | None = None
        bad: set[str] = set()
        for chain in catalog.chains(entries):
            newest = chain[-1]
            if running is not None and not self._is_newer(newest, running, listed):
                break
            if any(e.digest in bad for e in chain):
                continue
            try:
                for entry in chain:
                    if patient and (known := self._still_damaged(entry)):
                        raise _Damaged(entry, known)
                built = self._build(chain, built)
                model = self._ready(newest, built)
            except _Damaged as damaged:
                bad.add(damaged.entry.digest)
                built = damaged.below or built
                problems.append(str(damaged))
                continue
            self._running = _Running(model, built.digests, newest.age)
            self.reloads += 1
            log.info("running %s: %d keys", model.version, len(model.table))
            return True
        return False

    @staticmethod
    def _is_newer(entry: Entry, running: _Running, listed: set[str]) -> bool:
        """A model of the same pass is newer when the running one's line is gone: the trainer went back behind it
        and made it anew. What is older never takes its place."""
        if entry.digest == running.model.version.digest:
            return False
        if running.model.version.digest in listed:
            return entry.age > running.age
        return entry.age[:2] >= running.age[:2]

    def _still_damaged(self, entry: Entry) -> str:
        """What is wrong with it, when it is known as damaged and its files look as they did then."""
        damage = self._damages.get(entry.digest)
        if damage is None or time.monotonic() - damage.seen > AGAIN_S:
            return ""
        return damage.problem if self._files.stamp(entry.path) == damage.stamp else ""

    def _build(self, chain: Chain, built: Built | None) -> Built:
        """The chain put together, from the part of it that runs or was built just before, where there is one.

        Raises _Damaged, with the part below the damaged one.
        """
        digests = tuple(e.digest for e in chain)
        running = self._running
        stack = Stack()
        if built is not None and built.digests == digests[: len(built.digests)]:
            stack = Stack(built.digests, built.table, built.bundle)
        elif running is not None and running.digests == digests[: len(running.digests)]:
            stack = Stack(running.digests, running.model.table)
        for entry in chain[len(stack.digests) :]:
            stamp = self._files.stamp(entry.path)
            try:
                bundle = open_bundle(self._files, entry.path, entry.digest)
                try:
                    stack.add(bundle)
                except ValueError as error:
                    raise CheckpointError(f"{self._files.name(entry.path)}: {error}") from error
            except CheckpointError as error:
                self._damage(entry, error, stamp)
                raise _Damaged(entry, str(error), stack.built()) from error
        found = stack.built()
        assert found is not None  # a chain that runs as a whole is no newer one
        return found

    def _ready(self, entry: Entry, built: Built) -> Model:
        try:
            return Model(built.bundle, built.table, threads=self._threads)
        except CheckpointError as error:
            named = CheckpointError(f"{self._files.name(entry.path)}: {error}")
            self._damage(entry, named, self._files.stamp(entry.path))
            raise _Damaged(entry, str(named), built) from error

    def _damage(self, entry: Entry, error: CheckpointError, stamp: Stamp) -> None:
        self._damages[entry.digest] = _Damage(str(error), stamp, time.monotonic())
        self.failed_reloads += 1
        if entry.digest not in self._said:
            self._said.add(entry.digest)
            kept = f"{self.version} stays" if self.version else "There is no model yet"
            log.error("PASSED OVER: %s. %s; it is looked at again", error, kept)

    def _note(self, problems: list[str]) -> None:
        for problem in problems:
            if problem not in self.problems and problem not in (d.problem for d in self._damages.values()):
                log.warning("%s", problem)
        self.problems = tuple(problems)
