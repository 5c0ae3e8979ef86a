"""The pass loop of one worker: wait, read, predict, train, save, commit."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from streamtrain.checkpoint.commit import Committer
from streamtrain.checkpoint.identity import IdentityCheck, log_changes
from streamtrain.checkpoint.journal import Journal, PassRecord
from streamtrain.checkpoint.opening import Readable, run_of
from streamtrain.checkpoint.store import Checkpoint
from streamtrain.config import JobConfig
from streamtrain.contracts import phases
from streamtrain.errors import CheckpointError, PartitionsChanged
from streamtrain.failpoints import failpoint
from streamtrain.feed.feed import Feed, FeedStart, PassData
from streamtrain.kafka.topics import JobTopics, TopicNames, wait_for_topics
from streamtrain.kafka.transactions import KafkaOffsetLog
from streamtrain.kafka.waiting import FIRST_S, Waiting, report_waiting
from streamtrain.schedule import PassId
from streamtrain.stopping import Stopped
from streamtrain.training.gate import Gate
from streamtrain.training.infer_dump import InferDump
from streamtrain.training.pass_step import PassStep
from streamtrain.training.position import Position
from streamtrain.training.saving import Saver
from streamtrain.training.warm_start import WarmStarter

if TYPE_CHECKING:
    from streamtrain.engine.engine import Engine

log = logging.getLogger("streamtrain.trainer")


class Trainer:
    """Trains `config`'s job with an engine that is connected to its servers. Set `stop` to end cleanly.

    owner: who started this run and may start it again, see Run.clear_older. on_phase(words) at each
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
        self._on_phase = on_phase
        self._doing = phases.STARTING
        self._names = TopicNames(config.stream.job)
        self._run = run_of(config)
        self._infer_dump = InferDump(config, engine, self._run.check_newest, stop, self._phase)
        self._journal = Journal(config.model_save_path)
        self._identity = IdentityCheck(config, engine.dense_shapes(), network=engine.network)
        self._position = Position()
        self._warm = WarmStarter(config, engine, self._run)
        self._saver = Saver(config, engine, self._run, self._journal, self._warm)
        self._gate = Gate(config.stream.gate, engine.labels) if config.stream.gate is not None else None
        self._step = PassStep(config, engine, self._saver, self._gate, self._run.check_newest, self._phase)
        self._committer: Committer | None = None  # worker 0's
        self._waiting: Waiting | None = None
        self._report_wait = report_waiting(log, on_phase)
        self._reporting = threading.Lock()
        self._ended = False
        #: Whether run() has returned at a stop, of any worker, and not at the end of the stream.
        self.stopped = False
        #: Whether it has returned in the middle of a wait: the other workers may wait for this one then.
        self.gave_up = False

    def run(self) -> None:
        """Returns after the last pass of end_day, or after a clean stop, with every trained pass saved.

        Raises JobChanged before anything is touched when the config is not that of the job's checkpoints.
        """
        try:
            self._run_to_end()
        except Stopped:
            self.stopped = self.gave_up = True
            log.warning(
                "stopped at the request of a signal while Kafka or runner.infer_data_dir was waited for, or before the "
                "training had begun: passes after the newest checkpoint are trained again by the next start"
            )

    def _run_to_end(self) -> None:
        self._ask_store()
        self._identity.newest()
        self._phase(f"{phases.WAITING} Kafka")
        topics = wait_for_topics(self._properties, self._names, self._stop, self._phase)
        self._check_partitions(topics)
        if self._engine.index == 0:
            offsets = KafkaOffsetLog(
                self._properties,
                topics,
                check=self._run.check_newest,
                stop=self._stop,
                on_wait=self._while_committing,
                on_answer=lambda: self._while_committing(self._doing),
            )
            self._committer = Committer(topics, self._run, offsets)
            self._committer.take_over(self._owner)
        try:
            self._train(topics)
        except CheckpointError:
            if self._committer is not None:
                self._run.check_newest()  # a newer trainer that has cleared the files is the reason then
            raise

    def _train(self, topics: JobTopics) -> None:
        chosen = self._restore(topics)
        checked = self._identity.against(chosen, self._warm.start)
        if self._committer is not None:
            log_changes(checked.changes)
            self._ask_store()  # what older runs have left there is deleted
        self._saver.begin(chosen.manifest if chosen is not None else None, topics, self._committer, checked.identity)
        feed = self._open_feed(topics)
        record = None
        try:
            while (data := self._next_pass(feed)) is not None:
                record = self._step.predict_and_train(data)
                self._position.advance(data.plan, self._config.schedule, trained=record.trained)
                record = self._infer_dump.after(record)
                if self._saver.is_due(data.plan.id):
                    self._save_and_record(record)
                else:
                    self._add_to_journal(record)
            self._saver.finish()
            if record is not None and not self._position.saved:
                self._save(record)
            self._saver.close()
        finally:
            self._saver.abandon()
            self._end_reports()
            feed.close()
            self._infer_dump.close()
            if self._committer is not None:
                self._committer.close()
                self._journal.close()

    def _check_partitions(self, topics: JobTopics) -> None:
        if topics.partitions != self._config.stream.partitions:
            raise PartitionsChanged(
                f"topic {self._names.samples} has {topics.partitions} partitions, stream.partitions is "
                f"{self._config.stream.partitions}",
                remedy="Start a new stream.job with a new runner.model_save_path, or correct stream.partitions.",
            )

    def _restore(self, topics: JobTopics) -> Checkpoint | None:
        """Worker 0 chooses the checkpoint and sends its pass to the others; all load it and return it."""
        self._ask_store()
        chosen = self._committer.restore() if self._committer is not None else None
        self._phase(phases.LOADING)
        schedule = self._config.schedule
        number = schedule.pass_index(chosen.id) + 1 if chosen is not None else 0
        if self._engine.workers > 1:
            number = int(self._engine.all_reduce_sum(np.array([number], np.int64))[0])
        if self._committer is not None:
            newest = PassRecord.of_manifest(chosen.manifest) if chosen and chosen.manifest else None
            self._journal.roll_back(chosen.id if chosen else None, self._run, newest)
        if not number:
            if self._warm.begin():
                log.info("last model: none found, starting from %s", self._config.runner.warmup_model_path)
            else:
                log.info("last model: none found, starting from nothing")
            self._position = Position(offsets=dict.fromkeys(range(topics.partitions), 0))
            return None
        pass_id = schedule.pass_at(number - 1)
        checkpoint = chosen or self._find(pass_id)
        manifest = checkpoint.manifest
        if manifest is None:
            raise CheckpointError(f"checkpoint {pass_id} cannot be read: {checkpoint.problem}")
        log.info("last model: %s found at %s, verified, loading", pass_id, checkpoint.path)
        self._phase(phases.LOADING)
        begin = time.monotonic()
        scratch = self._run.directory if self._committer is not None else None
        keys = self._engine.state.load(checkpoint.path, scratch, {entry.path for entry in manifest.files})
        if keys != manifest.keys:
            raise CheckpointError(f"{checkpoint.path}: {keys} keys were loaded, its manifest says {manifest.keys}")
        log.info("last model: %s loaded, %d keys, %.1f s", pass_id, keys, time.monotonic() - begin)
        failpoint("restore.loaded")
        if self._committer is not None:
            self._warm.recall(checkpoint)
        self._position = Position.of_manifest(manifest, number)
        if self._gate is not None and self._committer is not None:
            self._gate.recall((_aucs(r), r.rows, r.gate) for r in self._journal.backwards())
        return checkpoint

    def _find(self, pass_id: PassId) -> Checkpoint:
        self._ask_store()
        store = Readable(self._config).checkpoints
        if pass_id in store.ids():
            return store.read(pass_id)
        raise CheckpointError(
            f"worker {self._engine.index} does not see checkpoint {pass_id} in {store.where}",
            remedy="runner.model_save_path must be shared by all workers.",
        )

    def _open_feed(self, topics: JobTopics) -> Feed:
        return Feed(
            self._properties,
            job=self._config.stream.job,
            samples=self._names.samples,
            splits=self._names.splits,
            topic_id=topics.samples_topic_id,
            schedule=self._config.schedule,
            feeds=self._engine.feeds,
            layout=self._config.layout,
            start=FeedStart(self._position.pass_index, self._position.marker_offset, self._position.offsets or {}),
            worker=self._engine.index,
            workers=self._engine.workers,
            spool=self._config.spool_dir,
            ins_ids=self._step.has_ids,
            shuffle=self._config.stream.shuffle,
            group_slot=self._step.group_slot,
        )

    def _next_pass(self, feed: Feed) -> PassData | None:
        """The next pass once every worker has it; None at the end of the stream or at a stop.

        The workers decide together, so that all of them continue, or all stop at the same pass.
        """
        begin = time.monotonic()
        next_report = 0.0
        pass_id = self._config.schedule.pass_at(self._position.pass_index)
        while True:
            self._saver.look()
            ready = feed.ready(0.3)
            flags = np.array([ready, self._stop.is_set(), self._cannot_commit(feed)], np.int64)
            if self._engine.workers > 1:
                flags = self._engine.all_reduce_sum(flags)
            if flags[1]:
                log.info("stopping at the request of a signal")
                self.stopped = True
                if flags[2]:
                    raise Stopped
                return None
            if flags[0] == self._engine.workers:
                return feed.next_pass()
            if not ready and not self._waits_for_kafka(feed):
                self._phase(f"{phases.WAITING} pass {pass_id}'s splits")
            if time.monotonic() - begin > next_report:
                log.info("pass %s: waiting for its splits", pass_id)
                next_report = max(10.0, 2 * next_report)

    def _cannot_commit(self, feed: Feed) -> bool:
        """At a stop: whether Kafka is away. That the feed waits does not say it, so it is asked."""
        if not self._stop.is_set() or not feed.kafka_is_away:
            return False
        return not (self._waiting or Waiting(self._properties)).answers()

    def _waits_for_kafka(self, feed: Feed) -> bool:
        """Reports what is waited for while Kafka is away. Raises NotAllowed, KafkaError: see Waiting.refusal()."""
        if not feed.kafka_is_away:
            self._waiting = None
            return False
        self._waiting = self._waiting or Waiting(self._properties)
        if (refusal := self._waiting.refusal(f"reading {self._names.splits} and {self._names.samples}")) is not None:
            raise refusal
        if self._waiting.seconds >= FIRST_S:
            self._report_wait(self._waiting.sentence())
        return True

    def _ask_store(self) -> None:
        """Where the checkpoints are on a store: it may take its time, and no role uses a processor then."""
        if self._config.store is not None:
            self._phase(f"{phases.WAITING} the store")

    def _while_committing(self, phase: str) -> None:
        """A commit may be in a thread of its own, and still at it when the trainer has ended: what it waits for is not
        how the trainer is, then."""
        with self._reporting:
            if not self._ended:
                self._on_phase(phase)

    def _end_reports(self) -> None:
        with self._reporting:
            self._ended = True

    def _phase(self, phase: str) -> None:
        self._doing = phase
        self._on_phase(phase)

    def _save(self, record: PassRecord) -> PassRecord:
        self._phase(phases.SAVING)
        return self._saver.save(record, self._position)

    def _save_and_record(self, record: PassRecord) -> None:
        if not self._saver.overlaps(record.id):
            self._add_to_journal(self._save(record))
            return
        self._saver.poll()
        self._phase(phases.SAVING)
        self._saver.start(record, self._position, self._record)

    def _add_to_journal(self, record: PassRecord) -> None:
        self._saver.poll()
        if self._committer is not None:
            self._record(record)

    def _record(self, record: PassRecord) -> None:
        self._journal.append(replace(record, ended=time.time()))
        failpoint("pass.recorded")


def _aucs(record: PassRecord) -> list[tuple[str, float | None]]:
    """The predict AUCs of a pass by label, the first label's first; that of a record before 0.4.0 has no name."""
    if not record.labels:
        return [("", record.predict_auc)]
    return [(name, label.predict.auc) for name, label in record.labels.items()]
