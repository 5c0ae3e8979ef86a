"""Rows to predict: from `feasign:slot` lines to columns, and from columns to the cells (row, slot) of a model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from streamtrain.errors import DataError
from streamtrain.serving.table import U64, Rows, Table

I64: TypeAlias = npt.NDArray[np.int64]

MAX_FEASIGN = 2**64 - 1
MAX_SLOT = 2**16 - 1
_DIGITS = b"0123456789"
_COLON = bytes.maketrans(b":", b" ")


@dataclass(frozen=True)
class Columns:
    """n rows: counts [n] (features a row), slots and feasigns [sum(counts)]."""

    counts: I64
    slots: npt.NDArray[Any]
    feasigns: U64

    def __len__(self) -> int:
        return len(self.counts)

    def part(self, begin: int, end: int) -> Columns:
        """Rows begin to end."""
        first = int(self.counts[:begin].sum())
        last = first + int(self.counts[begin:end].sum())
        return Columns(self.counts[begin:end], self.slots[first:last], self.feasigns[first:last])


def parse(lines: Sequence[str | bytes], first: int = 1, name: str = "line") -> Columns:
    """Lines of `feasign:slot` separated by blanks; one without any is a row without features.

    Raises DataError with the number of the first line that does not parse, counted from `first`, after `name`.
    """
    texts = [line.encode() if isinstance(line, str) else line for line in lines]
    shapes = [text.translate(None, _DIGITS) for text in texts]
    counts = np.array([(len(shape) + 1) // 2 for shape in shapes], np.int64)
    features = int(counts.sum())
    # every other form is left to the slow way, which knows the reason
    if not features or b" ".join([s for s in shapes if s]) != b" ".join([b":"] * features):
        return _parse_slowly(texts, first, name)
    if any(text and not shape for text, shape in zip(texts, shapes, strict=True)):  # a lone number
        return _parse_slowly(texts, first, name)
    numbers = np.fromstring(b" ".join(texts).translate(_COLON), np.uint64, sep=" ")
    feasigns, slots = numbers[0::2], numbers[1::2]
    # a missing number makes them fewer; one over 2^64-1 comes back as 2^64-1
    if len(numbers) != 2 * features or int(feasigns.max()) == MAX_FEASIGN:
        return _parse_slowly(texts, first, name)
    if not 1 <= int(slots.min()) <= int(slots.max()) <= MAX_SLOT:
        return _parse_slowly(texts, first, name)
    return Columns(counts, slots, feasigns)


def _parse_slowly(texts: Sequence[bytes], first: int, name: str) -> Columns:
    """The exact reason why a line is bad, or the columns of unusual but good ones (tabs, the greatest feasign)."""
    counts, slots, feasigns = [], [], []
    for number, text in enumerate(texts, first):
        tokens = text.split()
        for token in tokens:
            feasign, colon, slot = token.partition(b":")
            if not colon or not (feasign.isdigit() and slot.isdigit()):
                raise DataError(f"{name} {number}: {_show(token)} is not feasign:slot")
            # int() refuses more than 4,300 digits, and 20 are the most that 64 bits can have
            if len(feasign.lstrip(b"0")) > 20 or int(feasign) > MAX_FEASIGN:
                raise DataError(f"{name} {number}: feasign {_show(feasign)} is over 2^64-1")
            if len(slot.lstrip(b"0")) > 5 or not 1 <= int(slot) <= MAX_SLOT:
                raise DataError(f"{name} {number}: slot {_show(slot)} is not from 1 to {MAX_SLOT}")
            feasigns.append(int(feasign))
            slots.append(int(slot))
        counts.append(len(tokens))
    return Columns(np.array(counts, np.int64), np.array(slots, np.uint16), np.array(feasigns, np.uint64))


def _show(token: bytes) -> str:
    return repr(token[:40])[1:] + ("..." if len(token) > 40 else "")


class SlotIndex:
    """The place of each slot in a model; -1 for slots that it has not, and for the label's, 1."""

    def __init__(self, slots: Sequence[int]) -> None:
        self.size = len(slots)
        self._places = np.full(MAX_SLOT + 1, -1, np.int64)
        self._places[list(slots)] = np.arange(len(slots))

    def of(self, slots: npt.NDArray[Any]) -> I64:
        places: I64 = self._places[slots]
        return places


def cells(columns: Columns, index: SlotIndex, table: Table, *, slots_first: bool) -> tuple[Rows, I64]:
    """The table's rows of all feasigns by cell, and how many each cell has, at least 1: an empty one has one row of
    zeros. Feasign 0 counts as none, as in training.

    Cells are [rows, slots], or [slots, rows] with slots_first; counts come in that shape.
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
    begins = np.cumsum(counts) - counts
    rank = np.arange(cell.size) - begins[cell]  # which of its cell's feasigns
    shown = np.maximum(counts, 1).reshape(n, width)
    if slots_first:
        cell = (cell % width) * n + cell // width
        shown = np.ascontiguousarray(shown.T)
    begins = np.cumsum(shown.ravel()) - shown.ravel()
    rows: Rows = np.full(int(shown.sum()), len(table), np.intp)
    rows[begins[cell] + rank] = table.find(feasigns)
    return rows, shown
