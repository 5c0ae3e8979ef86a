"""Row, what a parse function of the user's may return."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

Number: TypeAlias = float | int


@dataclass(frozen=True, kw_only=True)
class Row:
    """A row by names: those of stream.labels, stream.dense and stream.features.

    labels: of a job with one label its value, else each label's by its name. features: feasigns, whole numbers from 0
    to 2^64-1, by the name or the number of their slot; one alone needs no list. dense: floats by name, one alone needs
    no list. weight: where stream.weight names one. slots and feasigns, as many of both, may stand in place of features.

        streamtrain.Row(labels={"click": 1, "dwell": 3.5}, features={"user": 12, 3: [5, 6]}, dense={"price": 0.99})

    Nothing is checked here: the bridge rejects a line whose row lacks a label or a float, or has one too many.
    """

    labels: Number | Mapping[str, Number]
    features: Mapping[str | int, int | Iterable[int]] = field(default_factory=dict)
    dense: Mapping[str, Number | Sequence[Number]] = field(default_factory=dict)
    weight: Number = 1.0
    slots: Any = None
    feasigns: Any = None
