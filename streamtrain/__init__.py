"""Streamtrain: click-through-rate models trained from Kafka, each row exactly once.

The names of `__all__` are the public ones; docs/python.md shows their use. They are imported at their first use, so
that `import streamtrain` needs neither Paddle nor Kafka. Every other module may change between versions.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from streamtrain.config import JobConfig, load_config
    from streamtrain.contracts.hashing import feasign_of
    from streamtrain.contracts.user_row import Row
    from streamtrain.dumps import read_dump
    from streamtrain.errors import (
        BadModel,
        BrokerUnavailable,
        CheckpointError,
        CheckpointMissing,
        ChildFailed,
        ConfigError,
        DataError,
        DiskError,
        Fenced,
        JobChanged,
        KafkaError,
        NoneUsable,
        NotAllowed,
        OtherCluster,
        PartitionsChanged,
        PeerLost,
        RetentionPassed,
        StateMismatch,
        StreamtrainError,
        TopicMismatch,
        TopicReplaced,
        TrainingError,
        UnknownFormat,
        Unreadable,
    )
    from streamtrain.proof.job import recount_job as recount
    from streamtrain.proof.recount import Recount
    from streamtrain.serving.predictor import Predictor

__version__ = "0.4.0"

__all__ = [
    "BadModel",
    "BrokerUnavailable",
    "CheckpointError",
    "CheckpointMissing",
    "ChildFailed",
    "ConfigError",
    "DataError",
    "DiskError",
    "Fenced",
    "JobChanged",
    "JobConfig",
    "KafkaError",
    "NoneUsable",
    "NotAllowed",
    "OtherCluster",
    "PartitionsChanged",
    "PeerLost",
    "Predictor",
    "Recount",
    "RetentionPassed",
    "Row",
    "StateMismatch",
    "StreamtrainError",
    "TopicMismatch",
    "TopicReplaced",
    "TrainingError",
    "UnknownFormat",
    "Unreadable",
    "feasign_of",
    "load_config",
    "read_dump",
    "recount",
]

#: Where the names are defined that are not errors, and under which name.
_HOMES = {
    "JobConfig": ("streamtrain.config", "JobConfig"),
    "Predictor": ("streamtrain.serving.predictor", "Predictor"),
    "Recount": ("streamtrain.proof.recount", "Recount"),
    "Row": ("streamtrain.contracts.user_row", "Row"),
    "feasign_of": ("streamtrain.contracts.hashing", "feasign_of"),
    "load_config": ("streamtrain.config", "load_config"),
    "read_dump": ("streamtrain.dumps", "read_dump"),
    "recount": ("streamtrain.proof.job", "recount_job"),
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'streamtrain' has no attribute {name!r}")
    module, attribute = _HOMES.get(name, ("streamtrain.errors", name))
    value = getattr(importlib.import_module(module), attribute)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
