"""What has been bridged, replayed from the marker log. Pure.

A ledger that resumes a history of the log reads a split's markers from there when it is asked for the split, so neither
its start nor its memory grows with the job's age.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import InitVar, dataclass, field
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


class Totals(Protocol):
    """Of a history: its markers, and the splits that they are of."""

    @property
    def markers(self) -> int: ...
    @property
    def splits(self) -> int: ...


class History(Protocol):
    """The marker log as it was read before: each split's markers in their order, revisions too."""

    @property
    def totals(self) -> Totals: ...
    def of_split(self, sequence: int) -> Sequence[Entry]: ...


class Listed(Protocol):
    """A file of the tree as it is now."""

    @property
    def path(self) -> str: ...
    @property
    def bytes(self) -> int: ...
    @property
    def modified(self) -> float: ...


#: Splits of a history that are kept in memory: more than a round looks at.
KEPT = 2000

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


class Splits(OrderedDict[int, Bridged]):
    """Bridged splits by their sequence: of a history's the ones that were asked for last, the others when asked for."""

    def __init__(self, history: History | None) -> None:
        super().__init__()
        self._history = history
        self._known = history.totals.splits if history is not None else 0
        self._looked: dict[int, dict[str, tuple[int, float]]] = {}

    def __missing__(self, sequence: int) -> Bridged:
        if self._history is None or not 0 <= sequence < self._known:
            raise KeyError(sequence)
        bridged: Bridged | None = None
        for entry in self._history.of_split(sequence):
            bridged = _with(bridged, entry.marker, entry.timestamp)
        if bridged is None:
            raise KeyError(sequence)
        bridged.looked = self._looked.pop(sequence, {})
        self.keep(sequence, bridged)
        return bridged

    def find(self, sequence: int) -> Bridged | None:
        try:
            return self[sequence]
        except KeyError:
            return None

    def keep(self, sequence: int, bridged: Bridged) -> None:
        """The split's newest state. With a history the ones asked for long ago are read again when they are needed."""
        self.pop(sequence, None)
        self[sequence] = bridged
        if self._history is None:
            return
        self._known = max(self._known, sequence + 1)
        while len(self) > KEPT:
            oldest, forgotten = self.popitem(last=False)
            if forgotten.looked:
                self._looked[oldest] = forgotten.looked


def _with(known: Bridged | None, marker: Marker, timestamp: float) -> Bridged:
    """The split's state after its next marker."""
    files = {f.path: f for f in marker.files}
    if known is None:
        return Bridged(0, files, timestamp, marker.files)
    history = (*known.history, *marker.files)
    return Bridged(marker.revision, {**known.files, **files}, timestamp, history, known.looked)


@dataclass
class Ledger:
    """The bridge's memory: rebuilt from the marker log at every start, then kept up by add().

    history: of the log so far; each later marker must be in it once it was added.
    """

    schedule: Schedule
    history: InitVar[History | None] = None
    next_sequence: int = 0
    splits: Splits = field(init=False)
    markers: int = 0

    def __post_init__(self, history: History | None) -> None:
        self.splits = Splits(history)
        if history is not None:
            self.next_sequence, self.markers = history.totals.splits, history.totals.markers

    def add(self, marker: Marker, timestamp: float) -> None:
        """Raises DataError when the marker does not follow the ones before it."""
        expected = self.schedule.split(marker.sequence)
        if (expected.day, expected.time) != (marker.day, marker.time):
            raise DataError(
                f"the marker log has split {marker.day}/{marker.time} as number {marker.sequence}, where the "
                f"config's schedule has {expected.path}",
                remedy="split_interval and start_day of a job must not change: restore them, or use a new stream.job.",
            )
        known = self.splits.find(marker.sequence)
        if known is None and marker.revision == 0 and marker.sequence == self.next_sequence:
            self.splits.keep(marker.sequence, _with(None, marker, timestamp))
            self.next_sequence += 1
        elif known is not None and marker.revision == known.revision + 1:
            self.splits.keep(marker.sequence, _with(known, marker, timestamp))
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
