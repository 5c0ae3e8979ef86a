"""The pass loop of one worker: wait, read, predict, train, save, commit."""

from __future__ import annotations

import hashlib
import logging
import math
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timezone
from typing import TYPE_CHECKING

import numpy as np
import orjson

from streamtrain import __version__, phases
from streamtrain.checkpoint.commit import Committer, Stream, look_at_stream
from streamtrain.checkpoint.journal import Journal, PassRecord, pack
from streamtrain.checkpoint.manifest import FileEntry, Manifest
from streamtrain.checkpoint.models import DueModel
from streamtrain.checkpoint.store import Checkpoint, CheckpointStore
from streamtrain.config import JobConfig
from streamtrain.consistency import ConsistencyCheck
from streamtrain.engine.stats import PassStats
from streamtrain.errors import CheckpointError, PartitionsChanged, TrainingError
from streamtrain.exporter import Exported, Exporter, State
from streamtrain.failpoints import failpoint
from streamtrain.feed.feed import Feed, PassData, Position
from streamtrain.feed.passes import PassPlan
from streamtrain.gate import Gate
from streamtrain.kafka.topics import TopicNames
from streamtrain.passdumps import PassDumps
from streamtrain.schedule import PassId, Schedule
from streamtrain.upkeep import Upkeep

if TYPE_CHECKING:
    from streamtrain.engine.engine import Engine

log = logging.getLogger("streamtrain.trainer")


@dataclass
class Progress:
    """How far the model in the servers is: passes and rows trained, offsets read up to, what is saved.

    shrinks, deletions, late_rows, untrained, event_time: as in the manifest.
    """

    pass_index: int = 0
    marker_offset: int = 0
    offsets: dict[int, int] | None = None
    rows: int = 0
    shrinks: int = 0
    deletions: int = 0
    late_rows: int = 0
    untrained: tuple[str, ...] = ()
    event_time: str = ""
    saved: bool = True

    @classmethod
    def of_manifest(cls, manifest: Manifest, pass_index: int) -> Progress:
        offsets = {int(p): o for p, o in manifest.offsets.items()}
        return cls(
            pass_index, manifest.marker_offset, offsets, manifest.rows, manifest.shrinks, manifest.deletions,
            manifest.late_rows, manifest.untrained, manifest.event_time,
        )  # fmt: skip

    def advance(self, plan: PassPlan, schedule: Schedule, *, trained: bool) -> None:
        first = self.pass_index * schedule.split_per_pass
        self.pass_index += 1
        self.marker_offset = plan.end_offset
        self.offsets = plan.ends(self.offsets or {})
        self.late_rows += sum(m.rows for m in plan.markers if m.sequence < first)
        if trained:
            self.rows += plan.rows
        else:
            self.untrained = (*self.untrained, str(plan.of))
        self.event_time = schedule.ends_at(schedule.last_sequence(plan.of))
        self.saved = False


class Trainer:
    """Trains `config`'s job with an engine that is connected to its servers. Set `stop` to end cleanly.

    owner: who started this run and may start it again, see CheckpointStore.take_over. on_phase(words) at each
    step of the loop.
    """

    def __init__(
        self,
        config: JobConfig,
        properties: Mapping[str, str],
        engine: Engine,
        stop: threading.Event,
        *,
        owner: str = "nobody",
        on_phase: Callable[[str], None] = lambda _phase: None,
    ) -> None:
        self._config = config
        self._properties = properties
        self._engine = engine
        self._stop = stop
        self._owner = owner
        self._phase = on_phase
        self._names = TopicNames(config.stream.job)
        self._store = CheckpointStore(config.model_save_path)
        self._dumps = PassDumps(config, engine, self._store.check_taken_over)
        self._journal = Journal(config.model_save_path)
        self._progress = Progress()
        self._exporter = Exporter(config, engine, self._store)
        self._gate = Gate(config.stream.gate) if config.stream.gate is not None else None
        self._committer: Committer | None = None  # worker 0's, as is:
        self._upkeep: Upkeep | None = None
        self._consistency: ConsistencyCheck | None = None

    def run(self) -> None:
        """Returns after the last pass of end_day, or after a clean stop with all that is done saved."""
        self._phase(f"{phases.WAITING} Kafka")
        stream = look_at_stream(self._properties, self._names, self._stop, self._phase)
        if stream is None:
            return
        self._check_partitions(stream)
        if self._engine.index == 0:
            self._committer = Committer(
                self._properties, self._config.stream.job, stream, self._store,
                owner=self._owner, on_wait=self._phase,
            )  # fmt: skip
            self._upkeep = Upkeep(self._config, self._store)
            self._consistency = ConsistencyCheck(self._config, self._engine, self._store)
        try:
            self._train(stream)
        except CheckpointError:
            if self._committer is not None:
                self._store.check_taken_over()  # a newer trainer has cleared our files: that is the reason
            raise

    def _train(self, stream: Stream) -> None:
        self._restore(stream)
        if self._upkeep is not None:
            self._upkeep.run()  # uploads what a crash kept from it
        feed = self._open_feed(stream)
        record = None
        try:
            while (data := self._next_pass(feed)) is not None:
                record = self._predict_and_train(data)
                if self._checkpoint_due(data.plan.of):
                    record = self._save(stream, record)
                self._write_down(record)
            if record is not None and not self._progress.saved:
                self._save(stream, record)
        finally:
            feed.close()
            if self._upkeep is not None:
                self._upkeep.close()
            if self._consistency is not None:
                self._consistency.close()
            if self._committer is not None:
                self._committer.close()
                self._journal.close()

    def _check_partitions(self, stream: Stream) -> None:
        if stream.partitions != self._config.stream.partitions:
            raise PartitionsChanged(
                f"topic {self._names.samples} has {stream.partitions} partitions, stream.partitions is "
                f"{self._config.stream.partitions}",
                remedy="Start a new stream.job with a new runner.model_save_path, or correct stream.partitions.",
            )

    def _restore(self, stream: Stream) -> None:
        """Worker 0 chooses the checkpoint and tells the others its pass; all load it."""
        chosen = self._committer.restore() if self._committer is not None else None
        self._phase(phases.LOADING)
        schedule = self._config.schedule
        number = schedule.pass_index(chosen.of) + 1 if chosen is not None else 0
        if self._engine.workers > 1:
            number = int(self._engine.all_reduce_sum(np.array([number], np.int64))[0])
        if self._committer is not None:
            newest = PassRecord.of_manifest(chosen.manifest) if chosen and chosen.manifest else None
            self._journal.roll_back(chosen.of if chosen else None, self._store, newest)
        if not number:
            log.info("last model: none found, starting from nothing")
            self._progress = Progress(offsets=dict.fromkeys(range(stream.partitions), 0))
            if self._config.runner.save_first_base and self._config.stream.inference_model != "none":
                self._publish_first()
            return
        of = schedule.pass_at(number - 1)
        checkpoint = chosen or self._find(of)
        manifest = checkpoint.manifest
        if manifest is None:
            raise CheckpointError(f"checkpoint {of} cannot be read: {checkpoint.problem}")
        log.info("last model: %s found at %s, verified, loading", of, checkpoint.path)
        begin = time.monotonic()
        keys = self._engine.load(checkpoint.path, self._store.scratch() if self._committer is not None else None)
        if keys != manifest.keys:
            raise CheckpointError(f"{checkpoint.path}: {keys} keys were loaded, its manifest says {manifest.keys}")
        log.info("last model: %s loaded, %d keys, %.1f s", of, keys, time.monotonic() - begin)
        failpoint("restore.loaded")
        self._progress = Progress.of_manifest(manifest, number)
        self._exporter.chain = manifest.chain
        if self._gate is not None and self._committer is not None:
            self._gate.recall((r.predict_auc, r.rows) for r in self._journal.read())

    def _publish_first(self) -> None:
        """save_first_base; all other workers wait, so that nothing is trained before."""
        if self._committer is not None:
            self._exporter.publish_first()
            log.info("first base: the inference model of the empty model is published")
        self._engine.barrier()

    def _find(self, of: PassId) -> Checkpoint:
        for checkpoint in self._store.list():
            if checkpoint.of == of:
                return checkpoint
        raise CheckpointError(
            f"worker {self._engine.index} does not see checkpoint {of} in {self._store.root}",
            remedy="runner.model_save_path must be shared by all workers.",
        )

    def _open_feed(self, stream: Stream) -> Feed:
        return Feed(
            self._properties,
            job=self._config.stream.job,
            samples=self._names.samples,
            splits=self._names.splits,
            topic_id=stream.samples_topic_id,
            schedule=self._config.schedule,
            slots=self._engine.slots,
            start=Position(self._progress.pass_index, self._progress.marker_offset, self._progress.offsets or {}),
            worker=self._engine.index,
            workers=self._engine.workers,
            spool=self._config.spool_dir,
            ins_ids=self._dumps.any,
        )

    def _next_pass(self, feed: Feed) -> PassData | None:
        """The next pass once every worker has it; None at the end of the stream or at a stop.

        The workers ask each other in step, so that all of them go on, or all stop at the same pass.
        """
        said = 0.0
        begin = time.monotonic()
        of = self._config.schedule.pass_at(self._progress.pass_index)
        while True:
            ready = feed.ready(0.3)
            flags = np.array([ready, self._stop.is_set()], np.int64)
            if self._engine.workers > 1:
                flags = self._engine.all_reduce_sum(flags)
            if flags[1]:
                log.info("stopping at the request of a signal")
                return None
            if flags[0] == self._engine.workers:
                return feed.take()
            if not ready:
                self._phase(f"{phases.WAITING} Kafka" if feed.kafka_is_away else f"{phases.WAITING} pass {of}'s splits")
            if time.monotonic() - begin > said:
                log.info("pass %s: waiting for its splits", of)
                said = max(10.0, 2 * said)

    def _predict_and_train(self, data: PassData) -> PassRecord:
        """Predicts the pass with the model so far, then trains on it; counts the rows at each step."""
        plan = data.plan
        log.info("pass %s: %d rows, %d of them here", plan.of, plan.rows, data.rows)
        begin = time.monotonic()
        self._phase(phases.READING)
        dataset = self._engine.read([data.file], ins_ids=self._dumps.any) if data.rows else None
        try:
            if dataset is not None:
                self._check_rows(plan, "read", data.rows, dataset.rows)
            failpoint("pass.read")
            self._phase(phases.PREDICTING)
            self._engine.barrier()  # nobody trains while another still predicts
            started = time.monotonic()
            with self._dumps.infer(plan) as dump:
                predicted = self._engine.predict(dataset, dump) if dataset is not None else PassStats.empty()
                self._check_rows(plan, "predicted", data.rows, predicted.rows)
            predicted = self._engine.global_stats(predicted)
            log.info("pass %s: predict AUC %.6f", plan.of, predicted.auc)
            failpoint("pass.predicted")
            halfway = time.monotonic()
            gated, train = self._judge(plan, predicted)
            self._phase(phases.TRAINING)
            self._engine.barrier()
            with self._dumps.train(plan, plan.rows if train else 0) as dump:
                trained = self._engine.train(dataset, dump) if dataset is not None and train else PassStats.empty()
                self._check_rows(plan, "trained", data.rows if train else 0, trained.rows)
            trained = self._engine.global_stats(trained)
            log.info("pass %s: train AUC %.6f", plan.of, trained.auc)
            if self._consistency is not None and data.rows and self._exporter.due(plan.of):
                self._consistency.sample(data.file, ins_ids=self._dumps.any)
        finally:
            if dataset is not None:
                dataset.release()
            data.release()
        self._check_rows(plan, "predicted by all workers", plan.rows, predicted.rows)
        self._check_rows(plan, "trained by all workers", plan.rows if train else 0, trained.rows)
        failpoint("pass.trained")
        self._progress.advance(plan, self._config.schedule, trained=train)
        end = time.monotonic()
        return PassRecord(
            plan.of.day, plan.of.pass_id, plan.rows, _or_none(predicted.auc), _or_none(trained.auc),
            seconds=end - begin, read_seconds=started - begin, predict_seconds=halfway - started,
            train_seconds=end - halfway, predict_histogram=pack(predicted.pos, predicted.neg),
            gate=gated, trained=train,
        )  # fmt: skip

    def _judge(self, plan: PassPlan, predicted: PassStats) -> tuple[str, bool]:
        """What the gate says of the pass ('' within bounds), and whether it is trained. Worker 0 judges for all."""
        if self._gate is None or self._config.stream.gate is None:
            return "", True
        said = self._gate.judge(predicted.auc, plan.rows) if self._committer is not None else ""
        out = bool(self._engine.all_reduce_sum(np.array([bool(said)], np.int64))[0])
        train = not out or self._config.stream.gate.train
        if said:
            log.error("pass %s is OUT OF BOUNDS: %s; it is %s", plan.of, said, "trained" if train else "NOT TRAINED")
        return (said or "out of bounds") if out else "", train

    @staticmethod
    def _check_rows(plan: PassPlan, what: str, expected: int, found: int) -> None:
        if expected != found:
            raise TrainingError(
                f"pass {plan.of}: {found} rows were {what}, there are {expected}",
                remedy="Nothing of this pass was saved; a restart trains it again from the last checkpoint.",
            )

    def _checkpoint_due(self, of: PassId) -> bool:
        """An inference model is published together with a checkpoint, so a pass with one has the other."""
        due = of.pass_id % self._config.runner.checkpoint_per_pass == 0 or self._config.schedule.is_day_end(of)
        return due or bool(self._exporter.due(of))

    def _models_due(self, record: PassRecord) -> list[DueModel]:
        """None for a pass that the gate holds back: the model so far stays."""
        due = self._exporter.due(record.of)
        if due and record.gate and self._config.stream.gate is not None and not self._config.stream.gate.export:
            log.error("pass %s: its inference model is WITHHELD: %s", record.of, record.gate)
            return []
        return due

    def _save(self, stream: Stream, record: PassRecord) -> PassRecord:
        """Saves and commits. Every worker calls it; worker 0 stages, fences and renames."""
        begin = time.monotonic()
        of = record.of
        self._phase(phases.SAVING)
        self._engine.barrier()
        due = self._models_due(record)
        parts: dict[str, float] = {}
        if self._config.schedule.is_day_end(of):
            self._shrink()
            parts["paddle_shrink"] = time.monotonic() - begin
        taking = time.monotonic()
        touched = self._exporter.take_touched(due)
        parts |= {"paddle_touched": time.monotonic() - taking} if due else {}
        staged = self._store.stage(of) if self._committer is not None else None
        saved = self._engine.save(staged)
        failpoint("save.written")
        parts |= saved.seconds
        if self._committer is not None and staged is not None:
            written = time.monotonic()
            files = self._store.seal(staged)
            parts["sealed"] = time.monotonic() - written
            if due and self._consistency is not None:
                self._consistency.dump()
            state = State(self._progress.rows, self._progress.deletions, self._progress.event_time,
                          {"predict_auc": record.predict_auc, "train_auc": record.train_auc})  # fmt: skip
            exported = self._exporter.build(due, staged, touched, of, state)
            parts |= exported.seconds
            built = time.monotonic()
            record = replace(record, ended=time.time(), checkpoint_seconds=built - begin)
            self._journal.sync()
            manifest = self._manifest(stream, record, saved.keys, files, exported)
            path = self._committer.publish(staged, manifest, exported.models)
            self._exporter.chain = exported.chain
            parts["committed"] = time.monotonic() - built
            said = ", ".join(f"{name} {seconds:.2f}" for name, seconds in parts.items())
            log.info("pass %s: checkpoint saved to %s, %.1f s (%s)", of, path, time.monotonic() - begin, said)
            if self._upkeep is not None:
                self._upkeep.run()
            if self._consistency is not None and exported.models:
                self._consistency.start(list(exported.models)[-1])
            for model in exported.models:
                log.info("pass %s: inference model %s published", of, self._store.model_path(model))
        self._engine.barrier()
        self._progress.saved = True
        return replace(record, checkpoint_seconds=time.monotonic() - begin, checkpoint_parts=parts)

    def _shrink(self) -> None:
        """The day's end, before its last checkpoint: a restart from it finds the day ended, one from an older
        checkpoint ends it again."""
        scratch = self._store.empty("shrink") if self._committer is not None else None
        self._progress.deletions += self._engine.shrink(scratch)
        self._progress.shrinks += 1
        failpoint("day.shrunk")

    def _manifest(
        self, stream: Stream, record: PassRecord, keys: int, files: tuple[FileEntry, ...], exported: Exported
    ) -> Manifest:
        raw = orjson.dumps(self._config.masked(), option=orjson.OPT_SORT_KEYS, default=str)
        return Manifest(
            job=self._config.stream.job,
            day=record.day,
            pass_id=record.pass_id,
            marker_offset=self._progress.marker_offset,
            offsets={str(p): o for p, o in sorted((self._progress.offsets or {}).items())},
            samples_topic_id=stream.samples_topic_id,
            splits_topic_id=stream.splits_topic_id,
            cluster_id=stream.cluster_id,
            partitions=stream.partitions,
            rows=self._progress.rows,
            keys=keys,
            metrics=asdict(record),
            config_sha256=hashlib.sha256(raw).hexdigest(),
            program=f"streamtrain {__version__}",
            created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
            files=files,
            shrinks=self._progress.shrinks,
            deletions=self._progress.deletions,
            late_rows=self._progress.late_rows,
            untrained=self._progress.untrained,
            event_time=self._progress.event_time,
            models=tuple(exported.models),
            chain=exported.chain,
        )

    def _write_down(self, record: PassRecord) -> None:
        if self._consistency is not None:
            self._consistency.poll()
        if self._committer is not None:
            self._journal.append(replace(record, ended=time.time()))
            failpoint("pass.recorded")


def _or_none(value: float) -> float | None:
    return None if math.isnan(value) else value
