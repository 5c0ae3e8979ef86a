"""What the source files hold, against what the markers say of them. For the recount alone.

A marker names its files with their size and SHA-256, so the bytes that it added are known, and whether they are still
there.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import NamedTuple, TypeAlias

from streamtrain.errors import DataError
from streamtrain.proof.columns import header_in
from streamtrain.proof.formats import row_of
from streamtrain.proof.line_rules import Row, Rules
from streamtrain.proof.logs import Logs
from streamtrain.proof.markers import Source
from streamtrain.proof.rows import DEFAULT_IGNORE, MAX_LINE, digests, files, is_left_out, is_packed, lines
from streamtrain.proof.tables import Table

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
    row: Row


@dataclass
class Tally:
    """Of one table: shown: occurrences by key; clicked: the sum of what counts as click."""

    shown: Counter[int] = field(default_factory=Counter)
    clicked: Counter[int] = field(default_factory=Counter)

    def add(self, table: Table, row: Row, sign: int = 1) -> None:
        """sign: -1 takes the row away."""
        keys = table.keys(row)
        click = round(row.labels.get(table.click, 0))
        if sign > 0:
            self.shown.update(keys)
        else:
            self.shown.subtract(keys)
        if click:
            for key in keys:
                self.clicked[key] += sign * click


@dataclass
class Portion:
    """Rows of a stretch of a file. tallies: of each table. large: the largest rows. tail: whether it ends with a line
    without a line end, which is not counted."""

    tables: Sequence[Table]
    rows: int = 0
    rejected: int = 0
    tallies: list[Tally] = field(default_factory=list)
    large: list[Large] = field(default_factory=list)
    tail: bool = False

    def __post_init__(self) -> None:
        self.tallies = [Tally() for _ in self.tables]

    def add(self, row: Row) -> None:
        self.rows += 1
        for table, tally in zip(self.tables, self.tallies, strict=True):
            tally.add(table, row)

    def take_away(self, row: Row) -> None:
        """The row was rejected by the bridge."""
        self.rows -= 1
        self.rejected += 1
        for table, tally in zip(self.tables, self.tallies, strict=True):
            tally.add(table, row, -1)
            tally.shown, tally.clicked = +tally.shown, +tally.clicked


@dataclass(frozen=True)
class Reader:
    """How the files are read. tables: what is counted. append: a last line without its end is no row yet
    (stream.changed_split: append)."""

    logs: Logs
    rules: Rules
    tables: Sequence[Table] = ()
    donefile: str = ""
    ignore: Sequence[str] = DEFAULT_IGNORE
    append: bool = False

    def files(self, split: str) -> dict[str, Path]:
        """By path below the split; those of the last split are remembered, and on the local disk."""
        if split not in self._listed:
            self._listed.clear()
            self.logs.hold(split)
            self._listed[split] = files(self.logs.root / split, self.donefile, self.ignore)
        return self._listed[split]

    def sizes(self, split: str) -> dict[str, int] | None:
        """Bytes of the same files, without having them; None: they are on the local disk as they are."""
        sizes = self.logs.sizes(split)
        if sizes is None:
            return None
        return {
            path: size
            for path, size in sizes.items()
            if not any(is_left_out(name, self.donefile, self.ignore) for name in path.split("/"))
        }

    @cached_property
    def _listed(self) -> dict[str, dict[str, Path]]:
        return {}

    def read(
        self,
        path: Path,
        begin: int = 0,
        end: int | None = None,
        *,
        inside: bool = False,
        whole_lines: bool | None = None,
    ) -> Portion:
        """The stretch begin .. end of the file, see lines(). whole_lines: a last line of a plain file that has no line
        end is not counted; None: as `append` says. Raises DataError, Unreadable."""
        portion = Portion(self.tables)
        header = self._header(path, inside=inside) if self.rules.has_header else []
        whole_lines = (self.append if whole_lines is None else whole_lines) and not is_packed(path)
        for number, line in enumerate(lines(path, begin, end, inside=inside)):
            text = b"" if line.text is None else self.rules.content(line.text)
            if header and not begin and not number and (line.ended or not whole_lines):
                continue
            if whole_lines and not line.ended:
                portion.tail = bool(text) or line.text is None
            elif text:
                self._count(text, number, header, portion)
            elif line.text is None:
                portion.rejected += 1
        return portion

    def _header(self, path: Path, *, inside: bool) -> list[str]:
        """The names in the file's first line; none in a file without lines. Raises DataError."""
        first = next(lines(path, inside=inside), None)
        if first is None:
            return []
        try:
            if first.text is None:
                raise ValueError(f"it is longer than {MAX_LINE} bytes")
            return header_in(self.rules.content(first.text), self.rules.line_format)
        except ValueError as error:
            raise DataError(f"{path}, line 1: it is no header: {error}", remedy="Restore the file.") from error

    def _count(self, text: bytes, number: int, header: Sequence[str], portion: Portion) -> None:
        try:
            row = row_of(text, self.rules, header)
        except ValueError:
            portion.rejected += 1
            return
        if row is None:
            return
        portion.add(row)
        if len(row.pairs) >= _LARGE:
            keep = heapq.heappush if len(portion.large) <= _MOST_LARGE else heapq.heappushpop
            keep(portion.large, Large(len(row.pairs), number, row))


@dataclass
class Judged:
    """A portion that a marker names, after the comparison with the marker's counts.

    lost, duplicated: rows of the file that the marker lacks, or has too many of. refused: rows that the bridge refused
    as too large. loose: how many of them are still in the portion, since nobody knows which ones they are.
    """

    portion: Portion
    lost: int = 0
    duplicated: int = 0
    refused: int = 0
    loose: int = 0


@dataclass(frozen=True)
class Found:
    """Where the bytes that a marker names are. inside: unpacked in a gzip file, into which the file was compressed."""

    path: Path
    inside: bool = False


def find(reader: Reader, split: str, sources: Sequence[Source]) -> list[Found | str]:
    """Where the bytes of a marker's files are: under their names or any other one of the split (a file may have been
    renamed or compressed); or why they cannot be recounted. Raises Unreadable."""
    present = reader.files(split)
    found: list[Found | str] = []
    for source in sources:
        path = present.get(source.path, reader.logs.root / split / source.path)
        if not path.is_file():
            found.append("is missing")
        elif (sha256 := digests(path, [source.bytes]).get(source.bytes)) is None:
            found.append(f"is shorter than the {source.bytes} bytes that were bridged")
        else:
            found.append(Found(path) if sha256 == source.sha256 else "is not what was bridged")
    sizes = {source.bytes for source, where in zip(sources, found, strict=True) if isinstance(where, str)} - {0}
    elsewhere: dict[tuple[int, str], Found] = {}
    for path in present.values() if sizes else ():
        for inside in (False, True):
            for prefix in prefixes(path, sizes, inside=inside).items():
                elsewhere.setdefault(prefix, Found(path, inside))
    return [
        elsewhere.get((source.bytes, source.sha256), where) if isinstance(where, str) else where
        for source, where in zip(sources, found, strict=True)
    ]


def prefixes(path: Path, sizes: Iterable[int], *, inside: bool = False) -> dict[int, str]:
    """digests() of the file, or of what is packed in it; of none that cannot be unpacked."""
    if inside and not is_packed(path):
        return {}
    try:
        return digests(path, sizes, inside=inside)
    except DataError:
        return {}


def longest(path: Path, bridged: Iterable[Source], *, inside: bool = False) -> int:
    """The bytes of the largest of the bridged files that this one begins with; 0: none."""
    sources = [source for source in bridged if source.bytes]
    known = prefixes(path, [source.bytes for source in sources], inside=inside) if sources else {}
    return max((source.bytes for source in sources if known.get(source.bytes) == source.sha256), default=0)


def judge(portion: Portion, source: Source, refused: int) -> Judged:
    """Compares a file's rows with its marker's. refused: lines that the marker counts as rejected and nobody here."""
    surplus = portion.rows - source.rows
    if surplus <= 0:
        return Judged(portion, duplicated=-surplus)
    if refused < surplus or len(portion.large) < surplus:
        return Judged(portion, lost=surplus)
    largest = sorted(portion.large, reverse=True)
    if surplus < len(largest) and largest[surplus].size == largest[surplus - 1].size:
        return Judged(portion, refused=surplus, loose=surplus)
    for row in largest[:surplus]:
        portion.take_away(row.row)
    return Judged(portion, refused=surplus)
