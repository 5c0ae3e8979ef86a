"""The random order in which the rows of a pass are trained.

Paddle's own local_shuffle() takes its seed from the machine, so that a pass that is trained again would come in another
order. Here a row's place follows from the pass and from the row's partition and offset alone: not from the order in
which rows arrive, and each worker has its rows in the order that they have among all rows of the pass.
"""

from __future__ import annotations

import mmap
from collections.abc import Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from streamtrain.schedule import PassId

if TYPE_CHECKING:
    from streamtrain.feed.ranges import Record

_U64 = npt.NDArray[np.uint64]
_LF = ord("\n")
#: Rows that are written at once.
_BATCH = 4096


def random_keys(pass_id: PassId, partitions: _U64, offsets: _U64) -> _U64:
    """A number for each row of a pass, [rows], by which its rows are in a random order. The same on every machine."""
    seed = np.uint64((int(pass_id.day) << 20) + pass_id.pass_id)
    return _mixed(_mixed(_mixed(np.full(len(offsets), seed)) + partitions) + offsets)


def _mixed(values: _U64) -> _U64:
    """SplitMix64's: each bit of the result depends on all bits of the value."""
    values = values + np.uint64(0x9E3779B97F4A7C15)
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(values ^ (values >> np.uint64(31)), np.uint64)


class Shuffle:
    """Notes where each row of a pass is in a file of text, a line each, while it is written."""

    def __init__(self, pass_id: PassId) -> None:
        self._pass_id = pass_id
        self._partitions: list[npt.NDArray[np.int64]] = []
        self._offsets: list[npt.NDArray[np.int64]] = []
        self._ends: list[npt.NDArray[np.int64]] = []
        self._bytes = 0

    def add(self, records: Sequence[Record], text: bytes) -> None:
        """The next rows: what they were read from, and their lines."""
        places = np.array([record[:2] for record in records], np.int64).reshape(-1, 2)
        ends = np.flatnonzero(np.frombuffer(text, np.uint8) == _LF) + 1
        if len(ends) != len(places):
            raise ValueError(f"{len(places)} rows have {len(ends)} lines")
        self._partitions.append(places[:, 0])
        self._offsets.append(places[:, 1])
        self._ends.append(ends + self._bytes)
        self._bytes += len(text)

    def order(self) -> npt.NDArray[np.int64]:
        """The rows' numbers in the order of writing, as they are to be read."""
        partitions, offsets = np.concatenate(self._partitions), np.concatenate(self._offsets)
        keys = random_keys(self._pass_id, partitions.astype(np.uint64), offsets.astype(np.uint64))
        return np.lexsort((offsets, partitions, keys))

    def write(self, source: Path, out: IO[bytes]) -> npt.NDArray[np.int64]:
        """Writes the lines of `source`, which has all rows, in their random order, and returns it."""
        ends = np.concatenate(self._ends)
        begins = np.concatenate([np.zeros(1, np.int64), ends[:-1]])
        order = self.order()
        with source.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as text:
            for at in range(0, len(order), _BATCH):
                part = order[at : at + _BATCH]
                out.write(
                    b"".join([text[a:b] for a, b in zip(begins[part].tolist(), ends[part].tolist(), strict=True)])
                )
        return order
