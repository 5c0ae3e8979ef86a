import json
from dataclasses import asdict, dataclass

import pytest

from streamtrain.timings import Timings


def test_parts_in_their_order() -> None:
    timings = Timings()
    with timings("sealed"):
        pass
    with timings("committed"), timings("inner"):
        pass
    assert list(timings) == ["sealed", "inner", "committed"] and all(seconds >= 0 for seconds in timings.values())
    assert timings["inner"] <= timings["committed"]
    before = timings["sealed"]
    timings.add("sealed", 2.0)
    assert timings["sealed"] == before + 2.0
    with pytest.raises(ValueError, match="nothing"), timings("failed"):
        raise ValueError("nothing")
    assert "failed" not in timings


def test_they_are_a_dict_for_json_and_dataclasses() -> None:
    @dataclass
    class Record:
        parts: dict[str, float]

    timings = Timings()
    timings.add("sealed", 0.5)
    assert json.dumps(asdict(Record(timings))) == '{"parts": {"sealed": 0.5}}'
