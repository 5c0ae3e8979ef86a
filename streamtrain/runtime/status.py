"""How far a job is: bridged, trained, the lag between, what its parts are doing, what holds readers back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from streamtrain.checkpoint.journal import Journal
from streamtrain.checkpoint.published import PublishedModels
from streamtrain.checkpoint.store import CheckpointStore
from streamtrain.config import JobConfig
from streamtrain.contracts import reports
from streamtrain.kafka.clients import admin
from streamtrain.kafka.marker_log import MarkerLog
from streamtrain.kafka.open_transactions import OpenTransaction, open_transactions
from streamtrain.kafka.topics import TopicNames, find, reader_rights
from streamtrain.runtime import part_state
from streamtrain.runtime.part_state import PartState


@dataclass(frozen=True)
class Bridged:
    """split: the newest one, day/HHMM. rows, rejected: lines of all splits. of_splits: of the whole schedule."""

    split: str | None
    splits: int
    rows: int
    rejected: int
    of_splits: int


@dataclass(frozen=True)
class Trained:
    """pass_id: the newest one, day/pass_id, with its AUCs. of_passes: of the whole schedule."""

    pass_id: str | None
    passes: int
    rows: int
    of_passes: int
    predict_auc: float | None
    train_auc: float | None


@dataclass(frozen=True)
class Lag:
    """What is bridged and not trained; passes: whole ones."""

    splits: int
    passes: int
    rows: int


@dataclass(frozen=True)
class Saved:
    """The newest checkpoint, by its manifest."""

    pass_id: str
    rows: int
    keys: int
    created: str


@dataclass(frozen=True)
class JobStatus:
    """inference_model: the newest donefile line; consistency, upload: see contracts.reports; None where there is
    none."""

    job: str
    bridged: Bridged
    trained: Trained
    lag: Lag
    checkpoint: Saved | None
    inference_model: dict[str, Any] | None
    consistency: dict[str, Any] | None
    upload: dict[str, Any] | None

    def to_json(self) -> dict[str, Any]:
        """As `streamtrain status --json` prints it."""
        values = asdict(self)
        for section in ("trained", "checkpoint"):
            if values[section] is not None:
                values[section] = {"pass": values[section].pop("pass_id"), **values[section]}
        return values


def parts_status(config: JobConfig) -> list[PartState]:
    """What the bridge and the trainer are doing; it needs no Kafka."""
    return part_state.read(config.state_dir)


def held_back(config: JobConfig, properties: Mapping[str, str]) -> list[OpenTransaction]:
    """Open transactions in the job's topics, with what they hold back. Raises KafkaError or a subclass."""
    names = TopicNames(config.stream.job)
    return open_transactions(properties, find(admin(properties), names, reader_rights(names)))


def job_status(config: JobConfig, properties: Mapping[str, str]) -> JobStatus:
    """Reads the marker log to its end, the journal and model_save_path. Raises KafkaError or a subclass, and
    CheckpointError for a donefile that cannot be read."""
    schedule = config.schedule
    root = config.model_save_path
    records = Journal(root).read()
    last = records[-1] if records else None
    trained_splits = schedule.last_sequence(last.id) + 1 if last else 0
    with MarkerLog(properties, TopicNames(config.stream.job).splits, f"{config.stream.job}.status") as log:
        markers = [entry.marker for entry in log.to_end()]
    splits = [m for m in markers if m.revision == 0]
    rows = sum(m.rows for m in markers)
    trained_rows = sum(r.rows for r in records)
    checkpoint = CheckpointStore(root).newest()
    newest = checkpoint.manifest if checkpoint is not None else None
    models = sorted(PublishedModels(root).lines(), key=lambda line: line.published)
    return JobStatus(
        job=config.stream.job,
        bridged=Bridged(
            split=f"{splits[-1].day}/{splits[-1].time}" if splits else None,
            splits=len(splits),
            rows=rows,
            rejected=sum(m.rejected for m in markers),
            of_splits=schedule.total_splits,
        ),
        trained=Trained(
            pass_id=str(last.id) if last else None,
            passes=len(records),
            rows=trained_rows,
            of_passes=schedule.total_passes,
            predict_auc=last.predict_auc if last else None,
            train_auc=last.train_auc if last else None,
        ),
        lag=Lag(
            splits=max(0, len(splits) - trained_splits),
            passes=max(0, len(splits) // schedule.split_per_pass - len(records)),
            rows=max(0, rows - trained_rows),
        ),
        checkpoint=Saved(str(newest.id), newest.rows, newest.keys, newest.created) if newest else None,
        inference_model=models[-1].values if models else None,
        consistency=reports.read(root, reports.CONSISTENCY),
        upload=reports.read(root, reports.UPLOAD) if config.models_url is not None else None,
    )
