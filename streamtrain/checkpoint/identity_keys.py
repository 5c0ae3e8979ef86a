"""What a config says of its job, by dotted keys: those that may not change, and those that may.

Whoever adds a key to fixed_keys() leaves it out where it says what earlier versions did: their checkpoints lack it, and
a key that only one side has is a difference.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from streamtrain.config import JobConfig
from streamtrain.contracts.identity import flat
from streamtrain.contracts.line_format import WITH_HEADER
from streamtrain.contracts.row_layout import CLICK
from streamtrain.contracts.table_text import CTR_DEFAULTS, DEFAULT_ACCESSOR, DEFAULT_SHARDS, TableColumns, rule_of
from streamtrain.files import names, read_bytes

#: What the recount repeats.
_DECAY = ("show_click_decay_rate", "delete_threshold", "delete_after_unseen_days")


def fixed_keys(config: JobConfig) -> dict[str, Any]:
    """What may not change in a job, by dotted key, as understood: a default that is written out is the same."""
    stream, runner = config.stream, config.runner
    hyper = config.raw.get("hyper_parameters") or {}
    optimizer = hyper.get("optimizer")
    fixed: dict[str, Any] = {
        "runner.split_interval": runner.split_interval,
        "runner.split_per_pass": runner.split_per_pass,
        "runner.start_day": runner.start_day,
        "stream.job": stream.job,
        "stream.partitions": stream.partitions,
        "stream.format": stream.format,
        "stream.unknown_slot": stream.unknown_slot,
        "stream.slots": list(config.slots),
        "hyper_parameters.adam_d2sum": bool(hyper.get("adam_d2sum", True)),
        **_fixed_of_rows(config),
    }
    if isinstance(optimizer, Mapping) and "class" in optimizer:
        fixed["hyper_parameters.optimizer.class"] = optimizer["class"]
    for name, table in sorted((config.raw.get("table_parameters") or {}).items()):
        fixed["table_parameters"] = f"{fixed['table_parameters']}, {name}" if "table_parameters" in fixed else name
        fixed.update({f"table_parameters.{name}.{key}": value for key, value in _fixed_of_table(table).items()})
    return fixed


def _fixed_of_rows(config: JobConfig) -> dict[str, Any]:
    """What rows have beside slots and one label: left out where they have nothing more, as versions before 0.4.0 do."""
    stream = config.stream
    layout = config.layout
    fixed: dict[str, Any] = {}
    if stream.features:
        fixed["stream.features"] = [f"{name}: {number}" for name, number in stream.features.items()]
    if layout.has_values or layout.labels != CLICK:
        fixed["stream.labels"] = [f"{name}: {kind}" for name, kind in stream.labels.items()]
        fixed["stream.dense"] = [f"{name}: {width}" for name, width in stream.dense.items()]
        fixed["stream.weight"] = stream.weight
    if stream.feed_order is not None:
        fixed["stream.feed_order"] = list(stream.feed_order)
    if stream.columns is not None:
        parts = stream.columns.identity(layout)
        fixed.update({f"stream.columns.{key}": value for key, value in parts.items()})
        if stream.format in WITH_HEADER:
            fixed["stream.header"] = stream.header
    return fixed


def _fixed_of_table(table: Mapping[str, Any]) -> dict[str, Any]:
    accessor = table.get("accessor") or {}
    thresholds = accessor.get("ctr_accessor_param") or {}
    columns = TableColumns.of_accessor(accessor)
    return {
        "shard_num": int(table.get("shard_num", DEFAULT_SHARDS)),
        "accessor.accessor_class": str(accessor.get("accessor_class", DEFAULT_ACCESSOR)),
        "accessor.embedx_dim": columns.embedx_dim,
        "accessor.embed_sgd_param.name": rule_of(accessor, "embed_sgd_param"),
        "accessor.embedx_sgd_param.name": rule_of(accessor, "embedx_sgd_param"),
        **{f"accessor.ctr_accessor_param.{key}": float(thresholds.get(key, CTR_DEFAULTS[key])) for key in _DECAY},
    }


def free_keys(config: JobConfig) -> dict[str, Any]:
    """All other keys: what may change."""
    fixed = fixed_keys(config)
    leaves = {**flat(config.masked()), _SOURCES: _digest_of_sources(config.model_dir)}
    known = {*fixed, *_SAME_AS_FIXED}
    return {key: value for key, value in leaves.items() if key not in known and not key.startswith(_OF_ROWS)}


#: Keys whose meaning is in fixed_keys() under another name, or which depend on them.
_SAME_AS_FIXED = frozenset({"hyper_parameters.slot_num"})
#: Begins the keys that say what rows have: in fixed_keys(), where they say more than the default does.
_OF_ROWS = (
    "stream.features", "stream.labels", "stream.dense", "stream.weight", "stream.feed_order", "stream.columns",
    "stream.header",
)  # fmt: skip
#: The digest of the model's source files stands among the keys under this name.
_SOURCES = "runner.model_dir/*.py"


def _digest_of_sources(folder: Path) -> str:
    """Of static_model.py and the modules beside it: names and content. Raises Unreadable."""
    digest = hashlib.sha256()
    for name in names(folder):
        if name.endswith(".py") and (folder / name).is_file():
            with contextlib.suppress(FileNotFoundError):
                digest.update(os.fsencode(name) + b"\0" + hashlib.sha256(read_bytes(folder / name)).digest())
    return f"sha256 {digest.hexdigest()[:16]}"
