"""Rows as Paddle's MultiSlot text: for each feed a count and as many values.

The feeds are show (always 1), click (the label), then the model's slots in order. A slot that a row lacks is `1 0`:
Paddle reads 0 as padding.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import orjson

from streamtrain.contracts.sample import SampleBatch

_TO_BLANKS = bytes.maketrans(b",", b" ")


class MultiSlotWriter:
    """Turns batches into text for the given slots; features of other slots are dropped."""

    def __init__(self, slots: Sequence[int]) -> None:
        self._width = len(slots)
        self._index = np.full(1 << 16, -1, np.int64)
        self._index[np.array(slots, np.int64)] = np.arange(len(slots))

    def text(self, batch: SampleBatch, ins_ids: Sequence[bytes] | None = None) -> bytes:
        """One line a row, each ended by a newline. Rows' features may have any order of slots.

        ins_ids: one a row, without blanks; they go before their rows, as `1 <id> `.

        One count over (row, slot) says where each slot's values go in one array of all numbers.
        """
        n, width = len(batch), self._width
        if not n:
            return b""
        row = np.repeat(np.arange(n), batch.counts)
        index = self._index[batch.slots]
        keep = (index >= 0) & (batch.feasigns != 0)
        cell = (row * width + index)[keep]
        feasigns = batch.feasigns[keep]
        if cell.size and (cell[1:] < cell[:-1]).any():
            order = np.argsort(cell, kind="stable")
            cell, feasigns = cell[order], feasigns[order]
        counts = np.bincount(cell, minlength=n * width)
        shown = np.maximum(counts, 1)
        ends = np.cumsum(shown + 1)
        starts = ends - shown - 1
        numbers = np.zeros(int(ends[-1]), np.uint64)
        numbers[starts] = shown
        first = np.cumsum(counts) - counts
        numbers[starts[cell] + 1 + np.arange(cell.size) - first[cell]] = feasigns
        row_ends = ends[width - 1 :: width].tolist()
        lines, begin = [], 0
        for label, end in zip(batch.labels.tolist(), row_ends, strict=True):
            body = orjson.dumps(numbers[begin:end], option=orjson.OPT_SERIALIZE_NUMPY)
            lines.append(b"1 1 1 %d %b\n" % (label, body[1:-1].translate(_TO_BLANKS)))
            begin = end
        if ins_ids is not None:
            lines = [b"1 %b %b" % pair for pair in zip(ins_ids, lines, strict=True)]
        return b"".join(lines)
