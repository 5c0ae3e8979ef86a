"""How far a job is: bridged, trained, the lag between, what its parts are doing, what holds readers back."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from streamtrain.checkpoint.identity import identity_of
from streamtrain.checkpoint.journal import Journal, PassRecord
from streamtrain.checkpoint.opening import Readable
from streamtrain.checkpoint.store import CheckpointStore
from streamtrain.config import JobConfig
from streamtrain.contracts import reports
from streamtrain.contracts.manifest import Manifest
from streamtrain.contracts.metrics import LabelMetrics
from streamtrain.contracts.warmup import WarmStart
from streamtrain.errors import BrokerUnavailable, StreamtrainError, TopicReplaced
from streamtrain.kafka.clients import admin
from streamtrain.kafka.marker_history import MarkerHistory, Totals, file_of, key_of, last_noted, read_on
from streamtrain.kafka.marker_log import MarkerLog
from streamtrain.kafka.open_transactions import OpenTransaction, open_transactions
from streamtrain.kafka.topics import TopicInfo, TopicNames, find, reader_rights
from streamtrain.runtime import part_state
from streamtrain.runtime.part_state import PartState
from streamtrain.schedule import PassId

#: Days of the journal that have the passes since the newest checkpoint.
RECENT_DAYS = 2


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
    """pass_id: the newest one, day/pass_id, with its AUCs and all metrics by label; those of versions before 0.4.0 have
    none. of_passes: of the whole schedule."""

    pass_id: str | None
    passes: int
    rows: int
    of_passes: int
    predict_auc: float | None
    train_auc: float | None
    labels: dict[str, LabelMetrics] = field(default_factory=dict)


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
    """started: whether the job has topics, or anything of it is on disk. without_kafka: why Kafka was not asked, None
    when it was: bridged and lag are then what the bridge last noted on this disk, None when it noted nothing.

    checkpoint: the newest one whose manifest can be read; checkpoint_problem: what is wrong with a newer one's.
    inference_model: the newest donefile line; consistency, upload: see contracts.reports. None where there is none.
    warm_start: what the job has begun from, by that checkpoint; None for nothing, or when it cannot be read.
    """

    job: str
    started: bool
    without_kafka: str | None
    bridged: Bridged | None
    trained: Trained
    lag: Lag | None
    checkpoint: Saved | None
    checkpoint_problem: str | None
    inference_model: dict[str, Any] | None
    consistency: dict[str, Any] | None
    upload: dict[str, Any] | None
    warm_start: WarmStart | None = None

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
    """What is new in the marker log, the journal's end and model_save_path. Raises KafkaError or a subclass, and
    CheckpointError for a donefile that cannot be read.

    It costs the same at every age of the job, but for the first time on a machine where no bridge runs.
    """
    names = TopicNames(config.stream.job)
    needed = {name: rights for name, rights in reader_rights(names).items() if name == names.splits}
    topics = find(admin(properties), names, needed)
    if not topics and not was_started(config):
        return _status(config, Totals(), started=False)
    return _status(config, _totals(config, properties, topics))


def status_on_disk(config: JobConfig, reason: str) -> JobStatus:
    """Without Kafka, which cannot be asked for the reason given: what the files say. Raises CheckpointError."""
    path = file_of(config.state_dir, config.stream.job)
    totals = last_noted(path, config.schedule) if path.exists() else None
    return _status(config, totals, started=was_started(config), without_kafka=reason)


def was_started(config: JobConfig) -> bool:
    """Whether anything on this disk, or the job's store, says that the job has bridged or trained something."""
    if file_of(config.state_dir, config.stream.job).exists():
        return True
    job = Readable(config)
    job.records(days=1)
    return (
        job.journal.newest() is not None
        or any(True for _ in job.checkpoints.ids_newest_first())
        or job.models.newest() is not None
    )


def _totals(config: JobConfig, properties: Mapping[str, str], topics: Mapping[str, TopicInfo]) -> Totals:
    """Of the marker log: the new markers are added to what the bridge, or an earlier call, has noted."""
    names = TopicNames(config.stream.job)
    if names.splits not in topics:
        raise TopicReplaced(
            f"topic {names.splits} does not exist",
            remedy="It was deleted: restore it, or start a new job (stream.job).",
        )
    key = key_of(topics[names.splits].topic_id, config.schedule)
    with (
        contextlib.closing(MarkerHistory(file_of(config.state_dir, names.job), key, read_only=True)) as of_bridge,
        contextlib.closing(MarkerHistory(file_of(config.state_dir, names.job, "status"), key)) as own,
    ):
        history = max(own, of_bridge, key=lambda h: h.totals.markers)
        with read_on(history, properties, names.splits, f"{names.job}.status", _refuse_silence) as entries:
            totals, newest = history.totals, None
            for entry in entries:
                totals, newest = totals.plus(entry.marker), entry
        if newest is not None:
            history.keep_newest(newest, totals)
    return totals


def _refuse_silence(log: MarkerLog) -> None:
    """status gives an answer, or says why there is none."""
    if log.away:
        raise BrokerUnavailable(
            "reading the marker log: the broker does not answer", remedy="Start it, or wait for it."
        )


def _status(
    config: JobConfig, totals: Totals | None, *, started: bool = True, without_kafka: str | None = None
) -> JobStatus:
    schedule, root = config.schedule, config.model_save_path
    job = Readable(config)
    newest, problem = _newest(job.checkpoints)
    job.records(days=0 if newest is not None and newest.untrained else RECENT_DAYS)
    trained = _trained(config, job.journal, newest)
    model = job.models.newest()
    return JobStatus(
        job=config.stream.job,
        started=started,
        without_kafka=without_kafka,
        bridged=Bridged(
            totals.newest or None, totals.splits, totals.rows, totals.rejected, schedule.total_splits
        ) if totals is not None else None,
        trained=trained,
        lag=Lag(
            splits=max(0, totals.splits - trained.passes * schedule.split_per_pass),
            passes=max(0, totals.splits // schedule.split_per_pass - trained.passes),
            rows=max(0, totals.rows - trained.rows),
        ) if totals is not None else None,
        checkpoint=Saved(str(newest.id), newest.rows, newest.keys, newest.created) if newest else None,
        checkpoint_problem=problem,
        inference_model=model.values if model else None,
        consistency=reports.read(root, reports.CONSISTENCY),
        upload=reports.read(root, reports.UPLOAD) if config.models is not None else None,
        warm_start=_warm_start(job.checkpoints, newest),
    )  # fmt: skip


def _warm_start(store: CheckpointStore, newest: Manifest | None) -> WarmStart | None:
    if newest is None:
        return None
    with contextlib.suppress(StreamtrainError):  # status says of a checkpoint what its manifest says
        identity = identity_of(store.read(newest.id))
        return identity.warmup if identity is not None else None
    return None


def _newest(store: CheckpointStore) -> tuple[Manifest | None, str | None]:
    """The newest manifest that can be read, and what is wrong with the newest checkpoint's, if that is not it."""
    wrong: str | None = None
    for pass_id in store.ids_newest_first():
        checkpoint = store.read(pass_id)
        if checkpoint.problem is None:
            return checkpoint.manifest, wrong
        wrong = wrong or f"checkpoint {pass_id} is {checkpoint.problem.kind}: {checkpoint.problem}"
    return None, wrong


def _trained(config: JobConfig, journal: Journal, newest: Manifest | None) -> Trained:
    """By the newest checkpoint's manifest, and the journal after it.

    Passes are trained in order from the first one, so the newest one tells how many there were.
    """
    later = journal.after(newest.id if newest is not None else None)
    rows = sum(record.rows for record in later)
    last = later[-1] if later else journal.newest()
    if newest is not None:
        rows += newest.rows + journal.rows_of([_pass_id(text) for text in newest.untrained])
        if last is None or last.id < newest.id:
            last = PassRecord.of_manifest(newest)
    last_id = last.id if last is not None else newest.id if newest is not None else None
    return Trained(
        pass_id=str(last_id) if last_id else None,
        passes=config.schedule.pass_index(last_id) + 1 if last_id else 0,
        rows=rows,
        of_passes=config.schedule.total_passes,
        predict_auc=last.predict_auc if last else None,
        train_auc=last.train_auc if last else None,
        labels=last.labels if last else {},
    )


def _pass_id(text: str) -> PassId:
    day, _, number = text.partition("/")
    return PassId(day, int(number))
