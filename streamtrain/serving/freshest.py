"""The freshest valid inference model below a source: found by the donefiles, put together, kept as the running one."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass

from streamtrain.contracts.donefiles import DoneLine
from streamtrain.contracts.manifest import NAME
from streamtrain.errors import CheckpointError
from streamtrain.serving import catalog
from streamtrain.serving.bundle import open_bundle, read_manifest
from streamtrain.serving.catalog import Chain, Listing, age
from streamtrain.serving.chain import Built, Stack
from streamtrain.serving.files import Files, Stamp
from streamtrain.serving.model import Model

log = logging.getLogger("streamtrain.serving")

#: Seconds after which a patient refresh() reads a damaged model again although its files are as they were.
RETRY_S = 60.0


@dataclass(frozen=True)
class _Damage:
    problem: str
    stamp: Stamp
    seen: float


@dataclass(frozen=True)
class Running:
    """age: of its donefile's line. digests: of its chain."""

    model: Model
    digests: tuple[str, ...]
    age: tuple[str, int, float]


class _Damaged(Exception):
    """A model of a chain is damaged. below: the part of the chain below it, as far as it was just built."""

    def __init__(self, line: DoneLine, problem: str, below: Built | None = None) -> None:
        super().__init__(problem)
        self.line = line
        self.below = below


class Freshest:
    """threads: of each model, how many predict at once.

    running: the model that predicts, which refresh() swaps; None until there is one. problems: of the last refresh().
    reloads, failed_reloads: how often a model was loaded, and was damaged.
    """

    def __init__(self, files: Files, *, threads: int) -> None:
        self.files = files
        self._threads = threads
        self.running: Running | None = None
        self._refreshing = threading.Lock()
        self._damages: dict[str, _Damage] = {}
        self._logged: set[str] = set()  # digests of damaged models
        self.problems: tuple[str, ...] = ()
        self.reloads = 0
        self.failed_reloads = 0

    def refresh(self, *, patient: bool) -> bool:
        """Reads the donefiles and loads a newer model. True when another model runs now.

        patient: a model that is known as damaged, and whose files are as they were, is not read again at once.
        """
        with self._refreshing:
            try:
                listing = catalog.read(self.files)
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
        if self.running is not None or self.files.find(NAME) is None:
            return Listing(())
        manifest, digest = read_manifest(self.files, "")
        if manifest.kind != "full":
            raise CheckpointError(
                f"{self.files.url} is an incremental model: it needs the one below it",
                remedy="Give the model_save_path that it lies in.",
            )
        return Listing((DoneLine(path="", digest=digest, day=manifest.day, pass_id=manifest.pass_id, kind="full"),))

    def _run_freshest(self, lines: Sequence[DoneLine], problems: list[str], patient: bool) -> bool:
        """Puts the freshest valid model in place of the running one; False when there is no newer one.

        problems: what is wrong is added. patient: a model that is known as damaged is not read again at once.
        """
        running = self.running
        listed = {line.digest for line in lines}
        self._damages = {digest: d for digest, d in self._damages.items() if digest in listed}
        for line in catalog.unlinked(lines):
            if running is None or age(line) > running.age:
                problems.append(f"{self.files.name(line.path)} patches a model that no donefile names")
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
            self.running = Running(model, built.digests, age(newest))
            self.reloads += 1
            log.info("running %s: %d keys", model.version, model.keys)
            return True
        return False

    @staticmethod
    def _is_newer(line: DoneLine, running: Running, listed: set[str]) -> bool:
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
        return damage.problem if self.files.stamp(line.path) == damage.stamp else None

    def _build(self, chain: Chain, built: Built | None) -> Built:
        """The chain put together, upon the part of it that runs or was built just before, if there is one.

        Raises _Damaged, with the part below the damaged model.
        """
        digests = tuple(line.digest for line in chain)
        running = self.running
        stack = Stack()
        if built is not None and built.digests == digests[: len(built.digests)]:
            stack = Stack(built.digests, built.tables, built.bundle)
        elif running is not None and running.digests == digests[: len(running.digests)]:
            stack = Stack(running.digests, running.model.tables)
        for line in chain[len(stack.digests) :]:
            stamp = self.files.stamp(line.path)
            try:
                bundle = open_bundle(self.files, line.path, line.digest)
                try:
                    stack.add(bundle)
                except ValueError as error:
                    raise CheckpointError(f"{self.files.name(line.path)}: {error}") from error
            except CheckpointError as error:
                self._record_damage(line, error, stamp)
                raise _Damaged(line, str(error), stack.built()) from error
        complete = stack.built()
        assert complete is not None  # a chain all of which runs already is not a newer one
        return complete

    def _ready(self, line: DoneLine, built: Built) -> Model:
        try:
            return Model(built.bundle, built.tables, threads=self._threads)
        except CheckpointError as error:
            named = CheckpointError(f"{self.files.name(line.path)}: {error}")
            self._record_damage(line, named, self.files.stamp(line.path))
            raise _Damaged(line, str(named), built) from error

    def _record_damage(self, line: DoneLine, error: CheckpointError, stamp: Stamp) -> None:
        self._damages[line.digest] = _Damage(str(error), stamp, time.monotonic())
        self.failed_reloads += 1
        if line.digest not in self._logged:
            self._logged.add(line.digest)
            kept = f"{self.running.model.version} stays" if self.running else "There is no model yet"
            log.error("SKIPPED: %s. %s; it is tried again", error, kept)

    def _report(self, problems: list[str]) -> None:
        for problem in problems:
            if problem not in self.problems and problem not in (d.problem for d in self._damages.values()):
                log.warning("%s", problem)
        self.problems = tuple(problems)
