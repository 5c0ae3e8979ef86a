"""A pass's checkpoint and the inference models that are due with it: saved, committed, then the old ones are deleted.

At a day's end, in this order: show and click decay and keys are deleted (shrink), the keys touched since the last
inference model are saved, the checkpoint is saved, the models are built from it. Where the shrink takes keys below
embedx_threshold, the servers reload the checkpoint; otherwise they would keep an embedx that the saved text has
dropped. All of it becomes visible with the checkpoint's rename: a restart from this checkpoint finds the day ended, one
from an older checkpoint ends it again.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING

from streamtrain import __version__
from streamtrain.checkpoint.commit import Committer
from streamtrain.checkpoint.journal import Journal, PassRecord
from streamtrain.checkpoint.published import PublishedModels
from streamtrain.checkpoint.runs import Run, refusals
from streamtrain.checkpoint.store import CheckpointStore, seal
from streamtrain.config import JobConfig
from streamtrain.consistency.online import ConsistencyCheck
from streamtrain.contracts import identity
from streamtrain.contracts.identity import JobIdentity
from streamtrain.contracts.inference_models import DueModel
from streamtrain.contracts.manifest import FileEntry, Manifest
from streamtrain.engine.running_save import Saved, SaveRequest
from streamtrain.errors import CheckpointError
from streamtrain.failpoints import failpoint
from streamtrain.kafka.topics import JobTopics
from streamtrain.schedule import PassId
from streamtrain.timings import Timings
from streamtrain.training.background import Background, Stopwatch
from streamtrain.training.exporter import Exported, Exporter, ModelState, SavedTables
from streamtrain.training.position import Position
from streamtrain.training.upkeep import Upkeep
from streamtrain.training.warm_start import WarmStarter

if TYPE_CHECKING:
    from streamtrain.engine.engine import Engine

log = logging.getLogger("streamtrain.saving")

#: Seconds that a checkpoint gets to be committed when the trainer ends with an error.
ABANDON_S = 10.0


@dataclass(frozen=True)
class _Commit:
    """Worker 0's: what commits, on which topics."""

    committer: Committer
    topics: JobTopics
    job: JobIdentity


@dataclass(frozen=True)
class _Pass:
    """A checkpoint that is being made. begin: time.monotonic(). request: worker 0's."""

    begin: float
    timings: Timings
    day_end: bool
    due: list[DueModel]
    request: SaveRequest | None

    def written(self, saved: Saved) -> None:
        failpoint("save.written")
        self.timings.update(saved.timings)

    def ended(self, record: PassRecord) -> PassRecord:
        """The record with the seconds so far."""
        return replace(record, ended=time.time(), checkpoint_seconds=time.monotonic() - self.begin)


@dataclass(frozen=True)
class _Described:
    """Worker 0's. manifest: without files, models and chain. state: of the model."""

    commit: _Commit
    pass_: _Pass
    manifest: Manifest
    directory: Path
    state: ModelState


class Saver:
    """Every worker has one and calls it at the same passes; worker 0's stages, fences and renames. begin() comes first.

    Raises ConfigError when the config's inference models, their URL or the consistency check are not possible.
    """

    def __init__(self, config: JobConfig, engine: Engine, run: Run, journal: Journal, warm: WarmStarter) -> None:
        first = engine.index == 0
        self._config = config
        self._engine = engine
        self._run = run
        self._store = CheckpointStore(run.root, run)
        self._models = PublishedModels(run.root, run)
        self._journal = journal
        self._warm = warm
        self._exporter = Exporter(config, engine, run)
        self._upkeep = Upkeep(config, run) if first else None
        self._consistency = ConsistencyCheck(config, engine, run) if first else None
        self._commit: _Commit | None = None
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._background: Background[Exported] | None = None  # worker 0's

    def begin(self, newest: Manifest | None, topics: JobTopics, committer: Committer | None, job: JobIdentity) -> None:
        """After the restore, on every worker. committer: worker 0's. job: for the next checkpoints.

        newest: the manifest of the checkpoint that was loaded; None: the job starts from nothing.
        """
        if committer is not None:
            self._commit = _Commit(committer, topics, job)
        chain = newest.chain if newest is not None else None
        if chain is not None and self._upkeep is not None and not self._models.can_be_patched(chain, all_members=True):
            log.warning("inference models of the chain so far are missing or damaged: the next one is full")
            chain = None
        self._exporter.chain = chain
        wanted = self._config.runner.save_first_base and self._config.stream.inference_model != "none"
        if newest is None and wanted:
            if self._upkeep is not None:
                self._exporter.publish_first()
                log.info("first base: the inference model of the empty model is published")
            self._engine.barrier()  # nothing is trained before
        if self._upkeep is not None:
            self._upkeep.begin(newest)

    def close(self) -> None:
        """Waits for uploads and for a running comparison. Raises CheckpointError when models could not be uploaded,
        Fenced."""
        try:
            if self._consistency is not None:
                self._consistency.close()
        finally:
            if self._upkeep is not None:
                self._upkeep.close()

    def is_due(self, after: PassId) -> bool:
        """Whether a checkpoint is. An inference model is published with a checkpoint, so a pass with one has both."""
        due = after.pass_id % self._config.runner.checkpoint_per_pass == 0 or self._config.schedule.is_day_end(after)
        return due or bool(self._exporter.due(after))

    def sample_rows(self, trained: PassId, text: Path, *, ins_ids: bool) -> None:
        """The consistency check takes its sample of the pass's rows while they are on disk. Comes after finish()."""
        if self._consistency is not None and self._exporter.due(trained):
            self._consistency.sample(text, ins_ids=ins_ids)

    def poll(self) -> None:
        """Publishes the result of a comparison that has ended."""
        if self._consistency is not None:
            self._consistency.poll()

    def save(self, record: PassRecord, position: Position) -> PassRecord:
        """Saves and commits; returns the record with the seconds that it took, by part.

        Raises Fenced, CheckpointError, KafkaError: the checkpoints before are in place then.
        """
        pass_ = self._prepare(record, position)
        saved = self._engine.state.save(pass_.request)
        pass_.written(saved)
        if pass_.day_end and self._engine.state.forgets_embedx:
            with pass_.timings("paddle_load"):
                self._reload(pass_.request, saved.keys)
        if self._commit is not None and pass_.request is not None:
            record = pass_.ended(record)
            commit = self._described(self._commit, pass_, pass_.request.directory, record, position, saved.keys)
            files = self._seal(commit)
            if pass_.due and self._consistency is not None:
                self._consistency.dump()
            self._start_comparing(self._publish(commit, files, saved))
        self._engine.barrier()
        position.saved = True
        return replace(pass_.ended(record), checkpoint_parts=dict(pass_.timings))

    def overlaps(self, after: PassId) -> bool:
        """Whether the checkpoint after this pass is made by start(): the same on every worker. Servers without worker
        0's disk, and a day's end at which they load the checkpoint again, take save()."""
        config = self._config
        reloads = config.schedule.is_day_end(after) and self._engine.state.forgets_embedx
        return config.stream.fast_paths.save and config.store is None and not reloads

    def start(self, record: PassRecord, position: Position, on_saved: Callable[[PassRecord], None]) -> None:
        """Does what save() does while the next pass is read and predicted, which changes no table, and trained once the
        tables are written: wait_for_tables() comes before that, finish() after it.

        on_saved(record): once it is committed, in another thread. Raises as save().
        """
        pass_ = self._prepare(record, position)
        if self._commit is not None and pass_.request is not None:
            held = Stopwatch()
            running = self._engine.state.start_save(pass_.request)
            if pass_.due and self._consistency is not None:
                self._consistency.dump()
            directory = pass_.request.directory
            commit = self._described(self._commit, pass_, directory, pass_.ended(record), position, running.keys)
            pass_.timings.add("held", time.monotonic() - pass_.begin)

            def complete() -> Exported:
                saved = running.arrange()
                pass_.written(saved)
                files = self._seal(commit)
                metrics = asdict(pass_.ended(record))
                described = replace(commit, manifest=replace(commit.manifest, metrics=metrics))
                exported = self._publish(described, files, saved)
                pass_.timings.add("held", held.seconds)
                on_saved(replace(pass_.ended(record), checkpoint_parts=dict(pass_.timings)))
                return exported

            self._background = Background(running, self._pool.submit(complete), held)
        position.saved = True

    @property
    def is_saving(self) -> bool:
        """Whether start() has begun what finish() has not ended: on worker 0."""
        return self._background is not None

    def wait_for_tables(self) -> None:
        """Before anything is trained. Raises CheckpointError."""
        if self._background is not None:
            self._background.wait_for_tables()

    def look(self) -> None:
        """Ends a save that start() has begun, if it has come to its end. Raises as save()."""
        if self._background is not None and self._background.done:
            self.finish()

    def finish(self) -> None:
        """Waits for what start() has begun. Raises as save()."""
        if self._background is not None:
            background, self._background = self._background, None
            self._start_comparing(background.result())

    def abandon(self) -> None:
        """When the trainer ends with an error: a checkpoint that is nearly there is not lost for it."""
        if self._background is not None and (problem := self._background.give_time(ABANDON_S)):
            log.error("a checkpoint that was being saved is not committed: %s", problem)

    def _prepare(self, record: PassRecord, position: Position) -> _Pass:
        """Up to the save of the tables. All workers come here."""
        begin = time.monotonic()
        timings = Timings()
        day_end = self._config.schedule.is_day_end(record.id)
        self._engine.barrier()
        due = self._models_due(record)
        if day_end:
            with timings("paddle_shrink"):
                self._shrink(position)
        request = None
        if self._commit is not None:
            request = SaveRequest(self._store.stage(record.id), self._exporter.touched(due), day_end)
        return _Pass(begin, timings, day_end, due, request)

    def _described(
        self, commit: _Commit, pass_: _Pass, directory: Path, record: PassRecord, position: Position, keys: int
    ) -> _Described:
        """What is committed: of the position as it is now. directory, keys: of the checkpoint."""
        metrics = {
            "predict_auc": record.predict_auc,
            "train_auc": record.train_auc,
            "labels": {name: asdict(label) for name, label in record.labels.items()},
        }
        state = ModelState(position.rows, position.shrinks, position.deletions, position.event_time, metrics)
        manifest = self._manifest(commit.topics, record, position, keys)
        return _Described(commit, pass_, manifest, directory, state)

    def _models_due(self, record: PassRecord) -> list[DueModel]:
        """No model for a pass that the gate withholds: serving keeps the model that it has."""
        due = self._exporter.due(record.id)
        if due and record.withheld:
            log.error("pass %s: its inference model is WITHHELD: %s", record.id, record.withheld)
            return []
        return due

    def _shrink(self, position: Position) -> None:
        position.deletions += self._engine.state.shrink()
        position.shrinks += 1
        if self._commit is not None:  # the others have nothing to do until it is saved
            failpoint("day.shrunk")

    def _reload(self, request: SaveRequest | None, saved_keys: int) -> None:
        """The servers load what was just saved."""
        scratch = self._run.empty("again") if request is not None else None
        keys = self._engine.state.load(request.directory if request is not None else Path(), scratch)
        if request is not None and keys != saved_keys:
            raise CheckpointError(f"{keys} keys were loaded again, {saved_keys} were saved")

    def _seal(self, saved: _Described) -> tuple[FileEntry, ...]:
        """The checkpoint's files; worker 0's."""
        directory = saved.directory
        with saved.pass_.timings("sealed"):
            with refusals(directory, "cannot be written"):
                (directory / identity.NAME).write_bytes(saved.commit.job.encode())
            self._warm.add_to(directory)
            return seal(directory)

    def _publish(self, described: _Described, files: tuple[FileEntry, ...], saved: Saved) -> Exported:
        """Worker 0's part, on sealed files; needs nothing of the servers."""
        pass_, manifest = described.pass_, described.manifest
        tables = SavedTables(manifest.id, described.directory, saved.touched, described.state)
        exported = self._exporter.build(pass_.due, tables, pass_.timings)
        with pass_.timings("committed"):
            self._journal.sync()
            manifest = replace(manifest, files=files, models=tuple(exported.models), chain=exported.chain)
            described.commit.committer.publish(described.directory, manifest, exported.models)
        self._exporter.chain = exported.chain
        if self._upkeep is not None:
            self._upkeep.run(tables.id)
        for model in exported.models:
            log.info("pass %s: inference model %s published", tables.id, self._models.path(model))
        parts = ", ".join(f"{part} {seconds:.2f}" for part, seconds in pass_.timings.items())
        log.info("pass %s: checkpoint saved, %.1f s (%s)", tables.id, time.monotonic() - pass_.begin, parts)
        return exported

    def _start_comparing(self, exported: Exported) -> None:
        if self._consistency is not None and exported.models:
            self._consistency.start(list(exported.models)[-1])

    def _manifest(self, topics: JobTopics, record: PassRecord, position: Position, keys: int) -> Manifest:
        """Without files, models and chain."""
        return Manifest(
            job=self._config.stream.job,
            day=record.day,
            pass_id=record.pass_id,
            marker_offset=position.marker_offset,
            offsets={str(p): o for p, o in sorted((position.offsets or {}).items())},
            samples_topic_id=topics.samples_topic_id,
            splits_topic_id=topics.splits_topic_id,
            cluster_id=topics.cluster_id,
            partitions=topics.partitions,
            rows=position.rows,
            keys=keys,
            metrics=asdict(record),
            config_sha256=self._config.sha256,
            program=f"streamtrain {__version__}",
            created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
            files=(),
            shrinks=position.shrinks,
            deletions=position.deletions,
            late_rows=position.late_rows,
            untrained=position.untrained,
            event_time=position.event_time,
        )
