"""The simulation of how fresh the served model is."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.freshness import Costs, Stream, latencies, utilization

NOTHING = Costs(0, 0, 0, 0, 0, 0, 0, 0)
costs = st.builds(Costs, *[st.floats(0, 2) for _ in range(8)])


def test_a_split_alone_goes_through_all_parts() -> None:
    alone = Costs(notice=0, bridged=0.01, fixed=1, row=0.02, checkpoint=3, held=9, refresh=0, load=0.5)
    assert latencies(Stream(1, 10, 100), alone) == pytest.approx([1 + 1 + 2 + 3 + 0.5])


def test_a_split_waits_for_its_pass_and_its_model() -> None:
    stream = Stream(4, 10, 100, split_per_pass=2, models_every=2)
    assert latencies(stream, NOTHING) == [30, 20, 10, 0]


@given(costs)
def test_a_trainer_with_time_left_does_not_fall_behind(each: Costs) -> None:
    stream = Stream(400, 50.0, 1)
    if max(utilization(stream, each).values()) >= 0.5:
        return
    found = latencies(stream, each)
    bound = sum(vars(each).values()) + each.checkpoint + each.held
    assert len(found) == 400 and max(found) <= bound + 1e-6


def test_one_without_falls_behind_for_ever() -> None:
    slow = replace(NOTHING, fixed=2.0)
    found = latencies(Stream(100, 1.0, 1), slow)
    assert utilization(Stream(100, 1.0, 1), slow)["trainer"] == 2.0
    assert found == sorted(found) and found[-1] == pytest.approx(99 + 2)
