"""The commit protocol: a checkpoint and the stream's position become one.

1. all workers are done, all pushes applied                (the trainer's barrier)
2. stage: files, manifest.json; fsync files and directories
3. fence: in a transaction, the group's offsets with the manifest's digest; a trainer that a newer one has replaced
   fails here, before anything is visible
4. rename the inference models into place, which no donefile names yet; then the checkpoint to {day}/{pass_id}: the
   commit point
5. commit the transaction; a restart that finds 4 without 5 rolls it forward
6. donefile.txt and the models' donefiles, by atomic replace; a restart that finds 5 without 6 does it

With a store (checkpoint/remote_job.py): the files are uploaded between 2 and 3, the pointer that makes them a
checkpoint is put between 3 and 4, and is the commit point; the local rename is that of a cache. Its records follow 6.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from streamtrain.checkpoint import rewind
from streamtrain.checkpoint.published import PublishedModels
from streamtrain.checkpoint.remote_job import RemoteJob
from streamtrain.checkpoint.rewind import Intent, RewindPlan
from streamtrain.checkpoint.runs import Run
from streamtrain.checkpoint.store import Checkpoint, CheckpointStore, Problem, put_manifest
from streamtrain.contracts.json_codec import UnknownFormatError
from streamtrain.contracts.manifest import Manifest, ModelRef, Witness
from streamtrain.errors import (
    CheckpointMissing,
    KafkaError,
    NoneUsable,
    OtherCluster,
    PartitionsChanged,
    RetentionPassed,
    StateMismatch,
    StreamtrainError,
    TopicReplaced,
    UnknownFormat,
)
from streamtrain.failpoints import failpoint
from streamtrain.kafka.topics import JobTopics, Place, TopicNames
from streamtrain.schedule import PassId

log = logging.getLogger("streamtrain.checkpoint")

START_ANEW = "To start from nothing: `streamtrain checkpoints rewind --to nothing`, which moves what is there aside."


class OffsetLog(Protocol):
    """Port: where the job's offsets are committed, each commit with a text. KafkaOffsetLog is the real one.

    Whoever took over last is the only one that can commit. Methods raise KafkaError or a subclass.
    """

    def take_over(self) -> None:
        """Fences every trainer before this one: their fence() and commit() raise Fenced from now on, and what they
        had fenced and not committed is aborted."""

    def witness(self) -> tuple[int, str | None]:
        """The committed marker-log offset, -1 when there is none, and the text committed with it."""

    def watermarks(self) -> Mapping[Place, tuple[int, int]]:
        """(first, next) offset of each partition of the samples topic, and of the marker log."""

    def fence(self, offsets: Mapping[Place, int], text: str) -> None:
        """Puts `offsets`, each with `text`, into a transaction, which is not committed yet. Raises Fenced."""

    def commit(self) -> bool:
        """Commits what fence() put. False when the transaction was aborted: nothing of it is committed, and fence()
        may be called again. Raises Fenced."""

    def close(self) -> None: ...


class Committer:
    """Worker 0's side of the protocol, on the topics as they are now. take_over() comes first."""

    def __init__(self, topics: JobTopics, run: Run, offsets: OffsetLog) -> None:
        self._topics = topics
        self._job = topics.names.job
        self._run = run
        self._store = CheckpointStore(run.root, run)
        self._models = PublishedModels(run.root, run)
        self._offsets = offsets
        self._remote = RemoteJob(run) if run.remote is not None else None

    def take_over(self, owner: str = "nobody") -> None:
        """Fences the trainer before this one, and clears what it staged. owner: see Run.clear_older."""
        self._run.claim()
        if self._remote is not None:
            self._remote.runs.claim(owner)
        self._offsets.take_over()
        failpoint("restore.fenced")
        self._run.clear_older(owner)

    def close(self) -> None:
        self._offsets.close()

    def restore(self) -> Checkpoint | None:
        """The checkpoint to start from; None to start from nothing. Settles a commit that a crash interrupted.

        Raises CheckpointMissing when the group's witness is of a checkpoint that is not on disk; NoneUsable when all
        checkpoints are damaged; UnknownFormat, Unreadable for a newest one that may be valid;
        TopicReplaced, PartitionsChanged, OtherCluster, StateMismatch when the checkpoint is of other topics;
        RetentionPassed when its offsets are no longer there.
        """
        remote = self._remote
        intent = rewind.interrupted(self._run.root) if remote is None else remote.rewind.interrupted()
        if intent is not None:
            log.warning("a rewind to %s was interrupted: it is finished", intent.newest or "nothing")
            self._finish_rewind(intent)
        offset, text = self._offsets.witness()
        witness = self._decode(offset, text)
        chosen, skipped = self._choose() if remote is None else remote.pull(witness, self._is_ours)
        if witness is not None and any(checkpoint.id == witness.id for checkpoint, _ in skipped):
            witness = None  # the checkpoint is on disk, but damaged: an older one may do
        if witness is not None and (chosen is None or chosen.id < witness.id):
            newest = f"nothing newer than {chosen.id}" if chosen else "no checkpoint"
            raise CheckpointMissing(
                f"group {self._job} has committed checkpoint {witness.id} (marker log offset {offset}), but "
                f"{self._where} has {newest}",
                remedy=f"Restore that directory or correct runner.model_save_path. {START_ANEW}",
            )
        if chosen is None:
            self._refuse_to_forget(skipped)
        manifest = chosen.manifest if chosen is not None else None
        self._check(manifest)
        if chosen is None and remote is not None:
            remote.begin_from_nothing()
        if chosen is not None and manifest is not None:
            if witness is None or witness.digest != chosen.digest or offset != manifest.marker_offset:
                self._roll_forward(manifest, chosen.digest)
            self._store.append_donefile(chosen.id, int(time.time()))
            if remote is not None:
                remote.settle(manifest)
        self._models.settle(chosen.id if chosen else None, manifest.models if manifest else ())
        failpoint("restore.chosen")
        return chosen

    def rewind(self, to: PassId | None) -> RewindPlan:
        """Goes back to that checkpoint, to nothing for None: see checkpoint/rewind.py. take_over() comes first.

        Raises what restore() raises for a checkpoint that is of other topics, or whose offsets are gone, with nothing
        touched; CheckpointError when there is no such checkpoint, or it is damaged.
        """
        target = None
        if to is not None:
            target = rewind.plan(self._run.root, to).to if self._remote is None else self._remote.bring(to)
        self._check(target.manifest if target is not None else None)
        if self._remote is None:
            intent = rewind.begin(self._run, to)
        else:
            intent = rewind.intent_of(to)
            self._remote.rewind.begin(intent)
        failpoint("rewind.begun")
        return self._finish_rewind(intent)

    def _finish_rewind(self, intent: Intent) -> RewindPlan:
        if self._remote is None:
            return rewind.finish(self._run, intent, self._settle)
        if intent.newest is not None:
            self._remote.bring(intent.newest)
        self._remote.rewind.set_aside(intent, self._remote.runs.number)
        done = rewind.finish(self._run, intent, self._settle)
        self._remote.finish_rewind(intent)
        return done

    def _settle(self, checkpoint: Checkpoint | None) -> None:
        """The group's offsets and witness become those of the checkpoint; without one they say that there is none."""
        if checkpoint is not None and checkpoint.manifest is not None:
            self._fence(checkpoint.manifest, checkpoint.digest)
            self._commit(checkpoint.manifest, checkpoint.digest)
            return
        for _ in range(2):
            self._offsets.fence(self._needed(None), "")
            if self._offsets.commit():
                return
        raise KafkaError("the broker aborted the commit of the rewind twice", remedy="Give the command again.")

    def _check(self, manifest: Manifest | None) -> None:
        if manifest is not None:
            check_topics(manifest, self._topics)
        self._check_offsets(manifest)

    @property
    def _where(self) -> str:
        """The checkpoints' place, for messages."""
        return str(self._run.root) if self._remote is None else self._remote.where

    def _is_ours(self, manifest: Manifest) -> bool:
        try:
            check_topics(manifest, self._topics)
        except StreamtrainError as error:
            log.warning("%s", error)
            return False
        return True

    def _decode(self, offset: int, text: str | None) -> Witness | None:
        try:
            return Witness.decode(text)
        except UnknownFormatError as error:
            raise UnknownFormat(
                f"the offsets of group {self._job} (marker log offset {offset}) carry the text {text!r}: {error}",
                remedy="Start the version of streamtrain that wrote it; if something else uses the group, give this "
                "job a name of its own (stream.job). Nothing was touched.",
            ) from error

    def _choose(self) -> tuple[Checkpoint | None, list[tuple[Checkpoint, Problem]]]:
        """The newest valid checkpoint, and the damaged ones that are newer. Raises UnknownFormat or Unreadable for a
        newer one that may be valid."""
        skipped: list[tuple[Checkpoint, Problem]] = []
        for checkpoint, problem in self._store.newest_first():
            if problem is None:
                return checkpoint, skipped
            if (refusal := problem.refusal(checkpoint.id)) is not None:
                raise refusal
            log.error("checkpoint %s is SKIPPED: %s", checkpoint.id, problem)
            skipped.append((checkpoint, problem))
        return None, skipped

    def _refuse_to_forget(self, skipped: Sequence[tuple[Checkpoint, Problem]]) -> None:
        """Without a checkpoint a trainer starts from nothing, and replaces what stands there: raises NoneUsable when
        anything says that there was a model."""
        if skipped:
            newest, problem = skipped[0]
            raise NoneUsable(
                f"{self._where} has {len(skipped)} checkpoint(s), and none can be loaded; the newest, {newest.id}: "
                f"{problem}",
                remedy=f"Restore one of them from a copy. {START_ANEW}",
            )
        published = [line for line in self._models.lines() if line.checkpoint is not None]
        if published:
            raise NoneUsable(
                f"{self._where} has no checkpoint, but the inference model {published[-1].path}, which was "
                f"published with checkpoint {published[-1].checkpoint}",
                remedy=f"Restore the checkpoints or correct runner.model_save_path. {START_ANEW}",
            )

    def publish(self, staged: Path, manifest: Manifest, staged_models: Mapping[ModelRef, Path]) -> Path:
        """Steps 2 (its manifest) to 6. staged_models: those of manifest.models, sealed, with their manifests.

        Raises Fenced before anything is visible, CheckpointError, KafkaError.
        """
        digest = put_manifest(staged, manifest)
        failpoint("commit.manifest")
        remote = self._remote
        pointer = remote.upload(staged, manifest, digest, staged_models) if remote is not None else None
        self._fence(manifest, digest)
        failpoint("commit.fenced")
        if remote is not None and pointer is not None:
            remote.point(pointer)
        for model, directory in staged_models.items():
            self._models.publish(directory, model)
        path = self._store.publish(staged, manifest.id)
        failpoint("commit.renamed")
        self._commit(manifest, digest)
        failpoint("commit.committed")
        self._store.append_donefile(manifest.id, int(time.time()))
        if manifest.models:
            self._models.list_in_donefiles(manifest.models)
        if remote is not None and pointer is not None:
            remote.record(pointer, manifest)
        failpoint("commit.done")
        return path

    def _roll_forward(self, manifest: Manifest, digest: str) -> None:
        log.warning(
            "checkpoint %s: the group's offsets are not the checkpoint's (a crash before their commit, or a reset by "
            "hand); the checkpoint is valid, the offsets are rolled forward to it",
            manifest.id,
        )
        self._fence(manifest, digest)
        self._commit(manifest, digest)

    def _fence(self, manifest: Manifest, digest: str) -> None:
        """The transaction's offsets: where the next pass starts, with the manifest's digest."""
        self._offsets.fence(self._needed(manifest), Witness(manifest.day, manifest.pass_id, digest).encode())

    def _commit(self, manifest: Manifest, digest: str) -> None:
        """An aborted transaction is repeated once, since the checkpoint is in place already."""
        if not self._offsets.commit():
            self._fence(manifest, digest)
            if not self._offsets.commit():
                raise KafkaError(
                    f"the broker aborted the commit of checkpoint {manifest.id} twice",
                    remedy="The checkpoint is in place; a restart commits it. Check the broker's log.",
                )

    def _check_offsets(self, manifest: Manifest | None) -> None:
        watermarks = self._offsets.watermarks()
        for (topic, partition), offset in self._needed(manifest).items():
            low, high = watermarks[topic, partition]
            if not low <= offset <= high:
                raise RetentionPassed(
                    f"topic {topic}, partition {partition}: offset {offset} is needed, the topic has {low} to {high}",
                    remedy="Retention has deleted it: restore the topic, or start a new stream.job with a new "
                    "runner.model_save_path.",
                )

    def _needed(self, manifest: Manifest | None) -> dict[Place, int]:
        """Where the pass after the checkpoint's starts, a partition; 0 without a checkpoint."""
        names = self._topics.names
        needed = {
            (names.samples, p): int(manifest.offsets[str(p)]) if manifest else 0 for p in range(self._topics.partitions)
        }
        needed[names.splits, 0] = manifest.marker_offset if manifest else 0
        return needed


def check_topics(manifest: Manifest, topics: JobTopics) -> None:
    """Raises OtherCluster, TopicReplaced, PartitionsChanged or StateMismatch when the manifest is not of `topics`."""
    remedy = "start a new stream.job with a new runner.model_save_path."
    checkpoint = f"checkpoint {manifest.id}"
    names = topics.names
    if manifest.job != names.job:
        raise StateMismatch(
            f"{checkpoint} is of job {manifest.job}, stream.job is {names.job}", remedy="Correct one of the two."
        )
    if manifest.cluster_id != topics.cluster_id:
        raise OtherCluster(
            f"{checkpoint} was made with cluster_id {manifest.cluster_id}, found {topics.cluster_id}",
            remedy=f"Correct kafka.bootstrap.servers, or {remedy}",
        )
    pairs = (
        (names.samples, manifest.samples_topic_id, topics.samples_topic_id),
        (names.splits, manifest.splits_topic_id, topics.splits_topic_id),
    )
    for name, expected, actual in pairs:
        if expected != actual:
            raise TopicReplaced(
                f"{checkpoint} was made with topic {name} of id {expected}, found id {actual}",
                remedy=f"The topic was deleted and recreated: {remedy}",
            )
    if manifest.partitions != topics.partitions:
        raise PartitionsChanged(
            f"{checkpoint} was made with {manifest.partitions} partitions of {names.samples}, "
            f"found {topics.partitions}",
            remedy=f"Rows would go to other workers: {remedy}",
        )


def refuse_lost_topics(store: CheckpointStore, existing: Collection[str], names: TopicNames) -> None:
    """Raises TopicReplaced when there are checkpoints, but the topics that they are of are gone.

    Called before the topics are made: all logs would be bridged again, for a trainer that must refuse them.
    """
    missing = [n for n in (names.samples, names.splits) if n not in existing]
    newest = store.newest() if missing else None
    if newest is not None and newest.manifest is not None and newest.manifest.job == names.job:
        raise TopicReplaced(
            f"topic {missing[0]} does not exist, but checkpoint {newest.id} in {store.where} was made with it",
            remedy="It was deleted: restore it, or start a new stream.job with a new runner.model_save_path.",
        )
