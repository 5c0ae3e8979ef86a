"""The proof, from outside: every key's rows in the source files against `show` in the checkpoint.

It shares no code with the bridge's or the trainer's way of reading: the day and split arithmetic, the lines, the
markers, the manifest and the table are read here once more. What decay and deletion at the end of each day do to the
counts is in days.py, the reading of the sources in rows.py and sources.py, of the marker log in markers.py.

It says only what it knows. The markers say which bytes of which files the checkpoint was made of. Rows that no marker
up to the checkpoint has are pending. Where such bytes are missing or changed, or the markers themselves cannot be read,
what differs may have its cause there, and is not called lost or trained twice.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from streamtrain.proof.compare import compare
from streamtrain.proof.days import NEVER, Histories, ShrinkRule
from streamtrain.proof.markers import Entry, Log, Source
from streamtrain.proof.newest import Newest, newest, rows_by_pass, table
from streamtrain.proof.rows import DEFAULT_IGNORE, ParseFunction
from streamtrain.proof.sources import (
    FileName,
    Found,
    Judged,
    Place,
    Policy,
    Portion,
    Reader,
    find,
    judge,
    left_out,
    pending,
)

_MINUTES_A_DAY = 1440
#: Places that are named; all of them are counted.
_NAMED = 100
PROVEN, DIFFERS, NOT_PROVABLE = "proven", "differs", "not provable"
_UNREAD = Log(None, "the marker log was not read")


@dataclass
class Recount:
    """What the sources say and what the checkpoint says.

    verdict: `proven`, `differs` (lost or trained twice, for certain), `not provable` (nothing is known to be wrong, and
    not all is known: `unknown` says what is not). marker_log: why the marker log could not be used, '' where it was.

    rows: of the sources that belong to the checkpoint. rows_in_markers: the same by the markers, None without them.
    rows_in_manifest: as the trainer counted them. lost_rows, duplicated_rows: too few, too many of them, by split and
    pass: `uneven` says where. pending_rows: in the sources and not in the checkpoint yet, `pending` says where and why.
    not_recountable: files that the checkpoint was made of and that are missing or changed, with their rows.

    keys: that must be in the checkpoint. occurrences: of all keys in the sources. lost, duplicated: too few, too
    many in `show`. wrong_clicks: keys whose click is not the number of their occurrences in clicked rows.
    unknown_keys: in the checkpoint alone. not_recountable_keys: that differ, for which the rows that nobody can count
    may be the cause. examples: (key, expected show, actual show).

    What could be checked: shrinks: ends of days so far. decay: show_click_decay_rate. deleted: keys deleted at ends
    of days. tolerance: the largest of any key, as a part of its show; 0: all are compared exactly. sharp: keys of
    which one row too few or too many of the last day is sure to be seen. undecided: keys too close to the threshold
    for anybody to tell whether they were deleted: compared with both. reason: what else is wrong.
    """

    checkpoint: str
    day: str
    pass_id: int
    rows: int = 0
    rejected: int = 0
    keys: int = 0
    occurrences: int = 0
    lost: int = 0
    duplicated: int = 0
    missing_keys: int = 0
    unknown_keys: int = 0
    wrong_clicks: int = 0
    rows_in_manifest: int = 0
    shrinks: int = 0
    decay: float = 1.0
    deleted: int = 0
    tolerance: float = 0.0
    sharp: int = 0
    undecided: int = 0
    reason: str = ""
    examples: list[tuple[int, float, float]] = field(default_factory=list)
    rows_in_markers: int | None = None
    lost_rows: int = 0
    duplicated_rows: int = 0
    uneven: list[Place] = field(default_factory=list)
    pending_rows: int = 0
    pending: list[Place] = field(default_factory=list)
    not_recountable_rows: int = 0
    not_recountable_files: int = 0
    not_recountable: list[Place] = field(default_factory=list)
    not_recountable_keys: int = 0
    unknown: list[str] = field(default_factory=list)
    marker_log: str = ""

    @property
    def verdict(self) -> str:
        wrong = (
            self.lost, self.duplicated, self.missing_keys, self.unknown_keys, self.wrong_clicks, self.lost_rows,
            self.duplicated_rows, self.reason,
        )  # fmt: skip
        if any(wrong):
            return DIFFERS
        return NOT_PROVABLE if self.unknown else PROVEN

    @property
    def ok(self) -> bool:
        return self.verdict == PROVEN

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "verdict": self.verdict, "ok": self.ok}


def recount(
    data_dir: Path,
    model_save_path: Path,
    *,
    split_interval: int,
    split_per_pass: int,
    start_day: str,
    slots: Sequence[int],
    line_format: str = "feasign_slot",
    donefile: str = "",
    parse: ParseFunction | None = None,
    reject_unknown: bool = False,
    rule: ShrinkRule = NEVER,
    progress: Callable[[int, int], None] = lambda _done, _of: None,
    ignore: Sequence[str] = DEFAULT_IGNORE,
    changed_split: str = "fail",
    end_day: str = "",
    log: Log = _UNREAD,
) -> Recount:
    """Recounts what the newest checkpoint was made of: from start_day's first split up to the checkpoint's pass.

    split_interval: minutes. slots: the model's. parse: for a format of the user's. rule: what is done at the end of
    a day. progress(splits or markers done, of). ignore: patterns of names that are no logs. changed_split, end_day: the
    config's. log: the marker log.
    Raises CheckpointError when there is no readable checkpoint, UnknownFormat for one of another version, DataError for
    a file that cannot be unpacked, Unreadable.
    """
    of = newest(model_save_path)
    schedule = _Schedule(start_day, split_interval, split_per_pass)
    reader = Reader(
        data_dir, slots, line_format, donefile, ignore, parse, reject_unknown, append=changed_split == "append"
    )
    result = Recount(str(of.path), of.day, of.pass_id, rows_in_manifest=of.rows, decay=rule.show_click_decay_rate)
    journal = rows_by_pass(model_save_path, of)
    counted = _Counted(result, of, rule, progress)
    segments, problem = _segments(log, of, schedule)
    if segments is not None and log.entries is not None:
        _by_markers(reader, segments, counted)
        _find_pending(result, reader, log.entries, of.marker_offset, counted.done, Policy(changed_split, end_day))
    else:
        result.marker_log = problem
        if late := _late_rows(of, rule, schedule.days_up_to(of)):
            result.unknown.append(late)
            return result
        _by_tree(reader, schedule.passes_up_to(of), counted)
    _compare_rows(result, counted, {} if segments is None and of.late_rows else journal)
    _compare_keys(result, counted, of, rule)
    return result


@dataclass(frozen=True)
class _Pass:
    """id: day/pass_id. entries: its markers. splits: its splits, day/HHMM. ends_day: whether it is the day's last."""

    id: str
    splits: tuple[str, ...]
    ends_day: bool
    entries: tuple[Entry, ...] = ()


@dataclass(frozen=True)
class _Schedule:
    """interval: minutes in a split. per_pass: splits in a pass."""

    start_day: str
    interval: int
    per_pass: int

    def passes(self) -> Iterator[_Pass]:
        at = datetime.strptime(self.start_day, "%Y%m%d")
        while True:
            times = [at + timedelta(minutes=self.interval * i) for i in range(self.per_pass)]
            minute = at.hour * 60 + at.minute
            length = self.interval * self.per_pass
            splits = tuple(f"{time:%Y%m%d/%H%M}" for time in times)
            yield _Pass(f"{at:%Y%m%d}/{minute // length + 1}", splits, minute + length >= _MINUTES_A_DAY)
            at += timedelta(minutes=length)

    def passes_up_to(self, of: Newest) -> list[_Pass]:
        found = []
        for each in self.passes():
            day, _, number = each.id.partition("/")
            if (day, int(number)) > (of.day, of.pass_id):
                break
            found.append(each)
        return found

    def days_up_to(self, of: Newest) -> int:
        return sum(each.ends_day for each in self.passes_up_to(of))


class _Counted:
    """The sources' counts so far. done: the bytes of each file that markers have covered. by_pass: rows of the markers,
    or of the sources where there are no markers. certain: whether each row of the checkpoint is in the sources."""

    def __init__(self, result: Recount, of: Newest, rule: ShrinkRule, progress: Callable[[int, int], None]) -> None:
        self.result = result
        self.of = of
        self.progress = progress
        self.histories = Histories(rule)
        self.done: dict[FileName, int] = {}
        self.by_pass: dict[str, int] = {}
        self.certain = True
        self.day_ended = False
        self._shown: Counter[int] = Counter()
        self._clicked: Counter[int] = Counter()

    def add(self, portion: Portion) -> None:
        self.result.rows += portion.rows
        self.result.rejected += portion.rejected
        self._shown.update(portion.shown)
        self._clicked.update(portion.clicked)

    def end_pass(self, of: _Pass, rows: int) -> None:
        self.by_pass[of.id] = rows
        self.day_ended = of.ends_day
        if of.ends_day:
            self.flush()
            self.histories.end_day()
            self.result.shrinks += 1

    def flush(self) -> None:
        self.result.occurrences += sum(self._shown.values())
        self.histories.train(self._shown, self._clicked)
        self._shown.clear()
        self._clicked.clear()


def _segments(log: Log, of: Newest, schedule: _Schedule) -> tuple[list[_Pass] | None, str]:
    """The passes up to the checkpoint with their markers; None, and why, when they cannot be told."""
    if log.entries is None:
        return None, log.problem
    if of.topic_id and log.topic_id and of.topic_id != log.topic_id:
        return None, f"the marker log has the id {log.topic_id}, the checkpoint was made from the one of {of.topic_id}"
    if of.marker_offset < 0:
        return None, "the checkpoint does not say where in the marker log it is"
    found: list[_Pass] = []
    passes = schedule.passes()
    at = next(passes)
    open_entries: list[Entry] = []
    sequence = 0
    for entry in log.entries:
        if entry.offset >= of.marker_offset:
            break
        open_entries.append(entry)
        if entry.revision:
            continue
        if entry.sequence != sequence or entry.split != at.splits[sequence % schedule.per_pass]:
            return None, f"split {entry.split} of the marker log is not where the config's schedule has it"
        sequence += 1
        if sequence % schedule.per_pass == 0:
            found.append(_Pass(at.id, at.splits, at.ends_day, tuple(open_entries)))
            at, open_entries = next(passes), []
    if open_entries or not found or found[-1].id != of.id:
        last = found[-1].id if found else "no pass"
        return None, f"the marker log ends at {last} where the checkpoint is of {of.id}: was the schedule changed?"
    return found, ""


def _by_tree(reader: Reader, passes: list[_Pass], counted: _Counted) -> None:
    """Without the markers: the splits' files as they are."""
    total = sum(len(each.splits) for each in passes)
    number = 0
    for each in passes:
        before = counted.result.rows
        for split in each.splits:
            number += 1
            for path in reader.files(split).values() if each.id not in counted.of.untrained else ():
                counted.add(reader.read(path))
            counted.progress(number, total)
        counted.end_pass(each, counted.result.rows - before)
    counted.flush()


def _by_markers(reader: Reader, passes: list[_Pass], counted: _Counted) -> None:
    result = counted.result
    result.rows_in_markers = 0
    total = sum(len(each.entries) for each in passes)
    number = 0
    named = {(entry.split, source.path) for each in passes for entry in each.entries for source in entry.files}
    for each in passes:
        trained = each.id not in counted.of.untrained
        rows = 0
        for entry in each.entries:
            number += 1
            others = frozenset(path for split, path in named if split == entry.split)
            _one_marker(reader, entry, others, counted, trained=trained)
            rows += entry.rows if trained else 0
            counted.progress(number, total)
        result.rows_in_markers += rows
        counted.end_pass(each, rows)
    counted.flush()


def _one_marker(reader: Reader, entry: Entry, named: frozenset[str], counted: _Counted, *, trained: bool) -> None:
    """Reads the bytes that the marker names, and compares their rows with its counts."""
    portions: list[tuple[Source, Portion]] = []
    for source in entry.files:
        file = (entry.split, source.path)
        found = find(reader, entry.split, source, named) if source.bytes else None
        begin = counted.done.get(file, 0)
        counted.done[file] = max(begin, source.bytes)
        if isinstance(found, str):
            if trained:
                _not_recountable(counted, entry.split, source, found)
        elif found is not None:
            if found.path != reader.data_dir / entry.split / source.path:
                _renamed(counted, entry.split, reader, found, source)
            if trained:
                portions.append((source, reader.read(found.path, begin, source.bytes, inside=found.inside)))
    refused = entry.rejected - sum(portion.rejected for _, portion in portions)
    for source, portion in portions:
        judged = judge(portion, source, refused)
        counted.done[entry.split, source.path] = judged.end
        refused -= judged.loose
        counted.add(judged.portion)
        _note_rows(counted, entry, source, judged)
    of_files = sum(source.rows for source in entry.files)
    if trained and of_files != entry.rows:
        why = f"its marker says {entry.rows} rows, its files have {of_files} by the same marker"
        _uneven(counted.result, Place(entry.split, "", entry.rows - of_files, why))


def _renamed(counted: _Counted, split: str, reader: Reader, found: Found, source: Source) -> None:
    """The file that a marker names has another name now, which is neither pending nor late."""
    path = found.path.relative_to(reader.data_dir / split).as_posix()
    size = found.path.stat().st_size if found.inside else source.bytes
    counted.done[split, path] = max(size, counted.done.get((split, path), 0))


def _not_recountable(counted: _Counted, split: str, source: Source, why: str) -> None:
    result = counted.result
    counted.certain = False
    result.not_recountable_rows += source.rows
    result.not_recountable_files += 1
    if len(result.not_recountable) < _NAMED:
        why = f"{why} (bridged: {source.bytes} bytes, SHA-256 {source.sha256})"
        result.not_recountable.append(Place(split, source.path, source.rows, why))


def _note_rows(counted: _Counted, entry: Entry, source: Source, judged: Judged) -> None:
    result = counted.result
    where = f"the file has {judged.portion.rows} rows there, its marker (revision {entry.revision}) {source.rows}"
    if judged.loose:
        counted.certain = False
        text = f"which {judged.loose} rows of {entry.split}/{source.path} the bridge refused as too large for Kafka"
        result.unknown.append(text)
        result.rows -= judged.loose
    if judged.lost:
        _uneven(result, Place(entry.split, source.path, -judged.lost, where))
    if judged.duplicated:
        _uneven(result, Place(entry.split, source.path, judged.duplicated, where))


def _uneven(result: Recount, place: Place) -> None:
    """place.rows: below 0 they are lost, above 0 there are too many of them."""
    rows = place.rows or 0
    result.lost_rows += max(0, -rows)
    result.duplicated_rows += max(0, rows)
    if len(result.uneven) < _NAMED:
        result.uneven.append(place)


def _find_pending(
    result: Recount, reader: Reader, entries: Sequence[Entry], position: int, done: dict[FileName, int], policy: Policy
) -> None:
    later = {(e.split, f.path) for e in entries for f in e.files if e.offset >= position}
    lost: set[FileName] = set()
    if policy.changed != "append":  # the bridge appends it at its next check
        for entry in entries:
            if entry.offset < position and not entry.revision:
                for place in left_out(reader, entry, done.keys() | later):
                    lost.add((place.split, place.file))
                    _uneven(result, Place(place.split, place.file, -(place.rows or 0), place.why))
    for place in pending(reader, entries, position, done, policy):
        if (place.split, place.file) not in lost:
            result.pending_rows += place.rows or 0
            if len(result.pending) < _NAMED:
                result.pending.append(place)


def _compare_rows(result: Recount, counted: _Counted, journal: dict[str, int]) -> None:
    """The rows by pass against those that were trained; the manifest has their sum."""
    if result.not_recountable_files:
        result.unknown.append(
            f"{result.not_recountable_rows} rows: {result.not_recountable_files} source files are missing or changed"
        )
    passes = {each: rows for each, rows in counted.by_pass.items() if each not in counted.of.untrained}
    total = f"all passes up to {counted.of.id}"
    by_journal = passes.keys() <= journal.keys() and sum(journal[each] for each in passes) == result.rows_in_manifest
    trained = {each: journal[each] for each in passes} if by_journal else {total: result.rows_in_manifest}
    sources = passes if by_journal else {total: sum(passes.values())}
    uneven = {each: trained[each] - rows for each, rows in sources.items() if trained[each] != rows}
    if result.rows_in_markers is None:
        if uneven:
            counted.certain = False
            result.unknown.append(f"which source files the checkpoint was made of: {result.marker_log}")
        for each, difference in uneven.items():
            less = "fewer" if difference > 0 else "more"
            result.unknown.append(f"{each}: the sources have {abs(difference)} rows {less} than were trained")
        return
    for each, difference in uneven.items():
        why = f"{trained[each]} rows were trained, the markers say {sources[each]}"
        _uneven(result, Place(f"pass {each}" if by_journal else each, "", difference, why))


def _compare_keys(result: Recount, counted: _Counted, of: Newest, rule: ShrinkRule) -> None:
    """Without the markers and with rows that do not agree nothing is certain; with files that are gone a show that is
    too small is."""
    result.deleted = counted.histories.deleted
    last = rule.show_click_decay_rate if counted.day_ended else 1.0
    loose = any("refused as too large" in text for text in result.unknown)
    less = counted.certain or (result.rows_in_markers is not None and not loose)
    found = compare(counted.histories, table(of.path / "embedding.shard"), last, less=less, more=counted.certain)
    for name, value in asdict(found).items():
        setattr(result, name, value)
    if result.not_recountable_keys:
        result.unknown.append(f"{result.not_recountable_keys} keys, whose show may be right")
    result.reason = _wrong_shrinks(of, result)


def _late_rows(of: Newest, rule: ShrinkRule, days: int) -> str:
    """Without the markers nothing says in which pass a late row was trained: why that matters, '' when it does not."""
    if not of.late_rows or (rule.keeps_all(days) and not of.untrained):
        return ""
    why = f"pass {min(of.untrained)} was not trained" if of.untrained else ""
    if days and not rule.keeps_all(days):
        why = "at the end of a day show decays and keys are deleted"
    if not why:
        return ""
    return (
        f"in which pass {of.late_rows} rows of revisions that came after their pass were trained, and {why}: only the "
        "marker log says it"
    )


def _wrong_shrinks(of: Newest, result: Recount) -> str:
    """Why the manifest's number of shrinks is wrong; '' when it is not, or made no difference."""
    if of.shrinks == result.shrinks:
        return ""
    if not of.shrinks and result.decay == 1 and not result.deleted and not result.undecided:
        return ""
    return f"the manifest says that the table was shrunk {of.shrinks} times, {result.shrinks} days were completed" + (
        "" if of.shrinks else ": the job was trained by a version that shrinks nothing, or its shrinks failed"
    )
