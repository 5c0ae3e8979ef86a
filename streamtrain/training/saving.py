"""A pass's checkpoint and the inference models that are due with it: saved, committed, looked after.

At a day's end, in this order: show and click decay and keys are deleted (shrink), the keys touched since the last
inference model are taken, the checkpoint is saved, the models are made out of it. Where the shrink takes keys below
embedx_threshold, the servers load the checkpoint again: they would go on with an embedx that it has not. All of it
becomes visible with the checkpoint's rename, so a restart from this checkpoint finds the day ended, one from an older
checkpoint ends it again.
"""

from __future__ import annotations

import logging
import time
from dataclasses import asdict, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING

from streamtrain import __version__
from streamtrain.checkpoint.commit import Committer
from streamtrain.checkpoint.journal import Journal, PassRecord
from streamtrain.checkpoint.published import PublishedModels
from streamtrain.checkpoint.runs import Run
from streamtrain.checkpoint.store import CheckpointStore, seal
from streamtrain.config import JobConfig
from streamtrain.consistency.online import ConsistencyCheck
from streamtrain.contracts.inference_models import DueModel
from streamtrain.contracts.manifest import FileEntry, Manifest
from streamtrain.errors import CheckpointError
from streamtrain.failpoints import failpoint
from streamtrain.kafka.topics import JobTopics
from streamtrain.schedule import PassId
from streamtrain.training.exporter import Exported, Exporter, State
from streamtrain.training.position import Progress
from streamtrain.training.upkeep import Upkeep

if TYPE_CHECKING:
    from streamtrain.engine.engine import Engine

log = logging.getLogger("streamtrain.saving")


class Saver:
    """Every worker has one and calls it at the same passes; worker 0's stages, fences and renames.

    Raises ConfigError for what inference models, their URL or the consistency check cannot work with.
    """

    def __init__(self, config: JobConfig, engine: Engine, run: Run, journal: Journal) -> None:
        first = engine.index == 0
        self._config = config
        self._engine = engine
        self._run = run
        self._store = CheckpointStore(run.root, run)
        self._models = PublishedModels(run.root, run)
        self._journal = journal
        self._exporter = Exporter(config, engine, run)
        self._upkeep = Upkeep(config, run) if first else None
        self._consistency = ConsistencyCheck(config, engine, run) if first else None

    def begin(self, newest: Manifest | None) -> None:
        """After the restore, on every worker. newest: of the checkpoint that was loaded; None: from nothing."""
        chain = newest.chain if newest is not None else None
        if chain is not None and self._upkeep is not None and not self._models.can_be_patched(chain, all_members=True):
            log.warning("the inference models so far are not whole: the next one is full")
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
        """Waits for uploads and for a comparison that is under way. Raises CheckpointError when models could not be
        uploaded, Fenced."""
        try:
            if self._consistency is not None:
                self._consistency.close()
        finally:
            if self._upkeep is not None:
                self._upkeep.close()

    def is_due(self, of: PassId) -> bool:
        """An inference model is published together with a checkpoint, so a pass with one has the other."""
        due = of.pass_id % self._config.runner.checkpoint_per_pass == 0 or self._config.schedule.is_day_end(of)
        return due or bool(self._exporter.due(of))

    def look_at_rows(self, of: PassId, text: Path, *, ins_ids: bool) -> None:
        """The consistency check takes its sample of the pass's rows while they are on disk."""
        if self._consistency is not None and self._exporter.due(of):
            self._consistency.sample(text, ins_ids=ins_ids)

    def poll(self) -> None:
        """Publishes what a comparison has found."""
        if self._consistency is not None:
            self._consistency.poll()

    def save(
        self, committer: Committer | None, topics: JobTopics, record: PassRecord, progress: Progress
    ) -> PassRecord:
        """Saves and commits; returns the record with the seconds that it took, by part. committer: worker 0's.

        Raises Fenced, CheckpointError: what was there before stands then.
        """
        begin = time.monotonic()
        self._engine.barrier()
        due = self._models_due(record)
        parts: dict[str, float] = {}
        if self._config.schedule.is_day_end(record.of):
            self._shrink(progress)
            parts["paddle_shrink"] = time.monotonic() - begin
        taking = time.monotonic()
        touched = self._exporter.take_touched(due)
        if due:
            parts["paddle_touched"] = time.monotonic() - taking
        staged = self._store.stage(record.of) if committer is not None else None
        saved = self._engine.save(staged)
        failpoint("save.written")
        parts |= saved.seconds
        if self._config.schedule.is_day_end(record.of) and self._engine.table.forgets_embedx:
            again = time.monotonic()
            scratch = self._run.empty("again") if committer is not None else None
            keys = self._engine.load(staged or Path(), scratch)
            if committer is not None and keys != saved.keys:
                raise CheckpointError(f"{keys} keys were loaded again, {saved.keys} were saved")
            parts["paddle_load"] = time.monotonic() - again
        if committer is not None and staged is not None:
            record = replace(record, ended=time.time(), checkpoint_seconds=time.monotonic() - begin)
            parts |= self._publish(committer, topics, record, progress, due, staged, touched, saved.keys)
            said = ", ".join(f"{name} {seconds:.2f}" for name, seconds in parts.items())
            log.info("pass %s: checkpoint saved, %.1f s (%s)", record.of, time.monotonic() - begin, said)
        self._engine.barrier()
        progress.saved = True
        return replace(record, checkpoint_seconds=time.monotonic() - begin, checkpoint_parts=parts)

    def _models_due(self, record: PassRecord) -> list[DueModel]:
        """None for a pass that the gate holds back: serving keeps the model that it has."""
        due = self._exporter.due(record.of)
        if due and record.withheld:
            log.error("pass %s: its inference model is WITHHELD: %s", record.of, record.withheld)
            return []
        return due

    def _shrink(self, progress: Progress) -> None:
        scratch = self._run.empty("shrink") if self._upkeep is not None else None
        progress.deletions += self._engine.shrink(scratch)
        progress.shrinks += 1
        failpoint("day.shrunk")

    def _publish(
        self,
        committer: Committer,
        topics: JobTopics,
        record: PassRecord,
        progress: Progress,
        due: list[DueModel],
        staged: Path,
        touched: Path | None,
        keys: int,
    ) -> dict[str, float]:
        """Worker 0's part, with the tables saved in `staged`. Returns seconds by part."""
        laps = [time.monotonic()]
        files = seal(staged)
        laps.append(time.monotonic())
        if due and self._consistency is not None:
            self._consistency.dump()
        metrics = {"predict_auc": record.predict_auc, "train_auc": record.train_auc}
        state = State(progress.rows, progress.shrinks, progress.deletions, progress.event_time, metrics)
        exported = self._exporter.build(due, staged, touched, record.of, state)
        laps.append(time.monotonic())
        self._journal.sync()
        committer.publish(staged, self._manifest(topics, record, progress, keys, files, exported), exported.models)
        laps.append(time.monotonic())
        self._exporter.chain = exported.chain
        if self._upkeep is not None:
            self._upkeep.run(record.of)
        if self._consistency is not None and exported.models:
            self._consistency.start(list(exported.models)[-1])
        for model in exported.models:
            log.info("pass %s: inference model %s published", record.of, self._models.path(model))
        return {"sealed": laps[1] - laps[0], **exported.seconds, "committed": laps[3] - laps[2]}

    def _manifest(
        self,
        topics: JobTopics,
        record: PassRecord,
        progress: Progress,
        keys: int,
        files: tuple[FileEntry, ...],
        exported: Exported,
    ) -> Manifest:
        return Manifest(
            job=self._config.stream.job,
            day=record.day,
            pass_id=record.pass_id,
            marker_offset=progress.marker_offset,
            offsets={str(p): o for p, o in sorted((progress.offsets or {}).items())},
            samples_topic_id=topics.samples_topic_id,
            splits_topic_id=topics.splits_topic_id,
            cluster_id=topics.cluster_id,
            partitions=topics.partitions,
            rows=progress.rows,
            keys=keys,
            metrics=asdict(record),
            config_sha256=self._config.sha256,
            program=f"streamtrain {__version__}",
            created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
            files=files,
            shrinks=progress.shrinks,
            deletions=progress.deletions,
            late_rows=progress.late_rows,
            untrained=progress.untrained,
            event_time=progress.event_time,
            models=tuple(exported.models),
            chain=exported.chain,
        )
