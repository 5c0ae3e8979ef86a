"""A model ready to predict: table and network together, immutable."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from typing import Any

import numpy as np
import numpy.typing as npt

from streamtrain.contracts.metrics import recorded_labels
from streamtrain.engine.inference import F32, Evaluator, Network
from streamtrain.errors import CheckpointError, DataError
from streamtrain.serving.bundle import Bundle
from streamtrain.serving.inputs import Inputs
from streamtrain.serving.row_objects import RowForm
from streamtrain.serving.rows import Columns
from streamtrain.serving.table import Table

#: Rows that go through the network at once: more would take memory and save no time.
BATCH = 1024
#: Of the rows that a model is tried with.
_FLOATS = (0.0, 0.5, 1.0)


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
    """Tables and a network. threads: how many predict at once.

    Raises CheckpointError when Paddle refuses the network, or its prediction for an empty row is not a number.
    """

    def __init__(self, bundle: Bundle, tables: Mapping[str, Table], *, threads: int) -> None:
        manifest, served = bundle.manifest, bundle.network
        self.version = Version(manifest.day, manifest.pass_id, bundle.digest, manifest.event_time)
        self.rows = manifest.rows
        #: The metrics of the pass that it was published after, by label.
        self.metrics = recorded_labels(manifest.metrics.get("labels"))
        self.tables = tables
        self.form = RowForm(served)
        self.targets = tuple(target.name for target in served.targets)
        slots = [feed.variable for feed in served.slots]
        self._network = Network(
            bundle.program, bundle.params, slots, others=served.variables[len(slots) :], targets=len(self.targets),
            foldable=len(tables) == 1 and not any(served.lengths.values()), threads=threads,
        )  # fmt: skip
        self._inputs = Inputs(served, tables, self._network.order if self._network.sums else None)
        self._check()

    def _check(self) -> None:
        """Rows without features, with other floats each: a network may take the logarithm of one."""
        rows = len(_FLOATS) if self.form.dense else 1
        width = sum(feed.width for feed in self.form.dense)
        dense = np.repeat(np.array(_FLOATS, np.float32)[:, None], width, axis=1) if width else None
        empty = np.zeros(0, np.uint64)
        predictions = self.predict(Columns(np.zeros(rows, np.int64), empty, empty, dense))
        if not np.isfinite(predictions).any(axis=0).all():
            raise CheckpointError(f"{self.version} does not predict a number for a row without features")

    @property
    def keys(self) -> int:
        """Of all tables."""
        return sum(len(table) for table in self.tables.values())

    @property
    def nbytes(self) -> int:
        """Of all tables, in memory."""
        return sum(table.nbytes for table in self.tables.values())

    def predict(self, columns: Columns) -> F32:
        """Predictions, [rows, targets]."""
        if len(columns) <= BATCH:
            return self._predict(columns)
        parts = [self._predict(columns.part(i, i + BATCH)) for i in range(0, len(columns), BATCH)]
        return np.concatenate(parts)

    def _predict(self, columns: Columns) -> F32:
        if not len(columns):
            return np.zeros((0, len(self.targets)), np.float32)
        return self._network.run(self._inputs.of(columns), len(columns))


def evaluate(bundle: Bundle, tables: Mapping[str, Table], columns: Columns) -> dict[str, npt.NDArray[Any]]:
    """The model's `all_vars` and its targets' variables for these rows, by name, [rows, ..].

    For the consistency check: they are computed by another part of Paddle than Model uses, by the complete network.
    Raises CheckpointError when Paddle refuses it.
    """
    served = bundle.network
    evaluator = Evaluator(bundle.program, bundle.dense, served.variables)
    names = list(dict.fromkeys((*bundle.manifest.variables, *(target.variable for target in served.targets))))
    return dict(zip(names, evaluator.run(Inputs(served, tables).of(columns), names), strict=True))


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
