"""The commit protocol: a checkpoint and the stream's position become one.

1. all workers are done, all pushes applied                (the trainer's barrier)
2. stage: files, manifest.json; fsync files and directories
3. fence: in a transaction of `<job>.trainer`, the group's offsets with the manifest's digest; a trainer
   that a newer one has replaced fails here, before anything is visible
4. rename to {day}/{pass_id}: the commit point
5. commit the transaction; a restart that finds 4 without 5 rolls it forward
6. donefile.txt, by atomic replace
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import confluent_kafka as ck

from streamtrain.checkpoint.manifest import Manifest, Witness
from streamtrain.checkpoint.store import Checkpoint, CheckpointStore
from streamtrain.errors import StateMismatch, TopicMismatch
from streamtrain.kafka import clients, topics
from streamtrain.kafka.topics import TopicNames

log = logging.getLogger("streamtrain.checkpoint")


@dataclass(frozen=True)
class Stream:
    """The topics of a job as they are now."""

    names: TopicNames
    cluster_id: str
    samples_topic_id: str
    splits_topic_id: str
    partitions: int


def look_at_stream(properties: Mapping[str, str], names: TopicNames, stop: threading.Event) -> Stream | None:
    """Waits for the cluster and for the job's topics, which the bridge makes; None when stopped before."""
    cluster = clients.wait_for_cluster(properties, None, lambda s: log.warning("waiting for Kafka, %.0f s so far", s))
    client = clients.admin(properties)
    said = False
    while not {names.samples, names.splits} <= set(found := topics.find(client, names)):
        if not said:
            log.info("waiting for the bridge to make the topics %s and %s", names.samples, names.splits)
            said = True
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
    """Worker 0's side of the protocol. Making one fences the trainer before it."""

    def __init__(self, properties: Mapping[str, str], job: str, stream: Stream, store: CheckpointStore) -> None:
        self._job = job
        self._stream = stream
        self._store = store
        self._producer: Any = clients.producer(properties, f"{job}.trainer")
        try:
            self._producer.init_transactions(60)
        except ck.KafkaException as error:
            raise clients.translate(error, f"starting the trainer's transactions ({job}.trainer)") from error
        self._group: Any = clients.reader(properties, job)

    def close(self) -> None:
        self._group.close()

    def restore(self) -> Checkpoint | None:
        """The checkpoint to start from; None to start from nothing. Settles a commit that a crash cut.

        Raises StateMismatch when the group's witness is of a checkpoint that is not on disk, or when the
        checkpoint is of other topics; TopicMismatch when its offsets are no longer there.
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
            raise StateMismatch(
                f"group {self._job} has committed checkpoint {witness.of} (marker log offset {offset}), but "
                f"{self._store.root} has {'nothing newer than ' + str(chosen.of) if chosen else 'no checkpoint'}",
                remedy="Restore that directory or correct runner.model_save_path; to start anew use a new stream.job.",
            )
        self._check_offsets(chosen)
        if chosen is not None and chosen.manifest is not None:
            self._check_topics(chosen.manifest)
            if witness is None or witness.digest != chosen.digest:
                log.warning("checkpoint %s: its commit is rolled forward", chosen.of)
                self._fence(chosen.manifest, chosen.digest)
                self._commit()
            self._store.append_donefile(chosen.of, int(time.time()))
        return chosen

    def publish(self, staged: Path, manifest: Manifest) -> Path:
        """Steps 2 (its manifest) to 6. Raises Fenced before anything is visible, CheckpointError."""
        digest = self._store.put_manifest(staged, manifest)
        self._fence(manifest, digest)
        path = self._store.publish(staged, manifest.of)
        self._commit()
        self._store.append_donefile(manifest.of, int(time.time()))
        return path

    def _witness(self) -> tuple[Witness | None, int]:
        key = (self._stream.names.splits, 0)
        offset, metadata = clients.committed(self._group, [key]).get(key, (-1, None))
        return Witness.decode(metadata), offset

    def _fence(self, manifest: Manifest, digest: str) -> None:
        names = self._stream.names
        offsets = {(names.samples, int(p)): o for p, o in manifest.offsets.items()}
        offsets[names.splits, 0] = manifest.marker_offset
        try:
            self._producer.begin_transaction()
            witness = Witness(manifest.day, manifest.pass_id, digest)
            clients.send_offsets(self._producer, self._group, offsets, witness.encode())
        except ck.KafkaException as error:
            raise clients.translate(error, f"committing the offsets of group {self._job}") from error

    def _commit(self) -> None:
        try:
            self._producer.commit_transaction(60)
        except ck.KafkaException as error:
            raise clients.translate(error, f"committing the offsets of group {self._job}") from error

    def _check_topics(self, manifest: Manifest) -> None:
        found = {
            "samples_topic_id": self._stream.samples_topic_id,
            "splits_topic_id": self._stream.splits_topic_id,
            "cluster_id": self._stream.cluster_id,
            "partitions": self._stream.partitions,
            "job": self._job,
        }
        for key, value in found.items():
            if getattr(manifest, key) != value:
                raise StateMismatch(
                    f"checkpoint {manifest.of} was made with {key} {getattr(manifest, key)}, found {value}",
                    remedy="Its topics were made anew or changed: restore them, or start a new stream.job "
                    "with a new runner.model_save_path.",
                )

    def _check_offsets(self, checkpoint: Checkpoint | None) -> None:
        manifest = checkpoint.manifest if checkpoint else None
        partitions = range(self._stream.partitions)
        needed = (
            {p: int(manifest.offsets[str(p)]) if manifest else 0 for p in partitions}
            if (manifest is None or manifest.partitions == self._stream.partitions)
            else {}
        )
        marks = topics.watermarks(self._group, self._stream.names.samples, list(needed))
        for partition, offset in needed.items():
            low, high = marks[partition]
            if not low <= offset <= high:
                raise TopicMismatch(
                    f"topic {self._stream.names.samples}, partition {partition}: offset {offset} is needed, the "
                    f"topic has {low} to {high}",
                    remedy="Retention has passed it or the topic was made anew: restore it, or start a new stream.job.",
                )
