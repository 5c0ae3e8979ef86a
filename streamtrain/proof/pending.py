"""What is in the source files and not in the checkpoint: pending rows, and files that a marker should have. For the
recount alone."""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from streamtrain.errors import DataError
from streamtrain.proof.markers import Entry, Source
from streamtrain.proof.rows import is_packed
from streamtrain.proof.sources import FileName, Place, Reader, longest, prefixes


@dataclass(frozen=True)
class Policy:
    """stream.changed_split and the schedule's last day ('': none)."""

    changed: str = "fail"
    end_day: str = ""


_LATE = {
    "append": "no marker has it yet: the bridge will append it",
    "ignore": "it came after its split was bridged; stream.changed_split: ignore leaves it out",
    "fail": "it came after its split was bridged; stream.changed_split: fail refuses it",
}


def pending(
    reader: Reader,
    entries: Sequence[Entry],
    position: int,
    done: Mapping[FileName, int],
    gone: Container[FileName],
    policy: Policy,
) -> Iterator[Place]:
    """Rows that the checkpoint at marker-log offset `position` does not have, and need not have.

    done: the bytes of each file that the markers up to it have covered. gone: files that are not what was bridged.
    """
    covered = dict(done)
    history: dict[str, list[Source]] = {}
    for entry in entries:
        history.setdefault(entry.split, []).extend(entry.files)
        if entry.offset < position:
            continue
        yield Place(entry.split, "", entry.rows, "its marker comes after the checkpoint")
        for source in entry.files:
            covered[entry.split, source.path] = max(source.bytes, covered.get((entry.split, source.path), 0))
    for split, bridged in history.items():
        sizes = reader.sizes(split)
        if sizes is not None and all(covered.get((split, file)) == size for file, size in sizes.items()):
            continue
        present = reader.files(split)
        for file, path in present.items():
            known = covered.get((split, file))
            if known is None and not is_of(path, bridged):
                begin = longest(path, [source for source in bridged if source.path not in present])
                yield from _late(reader, split, file, path, begin, policy)
            elif known is not None and path.stat().st_size > known and (split, file) not in gone:
                yield from _late(reader, split, file, path, known, policy)
    yield from _not_bridged(reader, max(history, default=""), policy)


def is_of(path: Path, bridged: Sequence[Source]) -> bool:
    """Whether the file is one of the bridged ones under another name, or its compressed form."""
    size = path.stat().st_size
    if longest(path, [source for source in bridged if source.bytes == size]):
        return True
    unpacked = longest(path, bridged, inside=True)
    return bool(unpacked) and unpacked + 1 not in prefixes(path, [unpacked + 1], inside=True)


def _late(reader: Reader, split: str, file: str, path: Path, begin: int, policy: Policy) -> Iterator[Place]:
    """The bytes of a file from `begin` on, which no marker has."""
    if begin and is_packed(path):
        yield Place(split, file, None, "it grew after it was bridged, and it is gzip")
        return
    try:
        more = reader.read(path, begin)
    except DataError as error:
        yield Place(split, file, None, f"it came after its split was bridged: {error.message}")
        return
    if more.rows or more.rejected:
        grown = f"it grew after it was bridged (stream.changed_split: {policy.changed})"
        yield Place(split, file, more.rows, grown if begin else _LATE[policy.changed])
    if more.tail:
        yield Place(split, file, 0, "its last line has no line end: no row yet")


def _not_bridged(reader: Reader, last: str, policy: Policy) -> Iterator[Place]:
    """Splits that no marker has yet, after `last`. Their rows are not counted."""
    for split in reader.logs.splits():
        after_the_end = policy.end_day and split.partition("/")[0] > policy.end_day
        if split > last and not after_the_end:
            sizes = reader.sizes(split)
            if count := len(reader.files(split) if sizes is None else sizes):
                yield Place(split, "", None, f"it is not bridged yet ({count} files)")


def left_out(reader: Reader, entry: Entry, known: Container[FileName]) -> Iterator[Place]:
    """Files that the marker of a split should name and does not: they were there before the donefile, and before the
    marker was written, by the time of their last change (which no copy and no rename keeps)."""
    reader.logs.hold(entry.split)
    folder = reader.logs.root / entry.split
    donefile = folder / reader.donefile
    if not reader.donefile or not donefile.is_file():
        return
    latest = min(donefile.stat().st_ctime, entry.written)
    for file, path in reader.files(entry.split).items():
        if (entry.split, file) in known:
            continue
        way = [path, *(folder / above for above in Path(file).parents if above != Path())]
        if max(max(step.stat().st_ctime, step.lstat().st_ctime) for step in way) < latest:
            rows = reader.read(path).rows
            yield Place(entry.split, file, rows, "no marker has it, though it is older than its split's marker")
