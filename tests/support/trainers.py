"""A trainer without Paddle and Kafka: the real Committer and the real stores, a model that is the list of its rows."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from streamtrain.checkpoint.commit import Committer
from streamtrain.checkpoint.journal import PassRecord
from streamtrain.checkpoint.remote_runs import RemoteRuns
from streamtrain.checkpoint.runs import Run
from streamtrain.checkpoint.store import CheckpointStore, put_manifest, seal
from streamtrain.contracts.inference_models import Feed, ModelManifest
from streamtrain.contracts.manifest import Manifest, ModelRef
from streamtrain.errors import CheckpointError
from streamtrain.locations import Location
from streamtrain.object_store import ObjectStore
from streamtrain.schedule import PassId, Schedule
from streamtrain.training.position import Position
from tests.support.crashes import reached
from tests.support.offset_log import Group, ListOffsetLog

ROWS = "rows.json"  # in a checkpoint: the model
SCHEDULE = Schedule(360, 2, "20240101", "20240102")


class Trainer:
    """One run of worker 0. committer: Committer, or a mutant of it. store: where checkpoints are, beside `root`."""

    def __init__(
        self,
        root: Path,
        group: Group,
        schedule: Schedule,
        committer: Callable[..., Committer] = Committer,
        store: Location | None = None,
    ) -> None:
        self._group = group
        self._schedule = schedule
        self.run = Run(root, RemoteRuns(ObjectStore(store)) if store is not None else None)
        self.store = CheckpointStore(root, self.run)
        log = ListOffsetLog(group, self.run.check_newest, reached)
        self.committer = committer(group.topics, self.run, log)
        self.rows: list[int] = []
        self.position = Position(offsets=dict.fromkeys(range(group.topics.partitions), 0))
        self.last: PassId | None = None
        self.digest: str | None = None

    def start(self) -> None:
        """Fences the trainer before this one and loads the checkpoint that the committer chooses."""
        self.committer.take_over()
        chosen = self.committer.restore()
        if chosen is not None and chosen.manifest is not None:
            self.rows = json.loads((chosen.path / ROWS).read_text())
            self.last = chosen.manifest.id
            number = self._schedule.pass_index(self.last) + 1
            self.position = Position.of_manifest(chosen.manifest, number)
            self.digest = chosen.digest

    def save(self, *, with_model: bool) -> None:
        """A checkpoint of the last pass, with an inference model if asked for."""
        assert self.last is not None
        try:
            self._save(self.last, with_model=with_model)
        except (CheckpointError, OSError):  # OSError: of the rows, which the real engine saves
            self.run.check_newest()  # as the real trainer does: a newer one has cleared its files
            raise

    def _save(self, pass_id: PassId, *, with_model: bool) -> None:
        staged = self.store.stage(pass_id)
        (staged / ROWS).write_text(json.dumps(self.rows))
        files = seal(staged)
        models = self._stage_model(pass_id) if with_model else {}
        topics = self._group.topics
        manifest = Manifest(
            job=topics.names.job,
            day=pass_id.day,
            pass_id=pass_id.pass_id,
            marker_offset=self.position.marker_offset,
            offsets={str(p): o for p, o in (self.position.offsets or {}).items()},
            samples_topic_id=topics.samples_topic_id,
            splits_topic_id=topics.splits_topic_id,
            cluster_id=topics.cluster_id,
            partitions=topics.partitions,
            rows=self.position.rows,
            keys=len(self.rows),
            metrics=asdict(PassRecord(pass_id.day, pass_id.pass_id, 2, None, None, 0.0, 0.0, 0.0, 0.0)),
            config_sha256="",
            program="",
            created="2024-01-01T00:00:00+00:00",
            files=files,
            models=tuple(models),
        )
        self.committer.publish(staged, manifest, models)

    def _stage_model(self, pass_id: PassId) -> dict[ModelRef, Path]:
        path = self.run.empty(f"model-{pass_id.day}-{pass_id.pass_id}")
        (path / ROWS).write_text(json.dumps(self.rows))
        manifest = ModelManifest(
            job=self._group.topics.names.job,
            day=pass_id.day,
            pass_id=pass_id.pass_id,
            kind="full",
            base=None,
            previous=None,
            checkpoint=pass_id,
            keys=len(self.rows),
            deleted=0,
            width=1,
            feeds=(Feed(2, "x"),),
            target="y",
            variables=(),
            dense=(),
            thresholds=None,
            rows=self.position.rows,
            event_time="",
            metrics={},
            created="2024-01-01T00:00:00+00:00",
            program="",
            config_sha256="",
            files=seal(path),
        )
        return {ModelRef(pass_id.day, pass_id.pass_id, put_manifest(path, manifest)): path}


def seen_by_others(root: Path) -> dict[str, bytes]:
    """Every file below `root` but those of runs."""
    shown = {str(p.relative_to(root)): p.read_bytes() for p in root.rglob("*") if p.is_file()}
    return {name: data for name, data in shown.items() if not name.startswith(".staging")}


def started(root: Path, group: Group, store: Location | None = None) -> Trainer:
    """A trainer of SCHEDULE that has taken over and loaded what the committer chose."""
    trainer = Trainer(root, group, SCHEDULE, store=store)
    trainer.start()
    return trainer
