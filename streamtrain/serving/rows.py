"""Rows to predict: from `feasign:slot` lines to columns, and from columns to the cells (row, slot) of a model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from streamtrain.contracts.feature_text import I64, MAX_SLOT, U64, FeatureError, parse_lines
from streamtrain.errors import DataError
from streamtrain.serving.table import F32, Rows, Table


@dataclass(frozen=True)
class Columns:
    """n rows: counts [n] (features a row), slots and feasigns [sum(counts)]; dense [n, floats], in the order of the
    model's dense feeds, None when it has none."""

    counts: I64
    slots: npt.NDArray[Any]
    feasigns: U64
    dense: F32 | None = None

    def __len__(self) -> int:
        return len(self.counts)

    def part(self, begin: int, end: int) -> Columns:
        """Rows begin to end."""
        first = int(self.counts[:begin].sum())
        last = first + int(self.counts[begin:end].sum())
        dense = self.dense[begin:end] if self.dense is not None else None
        return Columns(self.counts[begin:end], self.slots[first:last], self.feasigns[first:last], dense)


def parse(lines: Sequence[str | bytes], first: int = 1, name: str = "line") -> Columns:
    """Lines of contracts.feature_text; one without any feature is a row without features.

    Raises DataError with the number of the first line that does not parse, counted from `first`, after `name`.
    """
    try:
        features = parse_lines([line.encode() if isinstance(line, str) else line for line in lines])
    except FeatureError as error:
        raise DataError(f"{name} {first + error.index}: {error}") from error
    return Columns(features.counts, features.slots, features.feasigns)


class SlotIndex:
    """The place of each slot in a model; -1 for slots that the model lacks, and for the label's, 1.

    least: how many vectors each slot has at least in a row, 1 by default.
    """

    def __init__(self, slots: Sequence[int], least: Sequence[int] | None = None) -> None:
        self.size = len(slots)
        self.least: I64 = np.ones(self.size, np.int64) if least is None else np.array(least, np.int64)
        self._places = np.full(MAX_SLOT + 1, -1, np.int64)
        self._places[list(slots)] = np.arange(len(slots))

    def of(self, slots: npt.NDArray[Any]) -> I64:
        places: I64 = self._places[slots]
        return places


def cells(columns: Columns, index: SlotIndex, table: Table, *, slots_first: bool) -> tuple[Rows, I64]:
    """The table's rows of all feasigns, ordered by cell and in it as they are in the columns, and how many each cell
    has: it is filled up with rows of zeros to `index.least`. Feasign 0 is ignored, as in training.

    Cells are [rows, slots], or [slots, rows] with slots_first; the counts have that shape.
    """
    n, width = len(columns), index.size
    place = index.of(columns.slots)
    keep = (place >= 0) & (columns.feasigns != 0)
    row = np.repeat(np.arange(n), columns.counts)
    feasigns = columns.feasigns
    if not keep.all():
        row, place, feasigns = row[keep], place[keep], feasigns[keep]
    cell = row * width + place
    if cell.size and (cell[1:] < cell[:-1]).any():
        order = np.argsort(cell, kind="stable")
        cell, feasigns = cell[order], feasigns[order]
    counts = np.bincount(cell, minlength=n * width)
    if not slots_first and (counts.reshape(n, width) >= index.least).all():  # nothing is filled up
        return table.find(feasigns), counts.reshape(n, width)
    begins = np.cumsum(counts) - counts
    rank = np.arange(cell.size) - begins[cell]  # which of its cell's feasigns
    shown = np.maximum(counts.reshape(n, width), index.least)
    if slots_first:
        cell = (cell % width) * n + cell // width
        shown = np.ascontiguousarray(shown.T)
    begins = np.cumsum(shown.ravel()) - shown.ravel()
    rows: Rows = np.full(int(shown.sum()), len(table), np.intp)
    rows[begins[cell] + rank] = table.find(feasigns)
    return rows, shown
