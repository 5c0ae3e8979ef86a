"""The proof, from outside: every key's rows in the source files against `show` in the checkpoint.

It shares no code with the bridge's or the trainer's way of reading: the day and split arithmetic, the lines, the
markers, the manifest and the table are read here once more. What decay and deletion at the end of each day do to the
counts is in days.py, the reading of the sources in rows.py and sources.py, of the marker log in markers.py.

It says only what it knows. The markers say which bytes of which files the checkpoint was made of. Rows that no marker
up to the checkpoint has are pending. Where such bytes are missing or changed, or the markers themselves cannot be read,
what differs may have its cause there, and is not called lost or trained twice.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from streamtrain.proof.compare import Differences, compare, total
from streamtrain.proof.counting import Counted, by_markers, by_tree, places
from streamtrain.proof.days import NEVER, Histories, ShrinkRule
from streamtrain.proof.line_rules import ParseFunction, Rules
from streamtrain.proof.logs import LocalLogs, Logs
from streamtrain.proof.markers import Entry, Log
from streamtrain.proof.newest import Newest, newest, rows_by_pass, table
from streamtrain.proof.passes import Schedule, with_markers
from streamtrain.proof.pending import Policy, left_out, pending
from streamtrain.proof.rows import DEFAULT_IGNORE
from streamtrain.proof.sources import FileName, Place, Reader
from streamtrain.proof.start import begin
from streamtrain.proof.tables import tables_of

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
    may be the cause. examples: (key, expected show, actual show). places: by key of the examples, files that it is in.

    What could be checked: shrinks: ends of days so far. decay: show_click_decay_rate. deleted: keys deleted at ends
    of days. tolerance: the largest of any key, as a part of its show; 0: all are compared exactly. sharp: keys of
    which one row too few or too many of the last day is sure to be seen. undecided: keys too close to the threshold
    for anybody to tell whether they were deleted: compared with both. reason: what else is wrong.

    tables: of a network with several tables, those of the numbers above that are of keys, by table.
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
    places: dict[str, list[str]] = field(default_factory=dict)
    tables: dict[str, dict[str, Any]] = field(default_factory=dict)

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
    data_dir: Path | Logs,
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
    rules: Rules | None = None,
    rule: ShrinkRule | Mapping[str, ShrinkRule] = NEVER,
    progress: Callable[[int, int], None] = lambda _done, _of: None,
    ignore: Sequence[str] = DEFAULT_IGNORE,
    changed_split: str = "fail",
    end_day: str = "",
    log: Log = _UNREAD,
) -> Recount:
    """Recounts what the newest checkpoint was made of: from start_day's first split up to the checkpoint's pass.

    data_dir: a folder, or where else the logs are. split_interval: minutes. slots: the model's. parse: for a format of
    the user's. rules: how lines are read, in place of slots, line_format, parse and reject_unknown. rule: what is done
    at the end of a day; by table, or to all. progress(splits or markers done, of). ignore: patterns of names that are
    no logs. changed_split, end_day: the config's. log: the marker log.
    Raises CheckpointError when there is no readable checkpoint, UnknownFormat for one of another version, DataError for
    a file that cannot be unpacked, Unreadable.
    """
    of = newest(model_save_path)
    schedule = Schedule(start_day, split_interval, split_per_pass)
    rules = rules or Rules(slots, line_format, parse, reject_unknown)
    tables = tables_of(of.path, rules, rule if isinstance(rule, Mapping) else {"": rule})
    logs = LocalLogs(data_dir) if isinstance(data_dir, Path) else data_dir
    reader = Reader(logs, rules, tables, donefile, ignore, append=changed_split == "append")
    decay = min((each.rule.show_click_decay_rate for each in tables), default=1.0)
    result = Recount(str(of.path), of.day, of.pass_id, rows_in_manifest=of.rows, decay=decay)
    counted = Counted([Histories(each.rule) for each in tables])
    begun = {each.name: begin(of.path, each.name, h) for each, h in zip(tables, counted.histories, strict=True)}
    passes = with_markers(log, of, schedule)
    if isinstance(passes, str):
        result.marker_log = passes
        passes = schedule.passes_up_to(of)
        if late := _late_rows(of, [each.rule for each in tables], sum(each.ends_day for each in passes)):
            result.unknown.append(f"{late}; {result.marker_log}")
            return result
        by_tree(reader, passes, of.untrained, counted, progress)
    else:
        by_markers(reader, passes, of.untrained, counted, progress)
        result.rows_in_markers = sum(counted.by_pass.values())
        _find_pending(result, reader, log.entries or (), of.marker_offset, counted, Policy(changed_split, end_day))
    _take(result, counted)
    certain = _compare_rows(result, counted, of, rows_by_pass(model_save_path, of))
    _compare_keys(result, counted, of, reader, begun, certain=certain)
    if result.examples:
        result.places = places(reader, counted, [key for key, _, _ in result.examples])
    return result


def _take(result: Recount, counted: Counted) -> None:
    result.rows, result.rejected, result.occurrences = counted.rows, counted.rejected, counted.occurrences
    result.shrinks, result.deleted = counted.shrinks, sum(each.deleted for each in counted.histories)
    result.not_recountable_files = len(counted.gone)
    result.not_recountable_rows = sum(place.rows or 0 for place in counted.gone)
    result.not_recountable = counted.gone[:_NAMED]
    if counted.gone:
        files, rows = result.not_recountable_files, result.not_recountable_rows
        result.unknown.append(f"{rows} rows of {files} source files that are missing or changed")
    for (split, file), rows in counted.too_large.items():
        result.unknown.append(f"which {rows} rows of {split}/{file} the bridge refused as too large for Kafka")
    for place in counted.uneven:
        _uneven(result, place)


def _uneven(result: Recount, place: Place) -> None:
    """place.rows: below 0 they are lost, above 0 there are too many of them."""
    rows = place.rows or 0
    result.lost_rows += max(0, -rows)
    result.duplicated_rows += max(0, rows)
    if len(result.uneven) < _NAMED:
        result.uneven.append(place)


def _find_pending(
    result: Recount, reader: Reader, entries: Sequence[Entry], position: int, counted: Counted, policy: Policy
) -> None:
    named = counted.done.keys() | {(e.split, f.path) for e in entries for f in e.files}
    lost: set[FileName] = set()
    if policy.changed != "append":  # with append the bridge takes it at its next look
        for entry in entries:
            if entry.offset < position and not entry.revision:
                for place in left_out(reader, entry, named):
                    lost.add((place.split, place.file))
                    _uneven(result, replace(place, rows=-(place.rows or 0)))
    gone = {(place.split, place.file) for place in counted.gone}
    for place in pending(reader, entries, position, counted.done, gone, policy):
        if (place.split, place.file) not in lost:
            result.pending_rows += place.rows or 0
            if len(result.pending) < _NAMED:
                result.pending.append(place)


def _compare_rows(result: Recount, counted: Counted, of: Newest, journal: Mapping[str, int]) -> bool:
    """The rows by pass against those that were trained. Whether each row of the checkpoint is in the sources, and each
    of the sources that was read in the checkpoint, as far as the counts say."""
    total = f"all passes up to {of.id}"
    passes = counted.by_pass
    without = result.rows_in_markers is None
    by_journal = passes.keys() <= journal.keys() and sum(journal[each] for each in passes) == result.rows_in_manifest
    if by_journal and not (without and of.late_rows):  # without markers a late row counts for its split's pass
        pairs = {f"pass {each}": (rows, journal[each]) for each, rows in passes.items()}
    else:
        pairs = {total: (sum(passes.values()), result.rows_in_manifest)}
    uneven = {each: pair for each, pair in pairs.items() if pair[0] != pair[1]}
    if without:
        if uneven:
            result.unknown.append(f"which source files the checkpoint was made of: {result.marker_log}")
        for each, (rows, trained) in list(uneven.items())[:_NAMED]:
            text = (
                f"{each}: the sources have {rows} rows, {trained} were trained; pending, or files are gone or changed?"
            )
            result.unknown.append(text)
        return not uneven
    for each, (rows, trained) in uneven.items():
        why = f"{trained} rows were trained, the markers say {rows}"
        _uneven(result, Place(each, "", trained - rows, why))
    return not counted.gone and not counted.too_large


def _compare_keys(
    result: Recount, counted: Counted, of: Newest, reader: Reader, begun: Mapping[str, str], *, certain: bool
) -> None:
    """Without the markers and with rows that do not agree nothing is certain; with files that are gone a show that is
    too small is: it is so whatever the files had."""
    less = certain or (result.rows_in_markers is not None and not counted.too_large)
    found: dict[str, Differences] = {}
    for each, histories in zip(reader.tables, counted.histories, strict=True):
        if why := begun[each.name] or each.unprovable(reader.rules, counted.shrinks):
            result.unknown.append(why)
            continue
        last = each.rule.show_click_decay_rate if counted.day_ended else 1.0
        clicks = each.exact_clicks(reader.rules)
        shown = table(of.path / each.directory)
        found[each.name] = compare(histories, shown, last, less=less, more=certain, clicks=clicks)
    if not reader.tables:
        result.unknown.append("the network, which has no sparse table: nothing in its checkpoint counts rows")
    for name, value in vars(total(list(found.values()))).items():
        setattr(result, name, value)
    if len(reader.tables) > 1:
        result.tables = {name: {k: v for k, v in vars(its).items() if k != "examples"} for name, its in found.items()}
    if result.not_recountable_keys:
        result.unknown.append(f"{result.not_recountable_keys} keys, whose show differs and may be right")
    result.reason = _wrong_shrinks(of, result)


def _late_rows(of: Newest, rules: Sequence[ShrinkRule], days: int) -> str:
    """Without the markers nothing says in which pass a late row was trained: why that matters, '' when it does not."""
    keeps_all = all(rule.keeps_all(days) for rule in rules)
    if not of.late_rows or (keeps_all and not of.untrained):
        return ""
    why = f"pass {min(of.untrained)} was not trained" if of.untrained else ""
    if days and not keeps_all:
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
