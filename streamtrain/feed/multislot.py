"""Rows as Paddle's MultiSlot text: for each feed of the network, in its order, a count and as many values.

Show is always 1. A slot that a row lacks is `1 0`: Paddle reads 0 as padding. Floats have as many digits as tell their
float32 from every other.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import groupby

import numpy as np
import numpy.typing as npt
import orjson

from streamtrain.contracts.network import NetworkFeed
from streamtrain.contracts.row_layout import EXACT_FLOAT32, RowLayout
from streamtrain.contracts.sample import SampleBatch, SampleValues

_TO_BLANKS = bytes.maketrans(b",", b" ")
#: The texts of a part of every row: of one feed, or of slots that follow one another.
_Part = Callable[[SampleBatch], list[bytes]]


class RowError(ValueError):
    """A row does not fit the network. index: its place in the batch."""

    def __init__(self, index: int, reason: str) -> None:
        super().__init__(reason)
        self.index = index


class MultiSlotWriter:
    """Turns batches into text for a network's feeds; what no feed reads is dropped."""

    def __init__(self, feeds: Sequence[NetworkFeed], layout: RowLayout) -> None:
        self._parts: list[_Part] = []
        for is_slot, group in groupby(feeds, key=lambda feed: feed.kind == "slot"):
            members = list(group)
            if is_slot:
                self._parts.append(_Slots(members))
            else:
                self._parts += [_part_of(feed, layout) for feed in members]

    def text(self, batch: SampleBatch, ins_ids: Sequence[bytes] | None = None) -> bytes:
        """One line a row, each ended by a newline. Rows' features may have any order of slots.

        ins_ids: one a row, without blanks; they go before their rows, as `1 <id> `. Raises RowError.
        """
        if not len(batch):
            return b""
        columns = [part(batch) for part in self._parts]
        lines = [b" ".join(row) for row in zip(*columns, strict=True)]
        if ins_ids is not None:
            lines = [b"1 %b %b" % pair for pair in zip(ins_ids, lines, strict=True)]
        lines.append(b"")
        return b"\n".join(lines)


def _part_of(feed: NetworkFeed, layout: RowLayout) -> _Part:
    """Of a feed that is no slot. Raises ValueError for one that the layout lacks."""
    if feed.kind == "show":
        text = b"1 1" if feed.integer else b"1 1.0"
        return lambda batch: [text] * len(batch)
    if feed.kind == "weight" and not layout.has_values:
        return lambda batch: [b"1 1.0"] * len(batch)
    if feed.kind == "weight":
        return _floats("weight", lambda values: values.weights[:, None], integer=False)
    if feed.kind == "label":
        names = [label.name for label in layout.labels]
        at = names.index(feed.name) if len(names) > 1 else 0
        if not layout.has_values:
            texts = (b"1 0", b"1 1")
            return lambda batch: [texts[label] for label in batch.labels.tolist()]
        return _floats(f"label {feed.name}", lambda values: values.labels[:, at : at + 1], integer=feed.integer)
    dense = next(dense for dense in layout.dense if dense.name == feed.name)
    return _floats(feed.name, lambda values: values.dense[:, dense.begin : dense.end], integer=feed.integer)


def _floats(name: str, of: Callable[[SampleValues], npt.NDArray[np.float32]], *, integer: bool) -> _Part:
    def texts(batch: SampleBatch) -> list[bytes]:
        assert batch.values is not None
        columns = np.ascontiguousarray(of(batch.values))
        if integer:
            wrong = np.flatnonzero((columns != np.floor(columns)) | (np.abs(columns) > EXACT_FLOAT32))
            if wrong.size:
                index = int(wrong[0]) // columns.shape[1]
                raise RowError(index, f"its {name} is {columns[index].tolist()}, the network reads whole numbers")
            columns = columns.astype(np.int64)
        count = b"%d " % columns.shape[1]
        return [
            count + orjson.dumps(row, option=orjson.OPT_SERIALIZE_NUMPY)[1:-1].translate(_TO_BLANKS) for row in columns
        ]

    return texts


class _Slots:
    """Slots that follow one another. A count over (row, slot) says where each slot's values go in one array of all
    numbers."""

    def __init__(self, feeds: Sequence[NetworkFeed]) -> None:
        self._feeds = feeds
        self._width = len(feeds)
        self._index = np.full(1 << 16, -1, np.int64)
        self._index[np.array([feed.slot for feed in feeds], np.int64)] = np.arange(len(feeds))
        #: Feasigns of a slot that is not a sequence, 0 of one that is.
        self._fixed = np.array([0 if feed.sequence else feed.width for feed in feeds], np.int64)

    def __call__(self, batch: SampleBatch) -> list[bytes]:
        n, width = len(batch), self._width
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
        if self._fixed.any():
            shown = self._of_fixed_width(counts, shown, n)
        ends = np.cumsum(shown + 1)
        starts = ends - shown - 1
        numbers = np.zeros(int(ends[-1]), np.uint64)
        numbers[starts] = shown
        first = np.cumsum(counts) - counts
        numbers[starts[cell] + 1 + np.arange(cell.size) - first[cell]] = feasigns
        texts, begin = [], 0
        for end in ends[width - 1 :: width].tolist():
            body = orjson.dumps(numbers[begin:end], option=orjson.OPT_SERIALIZE_NUMPY)
            texts.append(body[1:-1].translate(_TO_BLANKS))
            begin = end
        return texts

    def _of_fixed_width(
        self, counts: npt.NDArray[np.int64], shown: npt.NDArray[np.int64], rows: int
    ) -> npt.NDArray[np.int64]:
        """How many values each cell has: a slot that is not a sequence has its width, filled up with 0. Raises
        RowError for a row that has more."""
        fixed = np.tile(self._fixed, rows)
        wrong = np.flatnonzero((fixed > 0) & (counts > fixed))
        if wrong.size:
            row, place = divmod(int(wrong[0]), self._width)
            feed = self._feeds[place]
            raise RowError(
                row, f"it has {counts[wrong[0]]} feasigns of slot {feed.name}, the network reads {feed.width}"
            )
        return np.where(fixed > 0, fixed, shown)
