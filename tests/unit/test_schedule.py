from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamtrain.schedule import PassId, Schedule, format_day, parse_day


@st.composite
def schedules(draw: st.DrawFn) -> Schedule:
    interval = draw(st.sampled_from([n for n in range(1, 1441) if 1440 % n == 0]))
    splits = 1440 // interval
    per_pass = draw(st.sampled_from([n for n in range(1, splits + 1) if splits % n == 0]))
    first = draw(st.dates(min_value=parse_day("19970101"), max_value=parse_day("20400101")))
    last = first + timedelta(days=draw(st.integers(0, 400)))
    return Schedule(interval, per_pass, format_day(first), format_day(last))


@given(schedules(), st.data())
def test_sequence_is_the_inverse_of_split(schedule: Schedule, data: st.DataObject) -> None:
    sequence = data.draw(st.integers(0, schedule.total_splits - 1))
    split = schedule.split(sequence)
    assert schedule.sequence(split.day, split.time) == sequence
    assert schedule.start_day <= split.day <= schedule.end_day


@given(schedules(), st.data())
def test_each_split_is_in_exactly_one_pass(schedule: Schedule, data: st.DataObject) -> None:
    index = data.draw(st.integers(0, schedule.total_passes - 1))
    pass_id = schedule.pass_at(index)
    assert schedule.pass_index(pass_id) == index
    last = schedule.last_sequence(pass_id)
    assert {schedule.split(s).day for s in range(last - schedule.split_per_pass + 1, last + 1)} == {pass_id.day}
    assert schedule.total_passes * schedule.split_per_pass == schedule.total_splits
    assert schedule.is_day_end(pass_id) == (schedule.split(last + 1).day != pass_id.day)


def test_names_as_paddlerec_has_them() -> None:
    schedule = Schedule(30, 2, "20190720", "20190722")
    assert [s.path for s in schedule.splits()][:3] == ["20190720/0000", "20190720/0030", "20190720/0100"]
    assert schedule.pass_at(24) == PassId("20190721", 1)


@pytest.mark.parametrize("bad", [(7, 1, "20190720", "20190720"), (30, 5, "20190720", "20190720"),
                                 (30, 2, "20190721", "20190720"), (30, 2, "20190732", "20190801")])  # fmt: skip
def test_what_does_not_divide_a_day_is_refused(bad: tuple[int, int, str, str]) -> None:
    with pytest.raises(ValueError):
        Schedule(*bad)


@pytest.mark.parametrize(
    ("zone", "day", "ends"),
    [
        ("UTC", "20240101", ["2024-01-01T12:00:00+00:00", "2024-01-02T00:00:00+00:00"]),
        ("Asia/Shanghai", "20240101", ["2024-01-01T12:00:00+08:00", "2024-01-02T00:00:00+08:00"]),
        ("Europe/Berlin", "20240330", ["2024-03-30T12:00:00+01:00", "2024-03-31T00:00:00+01:00"]),
        ("Europe/Berlin", "20240331", ["2024-03-31T12:00:00+02:00", "2024-04-01T00:00:00+02:00"]),
    ],
)
def test_a_split_ends_in_the_logs_time_zone(zone: str, day: str, ends: list[str]) -> None:
    schedule = Schedule(720, 1, day, day, zone)
    assert [schedule.ends_at(0), schedule.ends_at(1)] == ends


@pytest.mark.parametrize("zone", ["America", "", "No/Where", "/etc/passwd", "a\0b", "+08:00"])
def test_a_zone_that_there_is_not(zone: str) -> None:
    with pytest.raises(ValueError, match="not a time zone"):
        Schedule(720, 1, "20240101", "20240101", zone)
