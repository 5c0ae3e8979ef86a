"""The proof, from outside: every key's rows in the source files against `show` in the checkpoint.

It shares no code with the bridge's or the trainer's way of reading: the day and split arithmetic, the
lines, the manifest and the table are read here once more, from the files alone. What decay and deletion at the
end of each day do to the counts is in days.py, the reading of the sources in rows.py.
"""

from __future__ import annotations

import json
from array import array
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from streamtrain.errors import CheckpointError, DataError
from streamtrain.proof.days import ABSENT, NEVER, Histories, ShrinkRule, lookup
from streamtrain.proof.rows import ParseFunction, files, lines, row_of

_MINUTES_A_DAY = 1440


@dataclass
class Recount:
    """What the sources say and what the checkpoint says.

    keys: that must be in the checkpoint. occurrences: of all keys in the sources. lost, duplicated: too few, too
    many in `show`. wrong_clicks: keys whose click is not the number of their occurrences in clicked rows.
    unknown_keys: in the checkpoint alone. rows_in_manifest: as the trainer counted them.
    examples: (key, expected show, actual show).

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

    @property
    def ok(self) -> bool:
        wrong = (self.lost, self.duplicated, self.missing_keys, self.unknown_keys, self.wrong_clicks)
        return not any(wrong) and not self.reason and self.rows == self.rows_in_manifest

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "ok": self.ok}


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
) -> Recount:
    """Recounts the splits from start_day's first up to the newest checkpoint's pass.

    split_interval: minutes. slots: the model's. parse: for a format of the user's. rule: what is done at the end of
    a day. progress(splits done, of).
    Raises CheckpointError when there is no readable checkpoint, DataError for a file that cannot be read and for
    late rows where it matters in which day they were trained.
    """
    newest = _newest(model_save_path)
    splits = list(_splits(start_day, newest, split_interval, split_per_pass))
    days = sum(split.ends_day for split in splits)
    _refuse_late_rows(newest, rule, days)
    result = Recount(
        str(newest.path), newest.day, newest.pass_id,
        rows_in_manifest=newest.rows, shrinks=days, decay=rule.show_click_decay_rate,
    )  # fmt: skip
    histories = Histories(rule)
    shown: Counter[int] = Counter()
    clicked: Counter[int] = Counter()
    wanted = frozenset(slots)
    for number, split in enumerate(splits, 1):
        for file in files(data_dir / split.path, donefile) if split.pass_id not in newest.untrained else ():
            for line in lines(file):
                try:
                    label, keys = row_of(line, line_format, slots, wanted, parse, reject_unknown)
                except (ValueError, TypeError, IndexError, KeyError, OverflowError):
                    result.rejected += 1
                    continue
                result.rows += 1
                shown.update(keys)
                if label:
                    clicked.update(keys)
        if split.ends_day or number == len(splits):
            result.occurrences += sum(shown.values())
            histories.train(shown, clicked)
            shown.clear()
            clicked.clear()
        if split.ends_day:
            histories.end_day()
        progress(number, len(splits))
    result.deleted = histories.deleted
    last = rule.show_click_decay_rate if splits and splits[-1].ends_day else 1.0
    _compare(result, histories, newest.path, last)
    result.reason = _wrong_shrinks(newest, result)
    return result


@dataclass(frozen=True)
class _Newest:
    """The newest checkpoint and what its manifest says."""

    path: Path
    day: str
    pass_id: int
    rows: int
    shrinks: int
    late_rows: int
    untrained: frozenset[str]


def _newest(root: Path) -> _Newest:
    manifests = []
    for manifest in root.glob("*/*/manifest.json"):
        folder = manifest.parent
        if folder.parent.name.isdigit() and folder.name.isdigit():
            manifests.append((folder.parent.name, int(folder.name), folder))
    if not manifests:
        raise CheckpointError(f"{root} has no checkpoint", remedy="Train first; the first pass saves one.")
    day, pass_id, folder = max(manifests)
    try:
        values = json.loads((folder / "manifest.json").read_text())
        return _Newest(
            folder, day, pass_id, int(values["rows"]), int(values.get("shrinks", 0)), int(values.get("late_rows", 0)),
            frozenset(values.get("untrained", ())),
        )  # fmt: skip
    except (ValueError, KeyError, TypeError, AttributeError, OSError) as error:
        raise CheckpointError(f"{folder / 'manifest.json'} cannot be read: {error}") from error


@dataclass(frozen=True)
class _Split:
    """path: day/HHMM. of: its pass, day/pass_id. ends_day: whether it is the last of its day."""

    path: str
    pass_id: str
    ends_day: bool


def _splits(start: str, newest: _Newest, interval: int, per_pass: int) -> Iterator[_Split]:
    at = datetime.strptime(start, "%Y%m%d")
    end = datetime.strptime(newest.day, "%Y%m%d") + timedelta(minutes=interval * per_pass * newest.pass_id)
    while at < end:
        minute = at.hour * 60 + at.minute
        pass_id = f"{at:%Y%m%d}/{minute // (interval * per_pass) + 1}"
        yield _Split(f"{at:%Y%m%d/%H%M}", pass_id, minute + interval >= _MINUTES_A_DAY)
        at += timedelta(minutes=interval)


def _refuse_late_rows(newest: _Newest, rule: ShrinkRule, days: int) -> None:
    """Nothing says in which pass a late row was trained. Raises DataError where that matters."""
    if not newest.late_rows or (rule.keeps_all(days) and not newest.untrained):
        return
    if days and not rule.keeps_all(days):
        why = "at the end of a day show decays and keys are deleted"
        remedy = "Such a job can be recounted only with show_click_decay_rate 1, delete_threshold 0 and a large "
        remedy += "delete_after_unseen_days."
    elif newest.untrained:
        why = f"pass {min(newest.untrained)} was not trained"
        remedy = "A job whose gate kept passes from training can be recounted only without late revisions."
    else:
        return
    raise DataError(
        f"{newest.path} has {newest.late_rows} rows of revisions that came after their pass, and {why}: the files do "
        "not say in which pass such a row was trained, so nobody can recount it",
        remedy=remedy,
    )


def _wrong_shrinks(newest: _Newest, result: Recount) -> str:
    """Why the manifest's number of shrinks is wrong; '' when it is not, or made no difference."""
    if newest.shrinks == result.shrinks:
        return ""
    if not newest.shrinks and result.decay == 1 and not result.deleted and not result.undecided:
        return ""
    return (
        f"the manifest says that the table was shrunk {newest.shrinks} times, {result.shrinks} days were completed"
        + ("" if newest.shrinks else ": the job was trained by a version that shrinks nothing, or its shrinks failed")
    )


def _compare(result: Recount, histories: Histories, checkpoint: Path, last: float) -> None:
    """last: what one row of the last day adds to show."""
    keys, shows, clicks = _table(checkpoint / "embedding.shard")
    twice = np.zeros(len(keys), np.bool_)
    twice[1:] = keys[1:] == keys[:-1]
    keys_of_rows = histories.key
    at, present = lookup(keys, keys_of_rows)
    actual = np.where(present, shows[at] if len(keys) else 0.0, 0.0)
    actual_click = np.where(present, clicks[at] if len(keys) else 0.0, 0.0)
    there = histories.unseen != ABSENT
    expected = histories.show.astype(np.float64)
    tolerance = histories.tolerance()
    difference = actual - expected
    same_show = (present == there) & (np.abs(difference) <= tolerance)
    right = same_show & (np.abs(actual_click - histories.click) <= tolerance)

    distinct, counts = np.unique(keys_of_rows, return_counts=True)
    result.keys = len(distinct)
    result.undecided = int((counts > 1).sum())
    positive = expected > 0
    result.tolerance = float((tolerance[positive] / expected[positive]).max(initial=0.0))
    result.sharp = result.keys - len(np.unique(keys_of_rows[there & (2 * tolerance >= last)]))

    unknown = ~lookup(keys_of_rows, keys)[1] | twice
    result.unknown_keys = int(unknown.sum())
    for i in np.flatnonzero(unknown)[:10]:
        _note(result, keys[i], 0.0, shows[i])
    wrong = np.flatnonzero(~right & ~lookup(keys_of_rows[right], keys_of_rows)[1])
    wrong = wrong[np.lexsort((np.abs(difference[wrong]), keys_of_rows[wrong]))]  # of several histories the nearest one
    for i in wrong[np.unique(keys_of_rows[wrong], return_index=True)[1]]:
        if same_show[i]:
            result.wrong_clicks += 1
            continue
        result.missing_keys += int(not present[i])
        size = max(1, round(abs(float(difference[i]))))
        if difference[i] < 0 or not present[i]:
            result.lost += size
        else:
            result.duplicated += size
        _note(result, keys_of_rows[i], expected[i], actual[i])


def _note(result: Recount, key: np.uint64, expected: float, actual: float) -> None:
    if len(result.examples) < 10:
        result.examples.append((int(key), float(expected), float(actual)))


def _table(shard: Path) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """key, show and click by key: columns 1, 5 and 6 of the part files."""
    keys, shows, clicks = array("Q"), array("d"), array("d")
    for part in sorted(shard.glob("part-*.txt*")):
        for number, line in enumerate(lines(part), 1):
            try:
                columns = line.split(None, 6)
                keys.append(int(columns[0]))
                shows.append(float(columns[4]))
                clicks.append(float(columns[5]))
            except (ValueError, IndexError, OverflowError) as error:
                raise CheckpointError(
                    f"{part}, line {number}: {line[:60]!r} is not a line of the table",
                    remedy="The checkpoint is damaged: `streamtrain checkpoints verify` says more.",
                ) from error
    if not (np.isfinite(shows).all() and np.isfinite(clicks).all()):
        raise CheckpointError(f"{shard} has a show or click that is not a number", remedy="Use an older checkpoint.")
    order = np.argsort(np.array(keys, np.uint64), kind="stable")
    return np.array(keys, np.uint64)[order], np.array(shows)[order], np.array(clicks)[order]
