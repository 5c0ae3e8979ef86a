"""The sparse table of a served model: a vector a key, never changed once made."""

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
_GATHER = 1 << 16


class Table:
    """Keys and their vectors, [n, width].

    Keys are kept as marks (key * _SPREAD, one to one), sorted, with an index of the marks' high bits: where a binary
    search misses the processor's cache twenty times a key, this does so twice (ten times as fast at a million keys).
    The vectors end with one of zeros, the one of all unknown keys.
    """

    def __init__(self, marks: U64, values: F32, starts: npt.NDArray[Any] | None) -> None:
        """marks: ascending, and one 0 more at the end; values: [n + 1, width]; starts: made if None."""
        self._marks = marks
        self._values = values
        self._shift = np.uint64(64 - _bits(len(self)))
        self._starts: npt.NDArray[Any] = _index(marks[:-1], self._shift) if starts is None else starts

    @classmethod
    def empty(cls, width: int) -> Table:
        return cls.of(np.zeros(0, np.uint64), np.zeros((0, width), np.float32))

    @classmethod
    def of(cls, keys: U64, values: F32) -> Table:
        """keys: in any order; key 0 is left out, it always has zeros. Raises ValueError naming a key that is there
        twice."""
        marks, values = _sorted(keys, values)
        return cls(np.append(marks, np.uint64(0)), _with_zeros(values), None)

    def __len__(self) -> int:
        return len(self._marks) - 1

    @property
    def width(self) -> int:
        return int(self._values.shape[1])

    @property
    def nbytes(self) -> int:
        return self._marks.nbytes + self._values.nbytes + self._starts.nbytes

    def find(self, keys: U64) -> Rows:
        """Each key's row, for `gather`; len(self) for an unknown one and for key 0."""
        marks = keys * _SPREAD
        buckets = (marks >> self._shift).astype(np.intp)
        rows: Rows = self._starts[buckets].astype(np.intp)
        missed = np.flatnonzero(self._marks[rows] != marks)
        at, ends, wanted = rows[missed], self._starts[buckets[missed] + 1], marks[missed]
        rows[missed] = len(self)
        while missed.size:
            at = at + 1
            left = at < ends
            missed, at, ends, wanted = missed[left], at[left], ends[left], wanted[left]
            hit = self._marks[at] == wanted
            rows[missed[hit]] = at[hit]
            left = ~hit
            missed, at, ends, wanted = missed[left], at[left], ends[left], wanted[left]
        return rows

    def gather(self, rows: Rows) -> F32:
        """The vectors, [len(rows), width]."""
        return np.take(self._values, rows, axis=0, mode="clip")

    def gather_sums(self, rows: Rows, counts: npt.NDArray[np.int64]) -> F32:
        """Sums of vectors, [len(counts), width]: of the first counts[0] rows, of the next counts[1], and so on.

        Each count is at least 1.
        """
        first = np.cumsum(counts) - counts
        sums = self.gather(rows[first])
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
            sums[several] += self.gather(rows[first[several] + place])
            place += 1
            several = several[counts[several] > place]
        return sums

    def lookup(self, keys: U64) -> F32:
        """The keys' vectors, [len(keys), width]; zeros for unknown keys and key 0."""
        return self.gather(self.find(keys))

    def patched(self, keys: U64, values: F32, deleted: U64) -> Table:
        """A new table: without the deleted keys, then with these in place of what they had before.

        Raises ValueError naming a key that is there twice.
        """
        marks, values = _sorted(keys, values)
        rows = self.find(keys=_unmark(marks))
        known = rows < len(self)
        gone = self.find(deleted)
        gone = gone[gone < len(self)]
        if known.all() and not np.setdiff1d(gone, rows).size:  # same keys: only vectors change
            changed = self._values.copy()
            changed[rows] = values
            return Table(self._marks, changed, self._starts)
        keep = np.ones(len(self), bool)
        keep[rows[known]] = False
        keep[gone] = False
        kept = np.flatnonzero(keep)
        old = self._marks[kept]
        # where the new ones stand between the old ones
        places = np.arange(len(marks)) + np.searchsorted(old, marks)
        is_old = np.ones(len(old) + len(marks), bool)
        is_old[places] = False
        merged = np.zeros(len(is_old) + 1, np.uint64)
        merged[:-1][is_old] = old
        merged[places] = marks
        source = np.full(len(is_old) + 1, len(self), np.intp)
        source[:-1][is_old] = kept
        vectors = np.empty((len(source), self.width), np.float32)
        for begin in range(0, len(source), _GATHER):  # in parts: other threads run between them
            np.take(
                self._values, source[begin : begin + _GATHER], axis=0, mode="clip", out=vectors[begin : begin + _GATHER]
            )
        vectors[places] = values
        return Table(merged, vectors, None)

    def items(self) -> tuple[U64, F32]:
        """All keys, ascending, and their vectors."""
        keys = _unmark(self._marks[:-1])
        order = np.argsort(keys)
        return keys[order], self._values[:-1][order]


class Patches:
    """Several patches as one, so that a table is not copied for each."""

    def __init__(self, width: int) -> None:
        self._width = width
        self._parts: list[tuple[U64, F32, npt.NDArray[np.bool_]]] = []

    def add(self, keys: U64, values: F32, deleted: U64) -> None:
        """Raises ValueError naming a key that is there twice, or for another width."""
        if values.shape[1] != self._width:
            raise ValueError(f"its width is {values.shape[1]}, that of the model below {self._width}")
        _sorted(keys, values)
        gone = np.setdiff1d(deleted, keys)
        self._parts.append(
            (
                np.concatenate([keys, gone]),
                np.concatenate([values, np.zeros((len(gone), self._width), np.float32)]),
                np.arange(len(keys) + len(gone)) < len(keys),
            )
        )

    def over(self, table: Table) -> Table:
        """The table with all of them over it."""
        if not self._parts:
            return table
        newest_first = self._parts[::-1]
        keys, values, alive = (np.concatenate([part[i] for part in newest_first]) for i in range(3))
        _, first = np.unique(keys, return_index=True)
        keys, values, alive = keys[first], values[first], alive[first]
        return table.patched(keys[alive], values[alive], keys[~alive])


def _sorted(keys: U64, values: F32) -> tuple[U64, F32]:
    marks = keys * _SPREAD
    order = np.argsort(marks)
    marks = marks[order]
    if (twice := np.flatnonzero(marks[1:] == marks[:-1])).size:
        raise ValueError(f"key {int(keys[order[twice[0]]])} is there twice")
    if marks.size and marks[0] == 0:
        marks, order = marks[1:], order[1:]
    return marks, np.take(values, order, axis=0)


def _unmark(marks: U64) -> U64:
    keys: U64 = marks * _UNSPREAD
    return keys


def _with_zeros(values: F32) -> F32:
    return np.concatenate([values, np.zeros((1, values.shape[1]), np.float32)])


def _bits(keys: int) -> int:
    """Of the index: two to four places a key."""
    return max(4, keys.bit_length() + 1)


def _index(marks: U64, shift: np.uint64) -> npt.NDArray[Any]:
    """Where the marks of each value of the high bits begin, and one more."""
    size = (1 << (64 - int(shift))) + 1
    starts = np.zeros(size, np.int32 if len(marks) < 1 << 31 else np.int64)
    np.cumsum(np.bincount((marks >> shift).astype(np.intp), minlength=size - 1), out=starts[1:])
    return starts
