"""Rows with labels, floats and a weight: encoded, decoded, the same; and what no row may have."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamtrain.connectors.rows import RejectError, RowBuilder
from streamtrain.contracts.row_layout import Dense, Label, RowLayout
from streamtrain.contracts.sample import SampleDecoder

LAYOUT = RowLayout(
    (2, 3, 7), labels=(Label("click"), Label("stars", "int"), Label("dwell", "float")),
    dense=(Dense("price", 1, 0), Dense("vec", 2, 1)), weight="w",
)  # fmt: skip
BUILDER = RowBuilder(LAYOUT, reject_unknown=False)
floats = st.floats(allow_nan=False, allow_infinity=False, width=32) | st.integers(-(2**24), 2**24)
rows = st.tuples(
    st.tuples(st.integers(0, 1), st.integers(-(2**24), 2**24), floats),
    st.lists(floats, min_size=3, max_size=3), floats,
    st.lists(st.tuples(st.sampled_from(LAYOUT.slots), st.integers(0, 2**64 - 1)), max_size=9),
)  # fmt: skip


@given(st.lists(rows, min_size=1, max_size=5))
def test_rows_come_back(table: list[Any]) -> None:
    messages = []
    for number, (labels, dense, weight, pairs) in enumerate(table):
        slots, feasigns = (np.array([pair[i] for pair in pairs], np.uint64) for i in (0, 1))
        messages.append(BUILDER.build(labels, slots, feasigns, dense, weight).encode(1, number))
    batch = SampleDecoder(layout=LAYOUT).decode(messages, places=True)
    assert batch.values is not None and batch.lines is not None and batch.lines.tolist() == list(range(len(table)))
    assert batch.values.labels.tolist() == [list(map(float, row[0])) for row in table]
    assert batch.values.dense.tolist() == [list(map(float, row[1])) for row in table]
    assert batch.values.weights.tolist() == [float(row[2]) for row in table]
    assert batch.labels.tolist() == [row[0][0] for row in table]
    sorted_pairs = [pair for row in table for pair in sorted(row[3], key=lambda pair: pair[0])]
    assert list(zip(batch.slots.tolist(), batch.feasigns.tolist(), strict=True)) == sorted_pairs


@pytest.mark.parametrize(
    ("labels", "dense", "weight", "reason"),
    [
        ((2, 0, 0), (0, 0, 0), 1, "the label is 2, not 0 or 1"),
        ((0.9, 0, 0), (0, 0, 0), 1, "the label is 0.9, not 0 or 1"),
        ((1, 0.9, 0), (0, 0, 0), 1, "the label stars is 0.9, not a whole number up to 16777216"),
        ((1, 2**24 + 1, 0), (0, 0, 0), 1, "the label stars is 16777217, not a whole number"),
        ((1, 0, float("nan")), (0, 0, 0), 1, "dwell is nan, which is not finite"),
        ((1, 0, 0), (0, 0, 1e39), 1, r"vec\[1\] is 1e\+39, more than a float32 holds"),
        ((1, 0, 0), (float("inf"), 0, 0), 1, "price is inf, which is not finite"),
        ((1, 0, 0), (0, 0), 1, "it has 2 floats, the config says 3"),
        ((1, 0, 0), (0, 0, 0), float("-inf"), "w is -inf, which is not finite"),
        ((1, 0, 0), (0, 0, 10**400), 1, r"vec\[1\] is "),
    ],
)
def test_what_no_row_may_have(labels: Any, dense: Any, weight: Any, reason: str) -> None:
    none = np.empty(0, np.uint64)
    with pytest.raises(RejectError, match=reason):
        BUILDER.build(labels, none, none, dense, weight)
