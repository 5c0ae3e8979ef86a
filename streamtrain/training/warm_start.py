"""The warm start of a job that has no checkpoint yet, and what its checkpoints keep of it.

Nothing is saved here: a restart before the first checkpoint begins anew. From the first one on each checkpoint has the
counts of the source's keys, by which the recount begins, as hard links of the same files.
"""

from __future__ import annotations

import logging
import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING

from streamtrain.checkpoint import warmup
from streamtrain.checkpoint.identity import identity_of
from streamtrain.checkpoint.runs import Run, refusals
from streamtrain.checkpoint.store import Checkpoint
from streamtrain.checkpoint.warm_files import dense_of_paddlerec, write_table
from streamtrain.config import JobConfig
from streamtrain.contracts.warm_plan import DENSE
from streamtrain.contracts.warmup import COUNTS, KEY, WarmStart, counts_name
from streamtrain.errors import CheckpointError
from streamtrain.files import link_or_copy

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from streamtrain.engine.engine import Engine

log = logging.getLogger("streamtrain.trainer")

#: In a run's directory: the counts that each of its checkpoints gets.
_KEPT = "warmup"


class WarmStarter:
    """Of one run. `start` is what the job has begun from, None for nothing: worker 0 alone knows it."""

    def __init__(self, config: JobConfig, engine: Engine, run: Run) -> None:
        self._config = config
        self._engine = engine
        self._run = run
        self.start: WarmStart | None = None

    def begin(self) -> bool:
        """For a job without a checkpoint; every worker calls it. False when the config names no source.

        Raises as checkpoint.warmup.decided() and write_table(); CheckpointError when Paddle did not load it.
        """
        if not warmup.wanted(self._config):
            return False
        if self._engine.index:
            self._engine.state.begin_from({}, None, {})
            return True
        begin = time.monotonic()
        own = self._engine.state.own_parameters
        with warmup.decided(self._config, self._engine.dense_shapes(), own) as decided:
            self.start = self._load(decided)
        _log(self.start)
        log.info("warm start: %s, %.1f s", self.start.summary(), time.monotonic() - begin)
        return True

    def _load(self, decided: warmup.Decided) -> WarmStart:
        """Has Paddle's servers load it; what was taken, with the keys of each table."""
        source, plan = decided.source, decided.plan
        log.info("%s: %s, verified, loading", KEY, source.where)
        scratch, kept = self._run.empty("begin"), self._run.empty(_KEPT)
        counted: dict[str, int] = {}
        places: dict[str, Path] = {}
        with refusals(scratch, "cannot be written"):
            (kept / COUNTS).mkdir()
            for table in self._engine.state.formats:
                if table.name not in plan.tables:
                    continue
                places[table.name] = scratch
                (folder := scratch / f"{table.id:03d}").mkdir()
                counted[table.name] = write_table(
                    source.files[table.name], plan.tables[table.name], table.shard_num, folder,
                    kept / counts_name(table.name),
                )  # fmt: skip
            dense = scratch if plan.dense_state else None
            if dense is not None:
                (folder := dense / f"{len(self._engine.state.formats):03d}").mkdir()
                for file in source.dense_files:
                    link_or_copy(file, folder / file.name)
        keys = self._engine.state.begin_from(places, dense, self._values(decided))
        if keys != sum(counted.values()):
            raise CheckpointError(
                f"{KEY}: {keys} keys were loaded, {source.where} has {sum(counted.values())}",
                remedy="A server may have failed: read log/serverlog.*.",
            )
        shutil.rmtree(scratch, ignore_errors=True)
        return decided.with_keys(counted)

    def _values(self, decided: warmup.Decided) -> dict[str, npt.NDArray[np.float32]]:
        source, names = decided.source, decided.plan.dense
        if source.kind == "paddlerec":
            own = self._engine.state.own_parameters
            shapes = {name: shape for name, shape in self._engine.dense_shapes().items() if name not in own}
            every = dense_of_paddlerec(source, shapes)[0] if names else {}
            return {name: every[name] for name in names}
        return {name: source.values(name) for name in names}

    def recall(self, checkpoint: Checkpoint) -> None:
        """For a job that continues from a checkpoint: worker 0 takes the counts that it has."""
        identity = identity_of(checkpoint)
        self.start = identity.warmup if identity is not None else None
        named = self._config.runner.warmup_model_path
        if self.start is None:
            if named:
                log.info("config: %s has no effect: the job has begun without it", KEY)
            return
        if named:
            log.info("config: %s has no effect any more: the job has begun from %s", KEY, self.start.path)
        kept = self._run.empty(_KEPT)
        with refusals(kept, "cannot be written"):
            (kept / COUNTS).mkdir()
            for entry in checkpoint.manifest.files if checkpoint.manifest is not None else ():
                if entry.path.startswith(f"{COUNTS}/"):
                    link_or_copy(checkpoint.path / entry.path, kept / entry.path)

    def add_to(self, staged: Path) -> None:
        """Puts the counts into a checkpoint that is staged. Raises CheckpointError."""
        if self.start is None:
            return
        with refusals(staged, "cannot be written"):
            (staged / COUNTS).mkdir()
            for file in (self._run.directory / _KEPT / COUNTS).iterdir():
                link_or_copy(file, staged / COUNTS / file.name)


def _log(start: WarmStart) -> None:
    """A line a part, into workerlog.0."""
    for part in start.parts:
        size = f", {part.keys:,} keys" if part.kind == "table" and part.taken != "no" else ""
        why = f": {part.why}" if part.why else ""
        log.info("warm start: %s %s: %s%s%s", part.kind, part.name, part.taken, size, why)
    if not any(part.taken != "no" for part in start.parts if part.kind == "dense"):
        log.warning("warm start: no dense parameter is taken (%s)", DENSE)
