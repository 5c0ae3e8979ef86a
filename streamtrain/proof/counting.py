"""The rows of a checkpoint's sources, counted pass by pass: by the markers, or by the tree alone. For the recount
alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from streamtrain.proof.days import Histories
from streamtrain.proof.markers import Entry, Source
from streamtrain.proof.passes import Pass
from streamtrain.proof.sources import FileName, Found, Judged, Place, Portion, Reader, Tally, find, judge, longest

Progress = Callable[[int, int], None]
#: Files that are named for a key.
_PLACES = 5


@dataclass(frozen=True)
class Stretch:
    """Bytes of a file that were read for the split, see Reader.read()."""

    split: str
    path: Path
    begin: int = 0
    end: int | None = None
    inside: bool = False
    whole_lines: bool | None = None

    def read(self, reader: Reader) -> Portion:
        reader.logs.hold(self.split)
        return reader.read(self.path, self.begin, self.end, inside=self.inside, whole_lines=self.whole_lines)


@dataclass
class Counted:
    """What the sources say.

    histories: of the keys, of each table. by_pass: rows of each trained pass, by the markers where there are some.
    rows, rejected, occurrences: of the sources. uneven: where a file's rows are not its marker's, see Place.rows. gone:
    files that are missing or changed. too_large: rows that the bridge refused, without its being known which ones, by
    file. done: the bytes of each file that markers have covered. shrinks: days ended. stretches: all that was read.
    """

    histories: Sequence[Histories]
    rows: int = 0
    rejected: int = 0
    occurrences: int = 0
    shrinks: int = 0
    by_pass: dict[str, int] = field(default_factory=dict)
    uneven: list[Place] = field(default_factory=list)
    gone: list[Place] = field(default_factory=list)
    too_large: dict[FileName, int] = field(default_factory=dict)
    done: dict[FileName, int] = field(default_factory=dict)
    day_ended: bool = False
    stretches: list[Stretch] = field(default_factory=list)
    _tallies: list[Tally] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._tallies = [Tally() for _ in self.histories]

    def add(self, portion: Portion) -> None:
        self.rows += portion.rows
        self.rejected += portion.rejected
        for mine, tally in zip(self._tallies, portion.tallies, strict=True):
            mine.shown.update(tally.shown)
            mine.clicked.update(tally.clicked)

    def end_pass(self, of: Pass) -> None:
        self.day_ended = of.ends_day
        if of.ends_day:
            self.flush()
            for each in self.histories:
                each.end_day()
            self.shrinks += 1

    def flush(self) -> None:
        for histories, tally in zip(self.histories, self._tallies, strict=True):
            self.occurrences += sum(tally.shown.values())
            histories.train(tally.shown, tally.clicked)
            tally.shown.clear()
            tally.clicked.clear()


def places(reader: Reader, counted: Counted, keys: Sequence[int]) -> dict[str, list[str]]:
    """The first files that each key occurs in, with how often: reads all stretches once more."""
    found: dict[str, list[str]] = {str(key): [] for key in keys}
    for stretch in counted.stretches:
        tallies = stretch.read(reader).tallies
        for key in keys:
            shown = sum(tally.shown[key] for tally in tallies)
            if shown and len(found[str(key)]) < _PLACES:
                found[str(key)].append(f"{stretch.path.relative_to(reader.logs.root)}: {shown}")
    return found


def by_tree(
    reader: Reader, passes: Sequence[Pass], untrained: frozenset[str], into: Counted, progress: Progress
) -> None:
    """Without the markers: the splits' files as they are. Raises DataError, Unreadable."""
    total = sum(len(each.splits) for each in passes)
    number = 0
    for each in passes:
        before = into.rows
        for split in each.splits:
            number += 1
            for path in reader.files(split).values() if each.id not in untrained else ():
                into.stretches.append(Stretch(split, path))
                into.add(into.stretches[-1].read(reader))
            progress(number, total)
        if each.id not in untrained:
            into.by_pass[each.id] = into.rows - before
        into.end_pass(each)
    into.flush()


def by_markers(
    reader: Reader, passes: Sequence[Pass], untrained: frozenset[str], into: Counted, progress: Progress
) -> None:
    """The bytes that the markers name, in their order. Raises DataError, Unreadable."""
    total = sum(len(each.entries) for each in passes)
    number = 0
    bridged: dict[str, list[Source]] = {}
    for each in passes:
        for entry in each.entries:
            number += 1
            _one_marker(reader, entry, bridged.setdefault(entry.split, []), into, trained=each.id not in untrained)
            bridged[entry.split] += entry.files
            progress(number, total)
        if each.id not in untrained:
            into.by_pass[each.id] = sum(entry.rows for entry in each.entries)
        into.end_pass(each)
    into.flush()


def _one_marker(reader: Reader, entry: Entry, before: Sequence[Source], into: Counted, *, trained: bool) -> None:
    """Reads the bytes that the marker adds, and compares their rows with its counts. before: files of the split's
    earlier markers."""
    portions: list[tuple[Source, Portion]] = []
    for source, found in zip(entry.files, find(reader, entry.split, entry.files), strict=True):
        name = (entry.split, source.path)
        begin = into.done.get(name, 0)
        into.done[name] = max(begin, source.bytes)
        if isinstance(found, str):
            if trained and source.bytes:
                why = f"{found} (bridged: {source.bytes} bytes, SHA-256 {source.sha256})"
                into.gone.append(Place(entry.split, source.path, source.rows, why))
        else:
            begin = begin or _grown_from(reader, entry.split, source, found, before)
            _cover(into, entry.split, reader, found, source)
            if trained:
                stretch = Stretch(entry.split, found.path, begin, source.bytes, found.inside, whole_lines=False)
                into.stretches.append(stretch)
                portions.append((source, stretch.read(reader)))
    refused = entry.rejected - sum(portion.rejected for _, portion in portions)
    for source, portion in portions:
        judged = judge(portion, source, refused)
        refused -= judged.refused
        into.add(judged.portion)
        _note(into, entry, source, judged)
    of_files = sum(source.rows for source in entry.files)
    if trained and of_files != entry.rows:
        why = f"its marker says {entry.rows} rows, its files have {of_files} by the same marker"
        into.uneven.append(Place(entry.split, "", entry.rows - of_files, why))


def _grown_from(reader: Reader, split: str, source: Source, found: Found, before: Sequence[Source]) -> int:
    """Of a file that was renamed and grew, before this marker: the bytes that it had under the old name."""
    present = reader.files(split)
    earlier = [s for s in before if s.path not in present and s.bytes <= source.bytes]
    return longest(found.path, earlier, inside=found.inside)


def _cover(into: Counted, split: str, reader: Reader, found: Found, source: Source) -> None:
    """The file that has the marker's bytes now is no late file, whatever its name."""
    path = found.path.relative_to(reader.logs.root / split).as_posix()
    if found.inside or path != source.path:
        size = found.path.stat().st_size if found.inside else source.bytes
        into.done[split, path] = max(size, into.done.get((split, path), 0))


def _note(into: Counted, entry: Entry, source: Source, judged: Judged) -> None:
    rows = judged.portion.rows
    where = f"the file has {rows} rows there, its marker (revision {entry.revision}) {source.rows}"
    if judged.loose:
        into.too_large[entry.split, source.path] = judged.loose
        into.rows -= judged.loose
    if judged.lost:
        into.uneven.append(Place(entry.split, source.path, -judged.lost, where))
    if judged.duplicated:
        into.uneven.append(Place(entry.split, source.path, judged.duplicated, where))
