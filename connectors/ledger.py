"""What has been bridged, replayed from the marker log. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

from streamtrain.contracts.marker import Marker, SourceFile
from streamtrain.errors import DataError
from streamtrain.schedule import Schedule, Split


class Entry(Protocol):
    """A marker and when it was written (seconds)."""

    @property
    def marker(self) -> Marker: ...
    @property
    def timestamp(self) -> float: ...


class Listed(Protocol):
    """A file of the tree as it is now."""

    @property
    def path(self) -> str: ...
    @property
    def bytes(self) -> int: ...
    @property
    def modified(self) -> float: ...


L = TypeVar("L", bound=Listed)


@dataclass
class Bridged:
    """A split as bridged: its last revision, each file's newest state, when (seconds).

    history: all states of its files. looked: size and time of files that were compared and have nothing new.
    """

    revision: int
    files: dict[str, SourceFile]
    timestamp: float
    history: tuple[SourceFile, ...] = ()
    looked: dict[str, tuple[int, float]] = field(default_factory=dict)

    def looked_at(self, file: Listed) -> None:
        """The file has nothing new: it is no suspect until its size or time changes."""
        self.looked[file.path] = (file.bytes, file.modified)


@dataclass
class Ledger:
    """The bridge's memory: rebuilt from the marker log at every start, then kept up by add()."""

    schedule: Schedule
    next_sequence: int = 0
    splits: dict[int, Bridged] = field(default_factory=dict)
    markers: int = 0

    @classmethod
    def replay(cls, schedule: Schedule, entries: Iterable[Entry]) -> Ledger:
        ledger = cls(schedule)
        for entry in entries:
            ledger.add(entry.marker, entry.timestamp)
        return ledger

    def add(self, marker: Marker, timestamp: float) -> None:
        """Raises DataError when the marker does not follow the ones before it."""
        expected = self.schedule.split(marker.sequence)
        if (expected.day, expected.time) != (marker.day, marker.time):
            raise DataError(
                f"the marker log has split {marker.day}/{marker.time} as number {marker.sequence}, where the "
                f"config's schedule has {expected.path}",
                remedy="split_interval and start_day of a job must not change: restore them, or use a new stream.job.",
            )
        files = {f.path: f for f in marker.files}
        known = self.splits.get(marker.sequence)
        if known is None and marker.revision == 0 and marker.sequence == self.next_sequence:
            self.splits[marker.sequence] = Bridged(0, files, timestamp, marker.files)
            self.next_sequence += 1
        elif known is not None and marker.revision == known.revision + 1:
            history = (*known.history, *marker.files)
            self.splits[marker.sequence] = Bridged(
                marker.revision, {**known.files, **files}, timestamp, history, known.looked
            )
        else:
            raise DataError(
                f"the marker log is out of order: {marker.day}/{marker.time} revision {marker.revision} "
                f"(number {marker.sequence}) where number {self.next_sequence} was expected",
                remedy="Something else wrote into the marker log; use a new stream.job.",
            )
        self.markers += 1

    def __len__(self) -> int:
        """Markers seen, revisions too."""
        return self.markers

    def split(self, sequence: int) -> Split:
        return self.schedule.split(sequence)

    def suspects(self, sequence: int, now: Iterable[L]) -> list[L]:
        """Files of a bridged split that are new, of another size, or written after its marker.

        They may be unchanged, or known under another name: connectors.changes compares their content. A missing file is
        not a change: old logs are deleted.
        """
        known = self.splits[sequence]
        suspects = []
        for file in now:
            if known.looked.get(file.path) == (file.bytes, file.modified):
                continue
            before = known.files.get(file.path)
            if before is None or before.bytes != file.bytes or file.modified > known.timestamp:
                suspects.append(file)
        return suspects
