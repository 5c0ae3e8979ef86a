"""Builds the inference models that are due after a pass, from the checkpoint that is saved with them.

A full model has the checkpoint's keys, an incremental one the keys of Paddle's delta; both have the checkpoint's dense
parameters. So the only saving of their own is the delta's, and they are of the very state that a restart loads.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

from streamtrain import __version__
from streamtrain.checkpoint.published import PublishedModels
from streamtrain.checkpoint.runs import Run, refusals
from streamtrain.checkpoint.store import put_manifest, seal
from streamtrain.config import JobConfig
from streamtrain.contracts.inference_models import DueModel, Feed, ModelManifest, TableKeys, due_models
from streamtrain.contracts.manifest import ModelChain, ModelRef
from streamtrain.contracts.network_manifest import AnyManifest, NetworkManifest, TableEntry
from streamtrain.errors import CheckpointError
from streamtrain.failpoints import failpoint
from streamtrain.schedule import PassId
from streamtrain.timings import Timings
from streamtrain.training.table_export import Shrinks, TableContent, TableExport

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

    checkpoint: the staged directory. touched: by table, the directory of Paddle's part files of the keys that were
    touched since the last inference model; None when no incremental model needs them.
    """

    id: PassId
    checkpoint: Path
    touched: Mapping[str, Path] | None
    state: ModelState


@dataclass(frozen=True)
class ExportJob:
    """One inference model to be staged.

    content: by table, what the model has of it; nothing of a table that is not there. tables: where its dense
    parameters are saved; None: nothing is saved yet, and those of the servers are taken. patches: the chain that an
    incremental model patches; None for a full model.
    """

    model: DueModel
    state: ModelState = field(default_factory=ModelState)
    content: Mapping[str, TableContent] = field(default_factory=dict)
    tables: SavedTables | None = None
    patches: ModelChain | None = None

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
        self._tables: list[TableExport] = []
        if config.stream.inference_model != "none":
            self._network = engine.serving_network()
            shapes = self._network.served.tables
            touched = config.stream.inference_keys == "touched"
            self._tables = [
                TableExport(table, shapes[table.name], len(shapes), self._models, run, touched=touched)
                for table in engine.state.formats
                if table.name in shapes  # another one serves no prediction
            ]
        self.chain: ModelChain | None = None

    def due(self, after: PassId) -> list[DueModel]:
        """The models to be published with the checkpoint of pass `after`; the same on every worker."""
        runner, schedule = self._config.runner, self._config.schedule
        mode = self._config.stream.inference_model
        return due_models(mode, runner.save_delta_frequency, after, schedule, has_base=self.chain is not None)

    def touched(self, due: Sequence[DueModel]) -> Path | None:
        """Worker 0's: an empty directory, where the keys touched since the last model are to be saved ahead of the
        checkpoint's tables, in which they count as untouched; None: no incremental model will need them."""
        mode, frequency = self._config.stream.inference_model, self._config.runner.save_delta_frequency
        if not due or mode == "full" or (mode == "both" and not frequency):
            return None
        return self._run.empty("touched")

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
        """How the model is built. An incremental one becomes full when the models that it would patch are missing, or
        the tables have changed at all of their keys."""
        if model.kind == "incremental" and chain is not None:
            now = Shrinks(chain, tables.state.shrinks, tables.state.deletions)
            changed_all = [table.name for table in self._tables if now.any and table.changes_with_a_shrink]
            if changed_all:
                # Their embeddings begin with show and click, which a day's end decays for every key: a model with all
                # of them is a full one, and the chain is shorter for it.
                log.info(
                    "the inference model of %s is full: the day's end has changed show in %s", model.id, changed_all[0]
                )
            elif (changed := self._changed(chain, now, tables)) is not None:
                return ExportJob(model, tables.state, changed, tables, chain)
            else:
                log.warning("the inference model of %s is full: the models that it would patch are missing", model.id)
        every = {table.name: table.all_of(tables.checkpoint) for table in self._tables}
        return ExportJob(replace(model, kind="full"), tables.state, every, tables)

    def _changed(self, chain: ModelChain, now: Shrinks, tables: SavedTables) -> dict[str, TableContent] | None:
        """What an incremental model changes in the chain; None when that cannot be known, since models of the chain are
        missing."""
        if tables.touched is None or not self._models.can_be_patched(chain):
            return None
        try:
            return {
                table.name: table.changed(chain, now, tables.checkpoint, tables.touched[table.name])
                for table in self._tables
            }
        except (CheckpointError, OSError, ValueError) as error:
            log.error("%s", error)
            return None

    def _stage(self, job: ExportJob) -> tuple[ModelRef, Path]:
        """Writes the model into a directory of this run, and seals it."""
        path = self._run.empty(f"model-{job.model.id.day}-{job.model.id.pass_id}")
        network = self._write_network(path, job)
        with refusals(path, "cannot be written"):
            full = job.patches is None
            keys = {
                table.name: table.write(path, job.content.get(table.name, TableContent()), full=full)
                for table in self._tables
            }
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

    def _manifest(self, job: ExportJob, network: ServingNetwork, keys: Mapping[str, TableKeys]) -> AnyManifest:
        """Without its files. keys: by table."""
        common: dict[str, Any] = {
            "job": self._config.stream.job,
            "day": job.model.id.day,
            "pass_id": job.model.id.pass_id,
            "kind": job.model.kind,
            "base": job.patches.base if job.patches is not None else None,
            "previous": job.patches.previous if job.patches is not None else None,
            "checkpoint": job.tables.id if job.tables is not None else None,
            "keys": sum(each.keys for each in keys.values()),
            "deleted": sum(each.deleted for each in keys.values()),
            "variables": network.variables,
            "dense": network.parameters,
            "rows": job.state.rows,
            "event_time": job.state.event_time,
            "metrics": job.state.metrics,
            "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            "program": f"streamtrain {__version__}",
            "config_sha256": self._config.sha256,
            "files": (),
        }
        thresholds = {
            table.name: asdict(table.thresholds) if table.thresholds is not None else None for table in self._tables
        }
        served = network.served
        if network.is_usual:
            ((name, shape),) = served.tables.items()
            return ModelManifest(
                **common,
                width=shape.width,
                feeds=tuple(Feed(feed.slot, feed.variable) for feed in served.slots),
                target=served.targets[0].variable,
                thresholds=thresholds[name],
            )
        return NetworkManifest(
            **common,
            feeds=served.slots,
            dense_feeds=served.dense,
            constants=served.constants,
            tables={
                name: TableEntry(
                    keys[name].keys,
                    keys[name].deleted,
                    width=shape.width,
                    pulls=shape.pulls,
                    thresholds=thresholds[name],
                )
                for name, shape in served.tables.items()
            },
            targets=served.targets,
        )
