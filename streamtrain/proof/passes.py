"""Passes once more: by the schedule, and with the markers of each. For the recount alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from streamtrain.proof.markers import Entry, Log
from streamtrain.proof.newest import Newest

_MINUTES_A_DAY = 1440


@dataclass(frozen=True)
class Pass:
    """id: day/pass_id. entries: its markers. splits: its splits, day/HHMM. ends_day: whether it is the day's last."""

    id: str
    splits: tuple[str, ...]
    ends_day: bool
    entries: tuple[Entry, ...] = ()


@dataclass(frozen=True)
class Schedule:
    """interval: minutes in a split. per_pass: splits in a pass."""

    start_day: str
    interval: int
    per_pass: int

    def passes(self) -> Iterator[Pass]:
        """All passes from start_day's first on, without end."""
        at = datetime.strptime(self.start_day, "%Y%m%d")
        length = self.interval * self.per_pass
        while True:
            times = [at + timedelta(minutes=self.interval * i) for i in range(self.per_pass)]
            minute = at.hour * 60 + at.minute
            splits = tuple(f"{time:%Y%m%d/%H%M}" for time in times)
            yield Pass(f"{at:%Y%m%d}/{minute // length + 1}", splits, minute + length >= _MINUTES_A_DAY)
            at += timedelta(minutes=length)

    def passes_up_to(self, of: Newest) -> list[Pass]:
        found = []
        for each in self.passes():
            day, _, number = each.id.partition("/")
            if (day, int(number)) > (of.day, of.pass_id):
                break
            found.append(each)
        return found


def with_markers(log: Log, of: Newest, schedule: Schedule) -> list[Pass] | str:
    """The passes up to the checkpoint with their markers, late revisions too; why, when they cannot be told."""
    if log.entries is None:
        return log.problem
    if of.topic_id and log.topic_id and of.topic_id != log.topic_id:
        return f"the marker log has the id {log.topic_id}, the checkpoint was made from the one of {of.topic_id}"
    if of.marker_offset < 0:
        return "the checkpoint does not say where in the marker log it is"
    found: list[Pass] = []
    passes = schedule.passes()
    at = next(passes)
    markers: list[Entry] = []
    sequence = 0
    for entry in log.entries:
        if entry.offset >= of.marker_offset:
            break
        markers.append(entry)
        if entry.revision:
            continue
        if entry.sequence != sequence or entry.split != at.splits[sequence % schedule.per_pass]:
            return f"split {entry.split} of the marker log is not where the config's schedule has it"
        sequence += 1
        if sequence % schedule.per_pass == 0:
            found.append(replace(at, entries=tuple(markers)))
            at, markers = next(passes), []
    if markers or not found or found[-1].id != of.id:
        last = found[-1].id if found else "no pass"
        return (
            f"up to the checkpoint's position the marker log ends at {last}, the checkpoint is of {of.id}: were "
            "start_day, split_interval or split_per_pass changed?"
        )
    return found
