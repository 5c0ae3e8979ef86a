"""The sparse table of a served model: a vector a key, immutable."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

U64: TypeAlias = npt.NDArray[np.uint64]
F32: TypeAlias = npt.NDArray[np.float32]
Rows: TypeAlias = npt.NDArray[np.intp]

#: Odd, so that multiplying by it maps 64-bit keys onto themselves one to one, and spreads them over the high bits.
_SPREAD = np.uint64(0x9E3779B97F4A7C15)
_UNSPREAD = np.uint64(pow(int(_SPREAD), -1, 1 << 64))
_LAST = np.uint64(2**64 - 1)
#: Most marks that may share their high bits; in tables whose keys were not chosen for it 5 to 9 do.
_DEEPEST = 32


class _Index:
    """Sorted marks, and where the marks of each value of the high bits begin.

    A binary search misses the processor's cache twenty times a key among a million. Here the high bits give a mark's
    place, but for the few marks that share them, which are stepped over for all keys at once: ten times as fast.
    """

    def __init__(self, marks: U64) -> None:
        self.size = len(marks)
        bits = max(4, self.size.bit_length() + 1)  # two to four places a key
        self._shift = np.uint64(64 - bits)
        counts = np.bincount((marks >> self._shift).view(np.int64), minlength=1 << bits)
        self._starts: npt.NDArray[Any] = np.zeros(1 << bits, np.int32 if self.size < 1 << 31 else np.int64)
        np.cumsum(counts[:-1], out=self._starts[1:])
        self._depth = int(counts.max())
        self._marks = np.concatenate([marks, np.full(1, _LAST, np.uint64)])

    @property
    def marks(self) -> U64:
        return self._marks[: self.size]

    @property
    def nbytes(self) -> int:
        return self._marks.nbytes + self._starts.nbytes

    def find(self, marks: U64) -> Rows:
        """The place of each, self.size for those that the index lacks."""
        if self._depth > _DEEPEST:  # keys chosen to share their high bits
            rows: Rows = np.searchsorted(self.marks, marks)
            found = self._at(rows)
        else:
            rows = np.take(self._starts, (marks >> self._shift).view(np.int64), mode="clip").astype(np.intp)
            # step past smaller marks; fewer keys are left each time
            found = self._at(rows)
            left = np.flatnonzero(found < marks)
            at, wanted = np.take(rows, left), np.take(marks, left)
            while left.size:
                at += 1
                rows[left] = at
                found[left] = mark = self._at(at)
                smaller = np.flatnonzero(mark < wanted)
                left, at, wanted = np.take(left, smaller), np.take(at, smaller), np.take(wanted, smaller)
        rows[np.flatnonzero(found != marks)] = self.size
        return np.minimum(rows, self.size, out=rows)

    def _at(self, rows: Rows) -> U64:
        return np.take(self._marks, rows, mode="clip")


class Table:
    """Keys and their vectors, [n, width].

    Keys are stored as marks (key * _SPREAD, one to one). The last vector is zeros, that of every unknown key.
    """

    def __init__(self, index: _Index, values: F32) -> None:
        """values: [n + 1, width]."""
        self._index = index
        self._values = values
        # a vector as one item: gathered in half of the time
        self._vectors = values.view(np.dtype((np.void, 4 * values.shape[1]))).reshape(-1)

    @classmethod
    def empty(cls, width: int) -> Table:
        return cls.of(np.zeros(0, np.uint64), np.zeros((0, width), np.float32))

    @classmethod
    def of(cls, keys: U64, values: F32) -> Table:
        """keys: in any order; key 0 is left out, its vector is always zeros.

        Raises ValueError naming a key that occurs twice.
        """
        marks, order = _sorted(keys)
        kept = np.zeros((len(order) + 1, values.shape[1]), np.float32)
        np.take(values, order, axis=0, mode="clip", out=kept[:-1])
        return cls(_Index(marks), kept)

    def __len__(self) -> int:
        return self._index.size

    @property
    def width(self) -> int:
        return int(self._values.shape[1])

    @property
    def nbytes(self) -> int:
        return self._index.nbytes + self._values.nbytes

    def find(self, keys: U64) -> Rows:
        """Each key's row, for `gather`; len(self) for an unknown one and for key 0."""
        return self._index.find(keys * _SPREAD)

    def gather(self, rows: Rows) -> F32:
        """The vectors, [len(rows), width]."""
        vectors: F32 = np.take(self._vectors, rows, mode="clip").view(np.float32).reshape(len(rows), self.width)
        return vectors

    def gather_sums(self, rows: Rows, first: npt.NDArray[np.int64], counts: npt.NDArray[np.int64]) -> F32:
        """Sums of vectors, [len(counts), width]: the n-th of counts[n] rows from the place first[n] on.

        Each count is at least 1.
        """
        sums = self.gather(rows[first])
        records = sums.view(self._vectors.dtype).reshape(-1)
        several = np.flatnonzero(counts > 1)
        if not several.size:
            return sums
        if int(counts.max()) > 16:  # long ones are added up one by one
            long = np.flatnonzero(counts > 16)
            for cell in long.tolist():
                sums[cell] = self.gather(rows[first[cell] : first[cell] + counts[cell]]).sum(axis=0)
            several = several[counts[several] <= 16]
        place = 1
        while several.size:
            more = self.gather(rows[first[several] + place])
            more += np.take(records, several).view(np.float32).reshape(more.shape)
            records[several] = more.view(records.dtype).reshape(-1)
            place += 1
            several = several[counts[several] > place]
        return sums

    def lookup(self, keys: U64) -> F32:
        """The keys' vectors, [len(keys), width]; zeros for unknown keys and key 0."""
        return self.gather(self.find(keys))

    def patched(self, keys: U64, values: F32, deleted: U64) -> Table:
        """A new table: without the deleted keys, then with `values` as the vectors of `keys`.

        Raises ValueError naming a key that occurs twice.
        """
        marks, order = _sorted(keys)
        values = values[order]
        rows = self._index.find(marks)
        known = rows < len(self)
        dropped = self.find(deleted)
        dropped = dropped[dropped < len(self)]
        if known.all() and not np.setdiff1d(dropped, rows).size:  # same keys: only vectors change
            changed = self._values.copy()
            changed[rows] = values
            return Table(self._index, changed)
        keep = np.ones(len(self), bool)
        keep[rows[known]] = False
        keep[dropped] = False
        kept = np.flatnonzero(keep)
        old = self._index.marks[kept]
        # the places of the new marks among the old ones
        places = np.arange(len(marks)) + np.searchsorted(old, marks)
        is_old = np.ones(len(old) + len(marks), bool)
        is_old[places] = False
        merged = np.empty(len(is_old), np.uint64)
        merged[is_old] = old
        merged[places] = marks
        source = np.full(len(is_old) + 1, len(self), np.intp)
        source[:-1][is_old] = kept
        vectors = self.gather(source)
        vectors[places] = values
        return Table(_Index(merged), vectors)

    def items(self) -> tuple[U64, F32]:
        """All keys, ascending, and their vectors."""
        keys = _unmark(self._index.marks)
        order = np.argsort(keys)
        return keys[order], self._values[:-1][order]


class Patches:
    """Several patches as one, so that a table is not copied for each."""

    def __init__(self, width: int) -> None:
        self._width = width
        self._parts: list[tuple[U64, F32, npt.NDArray[np.bool_]]] = []

    def add(self, keys: U64, values: F32, deleted: U64) -> None:
        """Raises ValueError naming a key that occurs twice, or for another width."""
        if values.shape[1] != self._width:
            raise ValueError(f"its width is {values.shape[1]}, that of the model below {self._width}")
        _sorted(keys)
        dropped = np.setdiff1d(deleted, keys)
        self._parts.append(
            (
                np.concatenate([keys, dropped]),
                np.concatenate([values, np.zeros((len(dropped), self._width), np.float32)]),
                np.arange(len(keys) + len(dropped)) < len(keys),
            )
        )

    def copy(self) -> Patches:
        """One that may get other patches."""
        other = Patches(self._width)
        other._parts = list(self._parts)
        return other

    def over(self, table: Table) -> Table:
        """The table with all the patches over it."""
        if not self._parts:
            return table
        newest_first = self._parts[::-1]
        keys, values, alive = (np.concatenate([part[i] for part in newest_first]) for i in range(3))
        _, first = np.unique(keys, return_index=True)
        keys, values, alive = keys[first], values[first], alive[first]
        return table.patched(keys[alive], values[alive], keys[~alive])


def _sorted(keys: U64) -> tuple[U64, Rows]:
    """The keys' marks, ascending, and the place of each among `keys`; without key 0.

    Raises ValueError naming a key that occurs twice.
    """
    marks = keys * _SPREAD
    order: Rows = np.argsort(marks)
    marks = marks[order]
    if (twice := np.flatnonzero(marks[1:] == marks[:-1])).size:
        raise ValueError(f"key {int(keys[order[twice[0]]])} occurs twice")
    return (marks[1:], order[1:]) if marks.size and marks[0] == 0 else (marks, order)


def _unmark(marks: U64) -> U64:
    keys: U64 = marks * _UNSPREAD
    return keys
