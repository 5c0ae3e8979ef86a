"""Rows' ids for dumps (Paddle's ins_ids): day/time/file/line, by which a dump is joined with the logs. Pure.

day and time are the split's, file and line the row's in it. A row of a later revision has its number behind the time,
since each revision numbers its files from 0: day/time.1/file/line.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from streamtrain.contracts.marker import Marker
from streamtrain.contracts.sample import SampleBatch, SampleDecoder

if TYPE_CHECKING:
    from streamtrain.feed.ranges import Record


class RowIds:
    """Makes the ids of the rows that `markers` name."""

    def __init__(self, markers: Sequence[Marker]) -> None:
        ranges = sorted((r.partition, r.start_offset, _split(m)) for m in markers for r in m.ranges if r.rows)
        self._starts: dict[int, list[int]] = {}
        self._splits: dict[int, list[bytes]] = {}
        for partition, start, split in ranges:
            self._starts.setdefault(partition, []).append(start)
            self._splits.setdefault(partition, []).append(split.encode())

    def encode(self, records: Sequence[Record], batch: SampleBatch) -> list[bytes]:
        """An id a row. records: what `batch` was decoded from, all in the markers' ranges; it has files and lines."""
        assert batch.files is not None and batch.lines is not None
        ids = []
        for (partition, offset, _), file, line in zip(records, batch.files.tolist(), batch.lines.tolist(), strict=True):
            split = self._splits[partition][bisect_right(self._starts[partition], offset) - 1]
            ids.append(b"%b/%d/%d" % (split, file, line))
        return ids


def source_of(record: Record, markers: Sequence[Marker], decoder: SampleDecoder) -> str:
    """Where a row of the markers' ranges stands: its file below train_data_dir, and its line from 1."""
    batch = decoder.decode([record[2]], places=True)
    (ins_id,) = RowIds(markers).encode([record], batch)
    file, _, line = ins_id.decode().rpartition("/")
    return f"{dict(files_of(markers)).get(file, file)}, line {line}"


def files_of(markers: Sequence[Marker]) -> Iterator[tuple[str, str]]:
    """Each file of the markers: the beginning of its rows' ids, and its path below train_data_dir."""
    for marker in markers:
        for number, file in enumerate(marker.files):
            yield f"{_split(marker)}/{number}", f"{marker.day}/{marker.time}/{file.path}"


def _split(marker: Marker) -> str:
    return f"{marker.day}/{marker.time}.{marker.revision}" if marker.revision else f"{marker.day}/{marker.time}"
