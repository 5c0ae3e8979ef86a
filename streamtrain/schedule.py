"""Day, split and pass arithmetic. Pure.

A day has `1440 / split_interval` splits, named by their start as HHMM; `split_per_pass` consecutive ones
make a pass, whose `pass_id` is 1-based within its day. A split's `sequence` counts from 0 at the first
split of start_day.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta

MINUTES_A_DAY = 1440


def parse_day(text: str) -> date:
    """`20190720` as a date. Raises ValueError for text that is not a day."""
    if not re.fullmatch(r"[0-9]{8}", text):
        raise ValueError(f"{text!r} is not a day of the form YYYYMMDD")
    return date(int(text[:4]), int(text[4:6]), int(text[6:]))


def format_day(day: date) -> str:
    return day.strftime("%Y%m%d")


@dataclass(frozen=True, order=True)
class Split:
    """One directory day/HHMM. `sequence` is 0 for the first split of start_day."""

    sequence: int
    day: str
    time: str

    @property
    def path(self) -> str:
        return f"{self.day}/{self.time}"


@dataclass(frozen=True, order=True)
class PassId:
    """A pass: its day and its 1-based number within the day."""

    day: str
    pass_id: int

    def __str__(self) -> str:
        return f"{self.day}/{self.pass_id}"


@dataclass(frozen=True)
class Schedule:
    """The splits and passes of a job.

    split_interval: minutes; split_per_pass: splits; start_day, end_day: inclusive.
    Raises ValueError when the numbers do not divide a day or the days are in the wrong order.
    """

    split_interval: int
    split_per_pass: int
    start_day: str
    end_day: str

    def __post_init__(self) -> None:
        if self.split_interval < 1 or MINUTES_A_DAY % self.split_interval:
            raise ValueError("split_interval does not divide a day of 1440 minutes")
        if self.split_per_pass < 1 or self.splits_a_day % self.split_per_pass:
            raise ValueError(f"split_per_pass does not divide the {self.splits_a_day} splits of a day")
        if parse_day(self.end_day) < parse_day(self.start_day):
            raise ValueError("end_day is before start_day")

    @property
    def splits_a_day(self) -> int:
        return MINUTES_A_DAY // self.split_interval

    @property
    def passes_a_day(self) -> int:
        return self.splits_a_day // self.split_per_pass

    @property
    def days(self) -> int:
        return (parse_day(self.end_day) - parse_day(self.start_day)).days + 1

    @property
    def total_splits(self) -> int:
        return self.days * self.splits_a_day

    @property
    def total_passes(self) -> int:
        return self.days * self.passes_a_day

    def split(self, sequence: int) -> Split:
        """The split with that sequence; it may lie after end_day."""
        days, index = divmod(sequence, self.splits_a_day)
        day = parse_day(self.start_day) + timedelta(days=days)
        minutes = index * self.split_interval
        return Split(sequence, format_day(day), f"{minutes // 60:02d}{minutes % 60:02d}")

    def sequence(self, day: str, time: str) -> int:
        """The sequence of the split day/time. Raises ValueError when the schedule has no such split."""
        minutes = int(time[:2]) * 60 + int(time[2:])
        if minutes % self.split_interval:
            raise ValueError(f"{time} is not the start of a split of {self.split_interval} minutes")
        days = (parse_day(day) - parse_day(self.start_day)).days
        return days * self.splits_a_day + minutes // self.split_interval

    def splits(self, start: int = 0) -> Iterator[Split]:
        """All splits from sequence `start` to the end of end_day."""
        for sequence in range(start, self.total_splits):
            yield self.split(sequence)

    def pass_at(self, index: int) -> PassId:
        """The pass number `index`, counted from 0 over all days."""
        days, k = divmod(index, self.passes_a_day)
        return PassId(format_day(parse_day(self.start_day) + timedelta(days=days)), k + 1)

    def pass_index(self, pass_id: PassId) -> int:
        """The inverse of pass_at."""
        days = (parse_day(pass_id.day) - parse_day(self.start_day)).days
        return days * self.passes_a_day + pass_id.pass_id - 1

    def last_sequence(self, pass_id: PassId) -> int:
        """The sequence of the split that completes a pass."""
        return (self.pass_index(pass_id) + 1) * self.split_per_pass - 1

    def ends_at(self, sequence: int) -> str:
        """When the split with that sequence ends, ISO 8601 without a zone: the logs' own clock."""
        after = self.split(sequence + 1)
        return f"{parse_day(after.day).isoformat()}T{after.time[:2]}:{after.time[2:]}:00"

    def is_day_end(self, pass_id: PassId) -> bool:
        return pass_id.pass_id == self.passes_a_day
