"""Where a job stands: bridged, trained, the lag between, what its parts are doing, what holds readers back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from streamtrain.checkpoint.journal import Journal
from streamtrain.checkpoint.published import PublishedModels
from streamtrain.checkpoint.store import CheckpointStore
from streamtrain.config import JobConfig
from streamtrain.contracts import reports
from streamtrain.kafka.clients import admin
from streamtrain.kafka.marker_log import MarkerLog
from streamtrain.kafka.open_transactions import open_transactions
from streamtrain.kafka.topics import TopicNames, find
from streamtrain.runtime import part_state


def parts_status(config: JobConfig) -> dict[str, Any]:
    """What the bridge and the trainer are doing, without Kafka: part -> {doing, since, pid, host, alive}."""
    return {
        p.part: {"doing": p.doing, "since": p.since, "pid": p.pid, "host": p.host, "alive": p.alive}
        for p in part_state.read(config.state_dir)
    }


def held_back(config: JobConfig, properties: Mapping[str, str]) -> list[dict[str, Any]]:
    """Open transactions in the job's topics, with what they hold back. Raises KafkaError's kin."""
    found = find(admin(properties), TopicNames(config.stream.job))
    return [asdict(t) for t in open_transactions(properties, found)]


def job_status(config: JobConfig, properties: Mapping[str, str]) -> dict[str, Any]:
    """bridged, trained, lag (splits, passes, rows), newest checkpoint and model, last AUCs. Raises KafkaError's kin."""
    schedule = config.schedule
    records = Journal(config.model_save_path).read()
    trained = records[-1] if records else None
    trained_splits = schedule.last_sequence(trained.of) + 1 if trained else 0
    with MarkerLog(properties, TopicNames(config.stream.job).splits, f"{config.stream.job}.status") as log:
        markers = [entry.marker for entry in log.to_end()]
    bridged = [m for m in markers if m.revision == 0]
    store = CheckpointStore(config.model_save_path)
    checkpoints = [c for c in store.list() if c.manifest]
    models = sorted(PublishedModels(config.model_save_path).lines(), key=lambda x: x.published)
    newest = checkpoints[-1].manifest if checkpoints else None
    return {
        "job": config.stream.job,
        "bridged": {
            "split": f"{bridged[-1].day}/{bridged[-1].time}" if bridged else None,
            "splits": len(bridged),
            "rows": sum(m.rows for m in markers),
            "rejected": sum(m.rejected for m in markers),
            "of_splits": schedule.total_splits,
        },
        "trained": {
            "pass": str(trained.of) if trained else None,
            "passes": len(records),
            "rows": sum(r.rows for r in records),
            "of_passes": schedule.total_passes,
            "predict_auc": trained.predict_auc if trained else None,
            "train_auc": trained.train_auc if trained else None,
        },
        "lag": {
            "splits": max(0, len(bridged) - trained_splits),
            "passes": max(0, len(bridged) // schedule.split_per_pass - len(records)),
            "rows": max(0, sum(m.rows for m in markers) - sum(r.rows for r in records)),
        },
        "checkpoint": {"pass": str(newest.of), "rows": newest.rows, "keys": newest.keys, "created": newest.created}
        if newest
        else None,
        "inference_model": models[-1].values if models else None,
        "consistency": reports.read(store.root, reports.CONSISTENCY),
        "upload": reports.read(store.root, reports.UPLOAD) if config.models_url is not None else None,
    }
