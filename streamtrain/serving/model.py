"""A model ready to predict: table and network together, immutable."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from typing import Any

import numpy as np
import numpy.typing as npt

from streamtrain.engine.inference import F32, Evaluator, Network
from streamtrain.errors import CheckpointError, DataError
from streamtrain.serving.bundle import Bundle
from streamtrain.serving.rows import Columns, SlotIndex, cells
from streamtrain.serving.table import Table

#: Rows that go through the network at once: more would take memory and save no time.
BATCH = 1024


@dataclass(frozen=True)
class Version:
    """Identifies a model. event_time: end of the newest split in it, ISO 8601 with the offset of stream.timezone."""

    day: str
    pass_id: int
    digest: str
    event_time: str | None

    def __str__(self) -> str:
        return f"{self.day}/inference_model_{self.pass_id} ({self.digest[:12]})"

    @property
    def event_timestamp(self) -> float | None:
        """Seconds since 1970, None when it is not known; a time without an offset, as versions before 0.3.0 wrote it,
        is UTC."""
        try:
            time = datetime.fromisoformat(self.event_time or "")
            return (time if time.tzinfo else time.replace(tzinfo=timezone.utc)).timestamp()
        except (ValueError, OverflowError):
            return None

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


class Model:
    """A table and a network. threads: how many predict at once.

    Raises CheckpointError when Paddle refuses the network, or its prediction for an empty row is not a number.
    """

    def __init__(self, bundle: Bundle, table: Table, *, threads: int) -> None:
        manifest = bundle.manifest
        self.version = Version(manifest.day, manifest.pass_id, bundle.digest, manifest.event_time)
        self.rows = manifest.rows
        self.table = table
        slots = {feed.variable: feed.slot for feed in manifest.feeds}
        self._network = Network(bundle.program, bundle.params, [f.variable for f in manifest.feeds], threads=threads)
        self._index = SlotIndex([slots[variable] for variable in self._network.order])
        empty = np.zeros(0, np.uint64)
        if not np.isfinite(self.predict(Columns(np.zeros(1, np.int64), empty, empty))).all():
            raise CheckpointError(f"{self.version} does not predict a number for a row without features")

    def predict(self, columns: Columns) -> F32:
        """Predictions, [rows]."""
        if len(columns) <= BATCH:
            return self._predict(columns)
        parts = [self._predict(columns.part(i, i + BATCH)) for i in range(0, len(columns), BATCH)]
        return np.concatenate(parts)

    def _predict(self, columns: Columns) -> F32:
        if not len(columns):
            return np.zeros(0, np.float32)
        rows, counts = cells(columns, self._index, self.table, slots_first=not self._network.sums)
        if self._network.sums:
            sums = self.table.gather_sums(rows, counts.ravel())
            return self._network.run(sums.reshape(len(columns), -1), counts)
        return self._network.run(self.table.gather(rows), counts)


def evaluate(bundle: Bundle, table: Table, columns: Columns) -> dict[str, npt.NDArray[Any]]:
    """The model's `all_vars` and its target for these rows, by name, [rows, ..].

    For the consistency check: they are computed by another part of Paddle than Model uses, by the complete network.
    Raises CheckpointError when Paddle refuses it.
    """
    manifest = bundle.manifest
    evaluator = Evaluator(bundle.program, bundle.dense, [feed.variable for feed in manifest.feeds])
    index = SlotIndex([feed.slot for feed in manifest.feeds])
    rows, counts = cells(columns, index, table, slots_first=True)
    names = list(dict.fromkeys((*manifest.variables, manifest.target)))
    return dict(zip(names, evaluator.run(table.gather(rows), counts, names), strict=True))


def check_columns(columns: Columns) -> None:
    """Raises DataError when the columns' lengths do not fit, or a slot is out of range."""
    counts, slots, feasigns = columns.counts, columns.slots, columns.feasigns
    if counts.ndim != 1 or (counts.size and int(counts.min()) < 0):
        raise DataError("counts must be one number a row, at least 0")
    if not (slots.shape == feasigns.shape == (int(counts.sum()),)):
        raise DataError(
            f"counts say {int(counts.sum())} features, there are {slots.size} slots, {feasigns.size} feasigns"
        )
    if slots.size and not 0 <= int(slots.min()) <= int(slots.max()) <= 65535:
        raise DataError("a slot is not from 1 to 65535")
