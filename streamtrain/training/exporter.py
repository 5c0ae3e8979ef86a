"""Builds the inference models that are due after a pass, from the checkpoint that is saved with them.

A full model has the checkpoint's keys, an incremental one the keys of Paddle's delta; both have the checkpoint's dense
parameters. So the only saving of their own is the delta's, and they are of the very state that a restart loads.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from streamtrain import __version__
from streamtrain.checkpoint import table_files
from streamtrain.checkpoint.published import PublishedModels
from streamtrain.checkpoint.runs import Run, refusals
from streamtrain.checkpoint.store import put_manifest, seal
from streamtrain.config import JobConfig
from streamtrain.contracts.feature_text import U64
from streamtrain.contracts.inference_models import DELETED, DueModel, Feed, ModelManifest, due_models
from streamtrain.contracts.manifest import ModelChain, ModelRef
from streamtrain.contracts.table_text import SHARD, Thresholds
from streamtrain.errors import CheckpointError
from streamtrain.failpoints import failpoint
from streamtrain.schedule import PassId
from streamtrain.timings import Timings

if TYPE_CHECKING:
    from streamtrain.engine.engine import Engine
    from streamtrain.engine.serving_network import ServingNetwork

log = logging.getLogger("streamtrain.exporter")


@dataclass(frozen=True)
class ModelState:
    """What a manifest records of the exported model; the fields are those of contracts.manifest.Manifest."""

    rows: int = 0
    shrinks: int = 0
    deletions: int = 0
    event_time: str = ""
    metrics: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class SavedTables:
    """A pass's tables, saved and not published yet.

    checkpoint: the staged directory. touched: directory of Paddle's part files of the keys that were touched since the
    last inference model; None when no incremental model needs them.
    """

    id: PassId
    checkpoint: Path
    touched: Path | None
    state: ModelState

    @property
    def parts(self) -> list[Path]:
        """Paddle's part files with all keys."""
        return sorted((self.checkpoint / SHARD).glob("part-*.txt"))


@dataclass(frozen=True)
class ExportJob:
    """One inference model to be staged.

    parts: Paddle's part files with the model's keys. tables: where its dense parameters are saved; None: nothing is
    saved yet, and those of the servers are taken. patches: the chain that an incremental model patches; None for a full
    model. deleted: keys that are no longer in the model, [m].
    """

    model: DueModel
    state: ModelState = field(default_factory=ModelState)
    parts: Sequence[Path] = ()
    tables: SavedTables | None = None
    patches: ModelChain | None = None
    deleted: U64 = field(default_factory=lambda: np.zeros(0, np.uint64))

    def chain_with(self, ref: ModelRef) -> ModelChain:
        """What the next incremental model patches once this one, `ref`, is published."""
        base = self.patches.base if self.patches is not None else ref
        return ModelChain(base, ref, self.state.shrinks, self.state.deletions)


@dataclass(frozen=True)
class Exported:
    """Models that are staged and sealed, and the chain as it is once they are published."""

    models: dict[ModelRef, Path]
    chain: ModelChain | None


class Exporter:
    """A worker's part in exporting; only worker 0 stages. `chain` is what the next incremental model patches.

    Raises ConfigError for a model or thresholds that inference models cannot be built from.
    """

    def __init__(self, config: JobConfig, engine: Engine, run: Run) -> None:
        self._config = config
        self._engine = engine
        self._run = run
        self._models = PublishedModels(run.root, run)
        self._first = engine.index == 0
        self._network: ServingNetwork | None = None
        if config.stream.inference_model != "none":
            self._network = engine.serving_network()
        self.chain: ModelChain | None = None

    def due(self, after: PassId) -> list[DueModel]:
        """The models to be published with the checkpoint of pass `after`; the same on every worker."""
        runner, schedule = self._config.runner, self._config.schedule
        mode = self._config.stream.inference_model
        return due_models(mode, runner.save_delta_frequency, after, schedule, has_base=self.chain is not None)

    def save_touched(self, due: Sequence[DueModel]) -> Path | None:
        """Every worker calls it before the checkpoint is saved: the keys touched since the last model are saved,
        and count as untouched in the checkpoint. Worker 0 gets the directory of their part files."""
        mode, frequency = self._config.stream.inference_model, self._config.runner.save_delta_frequency
        if not due or mode == "full" or (mode == "both" and not frequency):
            return None  # no incremental model will need them
        return self._engine.save_touched(self._run.empty("touched") if self._first else None)

    def build(self, due: Sequence[DueModel], tables: SavedTables, timings: Timings) -> Exported:
        """Worker 0 stages the models. timings: gets export_full, export_incremental. Raises CheckpointError."""
        models: dict[ModelRef, Path] = {}
        chain = self.chain
        for model in due:
            begin = time.monotonic()
            job = self._job(model, chain, tables)
            ref, path = self._stage(job)
            models[ref] = path
            chain = job.chain_with(ref)
            timings.add(f"export_{job.model.kind}", time.monotonic() - begin)
        return Exported(models, chain)

    def publish_first(self) -> None:
        """save_first_base: the empty model, as a full one for the first day's start. Worker 0 calls it."""
        job = ExportJob(DueModel(PassId(self._config.schedule.pass_at(0).day, 0), "full"))
        ref, path = self._stage(job)
        self._models.publish(path, ref)
        self._models.list_in_donefiles([ref])
        self.chain = job.chain_with(ref)

    def _job(self, model: DueModel, chain: ModelChain | None, tables: SavedTables) -> ExportJob:
        """How the model is built. An incremental one becomes full when the models that it would patch are missing."""
        parts = tables.parts
        if model.kind == "full":
            return ExportJob(model, tables.state, parts, tables)
        change = self._change(chain, parts, tables)
        if change is None:
            log.warning("the inference model of %s is full: the models that it would patch are missing", model.id)
            return ExportJob(replace(model, kind="full"), tables.state, parts, tables)
        changed, deleted = change
        return ExportJob(model, tables.state, changed, tables, chain, deleted)

    def _stage(self, job: ExportJob) -> tuple[ModelRef, Path]:
        """Writes the model into a directory of this run, and seals it."""
        path = self._run.empty(f"model-{job.model.id.day}-{job.model.id.pass_id}")
        network = self._write_network(path, job)
        with refusals(path, "cannot be written"):
            keys = self._write_sparse(path / "sparse", job)
            if job.deleted.size:
                (path / DELETED).write_bytes(b"".join(b"%d\n" % key for key in job.deleted.tolist()))
        files = seal(path)
        digest = put_manifest(path, replace(self._manifest(job, network, keys), files=files))
        failpoint("export.staged")
        return ModelRef(job.model.id.day, job.model.id.pass_id, digest), path

    def _write_network(self, path: Path, job: ExportJob) -> ServingNetwork:
        network = self._network
        assert network is not None
        if job.tables is not None:
            self._engine.write_network(network, path, job.tables.checkpoint)
        else:
            self._engine.write_first_network(network, path)
        return network

    def _manifest(self, job: ExportJob, network: ServingNetwork, keys: int) -> ModelManifest:
        """Without its files."""
        thresholds = self._thresholds()
        return ModelManifest(
            job=self._config.stream.job,
            day=job.model.id.day,
            pass_id=job.model.id.pass_id,
            kind=job.model.kind,
            base=job.patches.base if job.patches is not None else None,
            previous=job.patches.previous if job.patches is not None else None,
            checkpoint=job.tables.id if job.tables is not None else None,
            keys=keys,
            deleted=len(job.deleted),
            width=self._engine.table.columns.embedx_dim + 1,
            feeds=tuple(Feed(slot, variable) for slot, variable in network.feeds),
            target=network.target,
            variables=network.variables,
            dense=network.parameters,
            thresholds=asdict(thresholds) if thresholds is not None else None,
            rows=job.state.rows,
            event_time=job.state.event_time,
            metrics=job.state.metrics,
            created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
            program=f"streamtrain {__version__}",
            config_sha256=self._config.sha256,
            files=(),
        )

    def _write_sparse(self, directory: Path, job: ExportJob) -> int:
        """sparse/: a file for each of the job's parts, one for all of an incremental model's. Returns the number of
        keys."""
        directory.mkdir()
        columns, thresholds = self._engine.table.columns, self._thresholds()
        counts: dict[Path, int] = {}
        for number, part in enumerate(job.parts):
            target = directory / f"part-{0 if job.patches is not None else number:05d}.txt"
            counts[target] = counts.get(target, 0) + table_files.write_short(part, target, columns, thresholds)
        for target, count in counts.items():
            table_files.write_meta(target, columns.embedx_dim, count)
        return sum(counts.values())

    def _thresholds(self) -> Thresholds | None:
        """None: all keys are exported."""
        if self._config.stream.inference_keys == "touched":
            return None
        configured = self._engine.table.thresholds
        return Thresholds(**{f.name: float(configured[f.name]) for f in fields(Thresholds)})

    def _change(
        self, chain: ModelChain | None, parts: list[Path], tables: SavedTables
    ) -> tuple[list[Path], U64] | None:
        """What an incremental model changes in the chain: part files of the changed keys, and the deleted keys.

        None when that cannot be known, since models of the chain are missing.
        """
        if chain is None or tables.touched is None or not self._models.can_be_patched(chain):
            return None
        try:
            deleted = self._deleted(chain, parts, tables.state)
            without_embedx = self._untouched_with_embedx(chain, tables.touched, tables.state)
        except (CheckpointError, OSError, ValueError) as error:
            log.error("%s", error)
            return None
        changed = sorted(tables.touched.glob("part-*"))
        return [*changed, *self._write_forgotten(parts, without_embedx)], deleted

    def _deleted(self, chain: ModelChain, parts: list[Path], state: ModelState) -> U64:
        """Keys that the chain's models have and the checkpoint's `parts` lack.

        The models are read only when keys were deleted since the last of them.
        """
        known = np.zeros(0, np.uint64)
        if chain.deletions == state.deletions:
            return known
        for model in self._models.members(chain):
            deleted = self._models.path(model) / DELETED
            if deleted.exists():
                known = np.setdiff1d(known, table_files.keys_of(deleted))
            known = np.union1d(known, _all_keys(sorted(deleted.parent.glob("part-*.txt"))))
        return np.setdiff1d(known, _all_keys(parts))

    def _untouched_with_embedx(self, chain: ModelChain, touched: Path, state: ModelState) -> set[bytes]:
        """Keys that are published with an embedx and were not touched since: a shrink may have taken them below
        embedx_threshold, so that they have none any more. Empty where that is impossible."""
        keys: set[bytes] = set()
        if chain.shrinks == state.shrinks or not self._engine.table.forgets_embedx:
            return keys
        for model in self._models.members(chain):
            for part in sorted((self._models.path(model) / DELETED).parent.glob("part-*.txt")):
                table_files.follow_embedx(part, keys)
        for part in touched.glob("part-*"):
            keys.difference_update(b"%d" % key for key in table_files.keys_of(part).tolist())
        return keys

    def _write_forgotten(self, parts: list[Path], keys: set[bytes]) -> list[Path]:
        """A part file of those keys that have no embedx in the checkpoint's `parts`; no file when there are no keys."""
        if not keys:
            return []
        path = self._run.empty("forgotten") / "part-0"
        with refusals(path, "cannot be written"), path.open("wb") as out:
            for part in parts:
                out.write(table_files.without_embedx(part, self._engine.table.columns, keys))
        return [path]


def _all_keys(parts: list[Path]) -> U64:
    return np.concatenate([np.zeros(0, np.uint64), *map(table_files.keys_of, parts)])
