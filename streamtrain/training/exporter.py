"""Makes the inference models that are due after a pass, out of the checkpoint that is saved with them.

A full one is the checkpoint's keys, an incremental one those that Paddle's delta has; both with the checkpoint's
dense parameters. So they cost no saving of their own but the delta's, and are of the very state that a restart
loads.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from streamtrain import __version__
from streamtrain.checkpoint import sparsetext
from streamtrain.checkpoint.published import PublishedModels
from streamtrain.checkpoint.runs import Run, refusals
from streamtrain.checkpoint.sparsetext import TextColumns, Thresholds
from streamtrain.checkpoint.store import put_manifest, seal
from streamtrain.config import JobConfig
from streamtrain.contracts.inference_models import DueModel, ModelManifest, due_models
from streamtrain.contracts.manifest import ModelChain, ModelRef
from streamtrain.engine.tables import SHARD
from streamtrain.errors import CheckpointError
from streamtrain.failpoints import failpoint
from streamtrain.schedule import PassId

if TYPE_CHECKING:
    from streamtrain.engine.engine import Engine
    from streamtrain.engine.serving_network import ServingNetwork

log = logging.getLogger("streamtrain.exporter")


@dataclass(frozen=True)
class State:
    """What a manifest says of the model that is exported: see Manifest for the words."""

    rows: int = 0
    shrinks: int = 0
    deletions: int = 0
    event_time: str = ""
    metrics: dict[str, Any] = field(default_factory=dict)


@dataclass
class Exported:
    """Models that are staged and sealed, and the chain as it is once they are published. seconds: by part."""

    models: dict[ModelRef, Path]
    chain: ModelChain | None
    seconds: dict[str, float]


class Exporter:
    """A worker's part in exporting; only worker 0 stages. `chain` is what the next incremental model patches.

    Raises ConfigError for a model or thresholds that inference models cannot be made of.
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

    def due(self, of: PassId) -> list[DueModel]:
        """The models to be published with the checkpoint of pass `of`; the same on every worker."""
        runner, schedule = self._config.runner, self._config.schedule
        mode = self._config.stream.inference_model
        return due_models(mode, runner.save_delta_frequency, of, schedule, has_base=self.chain is not None)

    def take_touched(self, due: Sequence[DueModel]) -> Path | None:
        """Every worker calls it before the checkpoint is saved: the keys touched since the last model are saved
        and count as untouched in the checkpoint. Worker 0 gets the folder of their part files."""
        mode, frequency = self._config.stream.inference_model, self._config.runner.save_delta_frequency
        if not due or mode == "full" or (mode == "both" and not frequency):
            return None  # no incremental one will ask what was touched
        return self._engine.save_touched(self._run.empty("touched") if self._first else None)

    def build(
        self, due: Sequence[DueModel], checkpoint: Path, touched: Path | None, of: PassId, state: State
    ) -> Exported:
        """Worker 0 stages the models after `checkpoint` is saved (staged, not published). Raises CheckpointError."""
        models: dict[ModelRef, Path] = {}
        chain, seconds = self.chain, {}
        for item in due:
            begin = time.monotonic()
            parts = sorted((checkpoint / SHARD).glob("part-*.txt"))
            deleted = None
            if item.kind == "incremental":
                change = self._change(chain, parts, touched, state)
                if change is None:
                    item = replace(item, kind="full")
                    log.warning("the inference model of %s is full: those that it would patch are not there", item.of)
                else:
                    parts, deleted = change
            incremental = item.kind == "incremental"
            ref, path = self._stage(item, parts, checkpoint, of, chain, deleted, state)
            models[ref] = path
            base = chain.base if chain is not None and incremental else ref
            chain = ModelChain(base, ref, state.shrinks, state.deletions)
            seconds[f"export_{item.kind}"] = time.monotonic() - begin
        return Exported(models, chain, seconds)

    def publish_first(self) -> None:
        """save_first_base: the empty model, as a full one for the first day's start. Worker 0 calls it."""
        day = self._config.schedule.pass_at(0).day
        item = DueModel(PassId(day, 0), "full")
        ref, path = self._stage(item, [], None, None, None, None, State())
        self._models.publish(path, ref)
        self._models.list_in_donefiles([ref])
        self.chain = ModelChain(ref, ref, 0, 0)

    def _stage(
        self,
        item: DueModel,
        parts: list[Path],
        checkpoint: Path | None,
        of: PassId | None,
        chain: ModelChain | None,
        deleted: npt.NDArray[np.uint64] | None,
        state: State,
    ) -> tuple[ModelRef, Path]:
        network, engine = self._network, self._engine
        assert network is not None
        path = self._run.empty(f"model-{item.of.day}-{item.of.pass_id}")
        if checkpoint is not None:
            engine.write_network(network, path, checkpoint)
        else:
            engine.write_first_network(network, path)
        incremental = item.kind == "incremental"
        with refusals(path, "cannot be written"):
            keys = self._write_sparse(path / "sparse", parts, merged=incremental)
            if deleted is not None and len(deleted):
                (path / "sparse" / "deleted.txt").write_bytes(b"".join(b"%d\n" % key for key in deleted.tolist()))
        manifest = ModelManifest(
            job=self._config.stream.job,
            day=item.of.day,
            pass_id=item.of.pass_id,
            kind=item.kind,
            base=chain.base if chain is not None and incremental else None,
            previous=chain.previous if chain is not None and incremental else None,
            checkpoint={"day": of.day, "pass_id": of.pass_id} if of is not None else None,
            keys=keys,
            deleted=len(deleted) if deleted is not None else 0,
            width=engine.table.embedx_dim + 1,
            feeds=tuple({"slot": slot, "variable": name} for slot, name in network.feeds),
            target=network.target,
            variables=network.variables,
            dense=network.parameters,
            thresholds=self._thresholds_said(),
            rows=state.rows,
            event_time=state.event_time,
            metrics=state.metrics,
            created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
            program=f"streamtrain {__version__}",
            config_sha256=self._config.sha256,
        )
        files = seal(path)
        digest = put_manifest(path, replace(manifest, files=files))
        failpoint("export.staged")
        return ModelRef(item.of.day, item.of.pass_id, digest), path

    def _write_sparse(self, directory: Path, parts: list[Path], *, merged: bool) -> int:
        """sparse/: a file for each of `parts`, or one for all. Returns the number of keys."""
        directory.mkdir()
        text = self._text_columns()
        thresholds = self._thresholds()
        counts: dict[Path, int] = {}
        for number, part in enumerate(parts):
            target = directory / f"part-{0 if merged else number:05d}.txt"
            counts[target] = counts.get(target, 0) + sparsetext.write_short(part, target, text, thresholds)
        for target, count in counts.items():
            sparsetext.write_meta(target, text.embedx_dim, count)
        return sum(counts.values())

    def _text_columns(self) -> TextColumns:
        table = self._engine.table
        return TextColumns(table.embedx_dim, len(table.embed_state), len(table.embedx_state))

    def _thresholds(self) -> Thresholds | None:
        """None when all keys go: then nothing is looked at."""
        if self._config.stream.inference_keys == "touched":
            return None
        said = self._engine.table.thresholds
        defaults = {"nonclk_coeff": 0.1, "click_coeff": 1.0, "base_threshold": 1.5, "delta_threshold": 0.25,
                    "delta_keep_days": 16.0}  # fmt: skip
        return Thresholds(**{k: float(said.get(k, d)) for k, d in defaults.items()})

    def _thresholds_said(self) -> dict[str, float] | None:
        found = self._thresholds()
        return None if found is None else dict(vars(found))

    def _change(
        self, chain: ModelChain | None, parts: list[Path], touched: Path | None, state: State
    ) -> tuple[list[Path], npt.NDArray[np.uint64]] | None:
        """What an incremental model is over the chain: files of the keys that are other, and the keys that are gone.
        None when that cannot be known, since models of the chain are not there."""
        if chain is None or touched is None or not self._models.can_be_patched(chain):
            return None
        try:
            deleted = self._deleted(chain, parts, state)
            forgotten = self._forgotten(chain, touched, state)
        except (CheckpointError, OSError, ValueError) as error:
            log.error("%s", error)
            return None
        changed = sorted(touched.glob("part-*"))
        return [*changed, *self._write_forgotten(parts, forgotten)], deleted

    def _deleted(self, chain: ModelChain, parts: list[Path], state: State) -> npt.NDArray[np.uint64]:
        """Keys that the models since the base have and the checkpoint's `parts` have not.

        The models are read only when keys were deleted since the last of them.
        """
        known = np.zeros(0, np.uint64)
        if chain.deletions == state.deletions:
            return known
        for model in self._models.members(chain):
            sparse = self._models.path(model) / "sparse"
            if (sparse / "deleted.txt").exists():
                known = np.setdiff1d(known, sparsetext.keys_of(sparse / "deleted.txt"))
            known = np.union1d(known, _all_keys(sorted(sparse.glob("part-*.txt"))))
        return np.setdiff1d(known, _all_keys(parts))

    def _forgotten(self, chain: ModelChain, touched: Path, state: State) -> set[bytes]:
        """Keys that are published with an embedx and that nobody has touched since: those of them that a shrink has
        taken below embedx_threshold have none any more. None where that cannot be."""
        with_embedx: set[bytes] = set()
        if chain.shrinks == state.shrinks or not self._engine.table.forgets_embedx:
            return with_embedx
        for model in self._models.members(chain):
            for part in sorted((self._models.path(model) / "sparse").glob("part-*.txt")):
                sparsetext.follow_embedx(part, with_embedx)
        for part in touched.glob("part-*"):
            with_embedx.difference_update(b"%d" % key for key in sparsetext.keys_of(part).tolist())
        return with_embedx

    def _write_forgotten(self, parts: list[Path], keys: set[bytes]) -> list[Path]:
        """A file of those keys that have no embedx in the checkpoint's `parts`; none when there are no keys."""
        if not keys:
            return []
        found = self._run.empty("forgotten") / "part-0"
        with refusals(found, "cannot be written"), found.open("wb") as out:
            for part in parts:
                out.write(sparsetext.without_embedx(part, self._text_columns(), keys))
        return [found]


def _all_keys(parts: list[Path]) -> npt.NDArray[np.uint64]:
    return np.concatenate([np.zeros(0, np.uint64), *map(sparsetext.keys_of, parts)])
