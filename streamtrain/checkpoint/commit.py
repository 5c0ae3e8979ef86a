"""The commit protocol: a checkpoint and the stream's position become one.

1. all workers are done, all pushes applied                (the trainer's barrier)
2. stage: files, manifest.json; fsync files and directories
3. fence: in a transaction of `<job>.trainer`, the group's offsets with the manifest's digest; a trainer
   that a newer one has replaced fails here, before anything is visible
4. rename the inference models into place, which no donefile names yet; then the checkpoint to {day}/{pass_id}: the
   commit point
5. commit the transaction; a restart that finds 4 without 5 rolls it forward
6. donefile.txt and the models' donefiles, by atomic replace; a restart that finds 5 without 6 does it
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from streamtrain.checkpoint.store import Checkpoint, CheckpointStore
from streamtrain.contracts.manifest import Manifest, ModelRef, Witness
from streamtrain.errors import (
    CheckpointMissing,
    KafkaError,
    OtherCluster,
    PartitionsChanged,
    RetentionPassed,
    StateMismatch,
    TopicReplaced,
)
from streamtrain.failpoints import failpoint
from streamtrain.kafka import clients, topics
from streamtrain.kafka.topics import TopicNames
from streamtrain.kafka.transactions import OffsetTransactions

log = logging.getLogger("streamtrain.checkpoint")


@dataclass(frozen=True)
class Stream:
    """The topics of a job as they are now."""

    names: TopicNames
    cluster_id: str
    samples_topic_id: str
    splits_topic_id: str
    partitions: int


def look_at_stream(
    properties: Mapping[str, str],
    names: TopicNames,
    stop: threading.Event,
    on_wait: Callable[[str], None] = lambda _what: None,
) -> Stream | None:
    """Waits for the cluster and for the job's topics, which the bridge makes; None when stopped before.

    on_wait(what) again and again while it waits.
    """
    cluster = clients.wait_for_cluster(properties, None, clients.say_waiting(log, on_wait))
    client = clients.admin(properties)
    said = False
    while not {names.samples, names.splits} <= set(found := topics.find(client, names)):
        if not said:
            log.info("waiting for the bridge to make the topics %s and %s", names.samples, names.splits)
            said = True
        on_wait("waiting for the bridge to make the topics")
        if stop.wait(1):
            return None
    return Stream(
        names,
        cluster.cluster_id,
        found[names.samples].topic_id,
        found[names.splits].topic_id,
        found[names.samples].partitions,
    )


class Committer:
    """Worker 0's side of the protocol. Making one fences the trainer before it, and clears what it staged."""

    def __init__(
        self,
        properties: Mapping[str, str],
        job: str,
        stream: Stream,
        store: CheckpointStore,
        *,
        owner: str = "nobody",
        on_wait: Callable[[str], None] = lambda _what: None,
    ) -> None:
        """owner: see CheckpointStore.take_over. on_wait(what) while the broker is away."""
        self._job = job
        self._stream = stream
        self._store = store
        store.claim()
        self._transactions = OffsetTransactions(
            properties, f"{job}.trainer", job, check=store.check_taken_over, on_wait=on_wait
        )
        failpoint("restore.fenced")
        store.clear_older(owner)

    def close(self) -> None:
        self._transactions.close()

    def restore(self) -> Checkpoint | None:
        """The checkpoint to start from; None to start from nothing. Settles a commit that a crash cut.

        Raises CheckpointMissing when the group's witness is of a checkpoint that is not on disk;
        TopicReplaced, PartitionsChanged, OtherCluster, StateMismatch when the checkpoint is of other topics;
        RetentionPassed when its offsets are no longer there.
        """
        witness, offset = self._witness()
        chosen = None
        for checkpoint, problem in self._store.newest():
            if not problem:
                chosen = checkpoint
                break
            log.error("checkpoint %s is PASSED OVER: %s", checkpoint.of, problem)
            if witness is not None and checkpoint.of == witness.of:
                witness = None  # it is there, but damaged: an older one may do
        if witness is not None and (chosen is None or chosen.of < witness.of):
            raise CheckpointMissing(
                f"group {self._job} has committed checkpoint {witness.of} (marker log offset {offset}), but "
                f"{self._store.root} has {'nothing newer than ' + str(chosen.of) if chosen else 'no checkpoint'}",
                remedy="Restore that directory or correct runner.model_save_path; to start anew use a new stream.job.",
            )
        manifest = chosen.manifest if chosen is not None else None
        if manifest is not None:
            check_topics(manifest, self._stream, self._job)
        self._check_offsets(manifest)
        if chosen is not None and manifest is not None:
            if witness is None or witness.digest != chosen.digest or offset != manifest.marker_offset:
                log.warning(
                    "checkpoint %s: the group's offsets are not its own (a crash before their commit, or they were "
                    "reset by hand); the checkpoint holds, they are rolled forward to it", chosen.of,
                )  # fmt: skip
                self._fence(manifest, chosen.digest)
                self._commit(manifest, chosen.digest)
            self._store.append_donefile(chosen.of, int(time.time()))
        self._store.settle_models(chosen.of if chosen else None, manifest.models if manifest else ())
        failpoint("restore.chosen")
        return chosen

    def publish(self, staged: Path, manifest: Manifest, staged_models: Mapping[ModelRef, Path]) -> Path:
        """Steps 2 (its manifest) to 6. staged_models: those of manifest.models, sealed, with their manifests.

        Raises Fenced before anything is visible, CheckpointError.
        """
        digest = self._store.put_manifest(staged, manifest)
        failpoint("commit.manifest")
        self._fence(manifest, digest)
        failpoint("commit.fenced")
        for model, directory in staged_models.items():
            self._store.publish_model(directory, model)
        path = self._store.publish(staged, manifest.of)
        failpoint("commit.renamed")
        self._commit(manifest, digest)
        failpoint("commit.committed")
        self._store.append_donefile(manifest.of, int(time.time()))
        if manifest.models:
            self._store.list_models(manifest.models)
        failpoint("commit.done")
        return path

    def _witness(self) -> tuple[Witness | None, int]:
        key = (self._stream.names.splits, 0)
        offset, metadata = clients.committed(self._transactions.group, [key]).get(key, (-1, None))
        return Witness.decode(metadata), offset

    def _fence(self, manifest: Manifest, digest: str) -> None:
        """The transaction's offsets: where the next pass starts, with the manifest's digest."""
        names = self._stream.names
        offsets = {(names.samples, int(p)): o for p, o in manifest.offsets.items()}
        offsets[names.splits, 0] = manifest.marker_offset
        self._transactions.put(offsets, Witness(manifest.day, manifest.pass_id, digest).encode())

    def _commit(self, manifest: Manifest, digest: str) -> None:
        """An aborted transaction is made once more, since the checkpoint already stands."""
        if not self._transactions.commit():
            self._fence(manifest, digest)
            if not self._transactions.commit():
                raise KafkaError(
                    f"the broker aborted the commit of checkpoint {manifest.of} twice",
                    remedy="The checkpoint stands; a restart commits it. Look at the broker's log.",
                )

    def _check_offsets(self, manifest: Manifest | None) -> None:
        names = self._stream.names
        partitions = range(self._stream.partitions)
        needed = {(names.samples, p): int(manifest.offsets[str(p)]) if manifest else 0 for p in partitions}
        needed[names.splits, 0] = manifest.marker_offset if manifest else 0
        for (topic, partition), offset in needed.items():
            low, high = topics.watermarks(self._transactions.group, topic, [partition])[partition]
            if not low <= offset <= high:
                raise RetentionPassed(
                    f"topic {topic}, partition {partition}: offset {offset} is needed, the topic has {low} to {high}",
                    remedy="Retention has passed it: restore the topic, or start a new stream.job with a new "
                    "runner.model_save_path.",
                )


def check_topics(manifest: Manifest, stream: Stream, job: str) -> None:
    """Raises OtherCluster, TopicReplaced, PartitionsChanged or StateMismatch when `manifest` is not of `stream`."""
    remedy = "start a new stream.job with a new runner.model_save_path."
    of = f"checkpoint {manifest.of}"
    if manifest.job != job:
        raise StateMismatch(f"{of} is of job {manifest.job}, stream.job is {job}", remedy="Correct one of the two.")
    if manifest.cluster_id != stream.cluster_id:
        raise OtherCluster(
            f"{of} was made with cluster_id {manifest.cluster_id}, found {stream.cluster_id}",
            remedy=f"Correct kafka.bootstrap.servers, or {remedy}",
        )
    pairs = (
        (stream.names.samples, manifest.samples_topic_id, stream.samples_topic_id),
        (stream.names.splits, manifest.splits_topic_id, stream.splits_topic_id),
    )
    for name, expected, found in pairs:
        if expected != found:
            raise TopicReplaced(
                f"{of} was made with topic {name} of id {expected}, found id {found}",
                remedy=f"The topic was deleted and made anew: {remedy}",
            )
    if manifest.partitions != stream.partitions:
        raise PartitionsChanged(
            f"{of} was made with {manifest.partitions} partitions of {stream.names.samples}, found {stream.partitions}",
            remedy=f"Rows would go to other workers: {remedy}",
        )


def refuse_lost_topics(store: CheckpointStore, found: Collection[str], names: TopicNames) -> None:
    """Raises TopicReplaced when there are checkpoints, but the topics that they are of are gone.

    Called before the topics are made: all logs would be bridged again, for a trainer that must refuse them.
    """
    manifests = [c.manifest for c in store.list() if c.manifest is not None]
    missing = [n for n in (names.samples, names.splits) if n not in found]
    if manifests and manifests[-1].job == names.job and missing:
        raise TopicReplaced(
            f"topic {missing[0]} does not exist, but checkpoint {manifests[-1].of} in {store.root} was made with it",
            remedy="It was deleted: restore it, or start a new stream.job with a new runner.model_save_path.",
        )
