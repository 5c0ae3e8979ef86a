"""Seconds by part of what Paddle's profiler counts."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamtrain.engine.profiling import PARTS, by_part, words

operators = st.dictionaries(
    st.sampled_from(["mul", "mul_grad", "sequence_pool", "auc", "send", "relu", "distributed_lookup_table"]),
    st.floats(0, 100),
)


@given(operators, st.floats(0, 10))
def test_all_of_the_time_is_in_a_part(seconds: dict[str, float], more: float) -> None:
    whole = sum(seconds.values()) + more
    found = by_part(seconds, whole)
    assert sum(found.values()) == pytest.approx(whole)
    assert found.keys() <= {*PARTS, "others", "between"} and min(found.values()) >= 0


def test_a_gradient_counts_as_its_operator() -> None:
    found = by_part({"mul": 1.0, "mul_grad": 2.0, "relu": 0.5, "concat_grad": 0.25}, 5.0)
    assert found == {"products": 3.0, "others": 0.5, "pools": 0.25, "between": 1.25}


def test_operators_of_other_threads_do_not_make_it_negative() -> None:
    assert by_part({"mul": 3.0}, 2.0) == {"products": 3.0, "between": 0.0}


def test_the_longest_comes_first() -> None:
    assert words({"train_push": 0.5, "train_lookup": 1.234}) == "train lookup 1.23, train push 0.50"
