"""What a job's counts begin with at a warm start: the show, click and unseen_days that the source's keys had, as each
checkpoint keeps them. For the recount alone; what writes these files shares nothing with it.

    .warmup/<table>.counts    key uint64, show float32, click float32, unseen_days int32; little-endian, by key
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from streamtrain.errors import CheckpointError, Unreadable
from streamtrain.proof.days import Histories

_RECORD = np.dtype({"names": ["key", "show", "click", "unseen"], "formats": ["<u8", "<f4", "<f4", "<i4"]})


def begin(checkpoint: Path, table: str, histories: Histories) -> str:
    """Fills the histories of a table, which are empty. Returns why its counts cannot be proven, '' when they can: the
    job began from another model, whose counts the checkpoint lacks.

    Raises CheckpointError when they are damaged, Unreadable.
    """
    taken = _taken(checkpoint / "job.json")
    if taken is None or table not in taken:
        return ""
    keys, path = taken[table], checkpoint / ".warmup" / f"{table}.counts"
    try:
        if path.is_symlink() or path.parent.is_symlink() or not path.is_file():
            return f"table {table}, which began from another model: {path} with that model's counts is not there"
        data = path.read_bytes()
    except OSError as error:
        raise Unreadable(f"{path} cannot be read: {error.strerror}", remedy="Make it readable.") from error
    records = np.frombuffer(data, _RECORD) if len(data) % _RECORD.itemsize == 0 else None
    if records is None or len(records) != keys or (np.diff(records["key"]) == 0).any():
        raise CheckpointError(f"{path} is damaged: job.json says {keys} keys", remedy="Use an older checkpoint.")
    if not (np.isfinite(records["show"]).all() and np.isfinite(records["click"]).all()):
        raise CheckpointError(f"{path} has a show or click that is not a number", remedy="Use an older checkpoint.")
    histories.begin(
        records["key"].astype(np.uint64), records["show"].astype(np.float32), records["click"].astype(np.float32),
        records["unseen"].astype(np.int32),
    )  # fmt: skip
    return ""


def _taken(path: Path) -> dict[str, int] | None:
    """Keys that the job began with, by table; None for a job that began from nothing."""
    try:
        if not path.is_file():
            return None
        start = json.loads(path.read_bytes()).get("warmup")
        if start is None:
            return None
        parts = [part for part in start["parts"] if part["kind"] == "table" and part["taken"] != "no"]
        return {str(part["name"]): int(part["keys"]) for part in parts}
    except OSError as error:
        raise Unreadable(f"{path} cannot be read: {error.strerror}", remedy="Make it readable.") from error
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise CheckpointError(f"{path} cannot be read: {error!r}", remedy="Use an older checkpoint.") from error
