"""The age of a model does not depend on the clock of the machine that serves it."""

import time

import pytest

from streamtrain.schedule import Schedule
from streamtrain.serving.model import Version


@pytest.mark.parametrize("zone", ["UTC", "Asia/Shanghai", "America/New_York"])
def test_event_time_is_a_moment(zone: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        moment = 1704081600  # 2024-01-01T04:00:00Z
        for text in ("2024-01-01T12:00:00+08:00", "2024-01-01T04:00:00+00:00", "2024-01-01T04:00:00"):
            assert Version("20240101", 1, "x", text).event_timestamp == moment
        for text in ("", None, "12:00", "0001-01-01T00:00:00+23:00"):
            assert Version("20240101", 1, "x", text).event_timestamp in (None, -62135679600.0)
    finally:
        monkeypatch.undo()
        time.tzset()


def test_the_end_of_a_split_is_a_moment() -> None:
    schedule = Schedule(720, 1, "20240101", "20240102", "Asia/Shanghai")
    assert Version("20240101", 1, "x", schedule.ends_at(0)).event_timestamp == 1704081600
