"""What the source files hold, against what the markers say of them. For the recount alone.

With the markers each row belongs to one pass: a marker names its files with their size and SHA-256, so the bytes that
it added are known, and whether they are still there. What no marker has is pending. Without the markers a split's files
are taken as they are.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, TypeAlias

from streamtrain.errors import DataError
from streamtrain.proof.markers import Entry, Source
from streamtrain.proof.rows import DEFAULT_IGNORE, ParseFunction, digest, files, is_packed, lines, row_of

#: (split, path below it)
FileName: TypeAlias = tuple[str, str]
#: Features of a row that Kafka may refuse as too large; how many such rows of a file are remembered.
_LARGE = 1000
_MOST_LARGE = 64


@dataclass(frozen=True)
class Place:
    """A file or part of one. rows: None when nobody has counted them. why: what is the matter with it."""

    split: str
    file: str
    rows: int | None
    why: str


class Large(NamedTuple):
    """A row of many features."""

    size: int
    number: int
    label: int
    keys: list[int]


@dataclass
class Portion:
    """Rows of a stretch of a file. shown, clicked: occurrences by key. large: the largest rows. tail: where the last
    line starts, in bytes of the file, when it has no line end; tail_is_row: what it would be."""

    rows: int = 0
    rejected: int = 0
    shown: Counter[int] = field(default_factory=Counter)
    clicked: Counter[int] = field(default_factory=Counter)
    large: list[Large] = field(default_factory=list)
    tail: int | None = None
    tail_row: tuple[int, list[int]] | None = None

    def add(self, label: int, keys: list[int], by: int = 1) -> None:
        """by: -1 takes the row away again."""
        self.rows += by
        for counter in (self.shown, self.clicked) if label else (self.shown,):
            for key in keys:
                counter[key] += by
        if by < 0:
            self.shown, self.clicked = +self.shown, +self.clicked


@dataclass(frozen=True)
class Reader:
    """How the files are read. append: a last line without its end is no row yet (stream.changed_split: append)."""

    data_dir: Path
    slots: Sequence[int]
    line_format: str = "feasign_slot"
    donefile: str = ""
    ignore: Sequence[str] = DEFAULT_IGNORE
    parse: ParseFunction | None = None
    reject_unknown: bool = False
    append: bool = False

    def files(self, split: str) -> dict[str, Path]:
        return files(self.data_dir / split, self.donefile, self.ignore)

    def read(self, path: Path, begin: int = 0, end: int | None = None, *, inside: bool = False) -> Portion:
        """The stretch begin .. end of the file, see lines(). A half line at its end is not counted.

        Raises DataError, Unreadable.
        """
        portion = Portion()
        wanted = frozenset(self.slots)
        halves = self.append and (inside or not is_packed(path))
        for number, line in enumerate(lines(path, begin, end, inside=inside)):
            if line.text is None:
                portion.rejected += 1
                continue
            try:
                row = row_of(line.text, self.line_format, self.slots, wanted, self.parse, self.reject_unknown)
            except ValueError:
                row, rejected = None, 1
            else:
                rejected = 0
            if halves and not line.ended:
                portion.tail, portion.tail_row = begin + line.start, row
                break
            portion.rejected += rejected
            if row is None:
                continue
            label, keys = row
            portion.rows += 1
            portion.shown.update(keys)
            if label:
                portion.clicked.update(keys)
            if len(keys) >= _LARGE:
                keep = heapq.heappush if len(portion.large) <= _MOST_LARGE else heapq.heappushpop
                keep(portion.large, Large(len(keys), number, label, keys))
        return portion


@dataclass
class Judged:
    """A portion that a marker names, after the comparison with the marker's counts.

    lost, duplicated: rows of the file that the marker lacks, or has too many of. loose: rows that the bridge refused as
    too large, without its being known which ones.
    """

    portion: Portion
    end: int
    lost: int = 0
    duplicated: int = 0
    loose: int = 0


@dataclass(frozen=True)
class Found:
    """Where the bytes that a marker names are. inside: unpacked in a gzip file, into which the file was compressed."""

    path: Path
    inside: bool = False


def find(reader: Reader, split: str, source: Source, named: Container[str]) -> Found | str:
    """The file of a marker, under its name or another one that no marker has (`named`: those that one has); or why its
    bytes cannot be recounted."""
    present = reader.files(split)
    path = present.get(source.path, reader.data_dir / split / source.path)
    if not path.is_file():
        why = "is missing"
    elif (sha256 := digest(path, source.bytes)) == source.sha256:
        return Found(path)
    else:
        why = "is not what was bridged" if sha256 else f"is shorter than the {source.bytes} bytes that were bridged"
    for name, other in present.items():
        for inside in (False, True) if name not in named else ():
            if _has(other, source, inside=inside):
                return Found(other, inside)
    return why


def _has(path: Path, source: Source, *, inside: bool) -> bool:
    if not source.bytes or (inside and not is_packed(path)):
        return False
    try:
        return digest(path, source.bytes, inside=inside) == source.sha256
    except DataError:
        return False


def judge(portion: Portion, source: Source, refused: int) -> Judged:
    """Compares a file's rows with its marker's. refused: lines that the marker counts as rejected and nobody here."""
    end = source.bytes
    if portion.tail is not None and portion.tail < source.bytes:
        if portion.tail_row is not None and source.rows == portion.rows + 1:  # bridged before half lines were held back
            portion.add(*portion.tail_row)
        else:
            end = portion.tail
    surplus = portion.rows - source.rows
    if surplus <= 0:
        return Judged(portion, end, duplicated=-surplus)
    if refused < surplus or len(portion.large) < surplus:
        return Judged(portion, end, lost=surplus)
    largest = sorted(portion.large, reverse=True)
    if surplus < len(largest) and largest[surplus].size == largest[surplus - 1].size:
        return Judged(portion, end, loose=surplus)
    for row in largest[:surplus]:
        portion.add(row.label, row.keys, -1)
        portion.rejected += 1
    return Judged(portion, end)


@dataclass(frozen=True)
class Policy:
    """stream.changed_split and the schedule's last day ('': none)."""

    changed: str = "fail"
    end_day: str = ""


def pending(
    reader: Reader, entries: Sequence[Entry], position: int, done: Mapping[FileName, int], policy: Policy
) -> Iterator[Place]:
    """Rows that the checkpoint at marker-log offset `position` does not have, and need not have.

    done: the bytes of each file that the markers up to it have covered.
    """
    covered = dict(done)
    for entry in entries:
        if entry.offset < position:
            continue
        yield Place(entry.split, "", entry.rows, "its marker comes after the checkpoint")
        for source in entry.files:
            covered[entry.split, source.path] = max(source.bytes, covered.get((entry.split, source.path), 0))
    bridged = {entry.split: entry for entry in entries if not entry.revision}
    for split in bridged:
        for file, path in reader.files(split).items():
            known = covered.get((split, file))
            size = path.stat().st_size
            if known is not None and size > known:
                yield from _grown(reader, split, file, path, known, policy)
            elif known is None:
                yield Place(split, file, reader.read(path).rows, _LATE[policy.changed])
    yield from _not_bridged(reader, bridged, policy)


_LATE = {
    "append": "no marker has it yet: the bridge will append it",
    "ignore": "it came after its split was bridged; stream.changed_split: ignore leaves it out",
    "fail": "it came after its split was bridged; stream.changed_split: fail refuses it",
}


def _grown(reader: Reader, split: str, file: str, path: Path, known: int, policy: Policy) -> Iterator[Place]:
    if is_packed(path):
        yield Place(split, file, None, "it grew after it was bridged, and it is gzip")
        return
    more = reader.read(path, known)
    if more.rows or more.rejected:
        yield Place(split, file, more.rows, f"it grew after it was bridged (stream.changed_split: {policy.changed})")
    if more.tail is not None:
        yield Place(split, file, 0, "its last line has no line end: no row yet")


def _not_bridged(reader: Reader, bridged: Mapping[str, Entry], policy: Policy) -> Iterator[Place]:
    """Splits that no marker has yet. Their rows are not counted."""
    last = max(bridged, default="")
    for folder in sorted(reader.data_dir.glob("[0-9]" * 8 + "/" + "[0-9]" * 4)):
        split = f"{folder.parent.name}/{folder.name}"
        late = policy.end_day and folder.parent.name > policy.end_day
        if split > last and not late and (found := reader.files(split)):
            yield Place(split, "", None, f"it is not bridged yet ({len(found)} files)")


def left_out(reader: Reader, entry: Entry, known: Container[FileName]) -> Iterator[Place]:
    """Files that the marker of a split should name and does not: they were there before the donefile, and before the
    marker was written, by the time of their last change (which no copy and no rename keeps)."""
    folder = reader.data_dir / entry.split
    donefile = folder / reader.donefile
    if not reader.donefile or not donefile.is_file():
        return
    latest = min(donefile.stat().st_ctime, entry.written)
    for file, path in reader.files(entry.split).items():
        if (entry.split, file) in known:
            continue
        way = [path, *(folder / above for above in Path(file).parents if above != Path())]
        if max(max(step.stat().st_ctime, step.lstat().st_ctime) for step in way) < latest:
            yield Place(
                entry.split, file, reader.read(path).rows, "no marker has it, though it is older than the marker"
            )
