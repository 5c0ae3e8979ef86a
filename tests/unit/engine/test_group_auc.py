"""GAUC against pairs of rows."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamtrain.engine.group_auc import group_auc

ROWS = st.lists(
    st.tuples(st.sampled_from([0, 1, 2, 2**64 - 1]), st.booleans(), st.sampled_from([0.0, 0.1, 0.25, 0.5, 1.0])),
    max_size=40,
)


def by_pairs(rows: list[tuple[int, bool, float]]) -> float | None:
    total, weight = 0.0, 0
    for group in {g for g, _, _ in rows if g}:
        of = [(clicked, p) for g, clicked, p in rows if g == group]
        pairs = [(a > b) + (a == b) / 2 for x, a in of if x for y, b in of if not y]
        if pairs:
            total += sum(pairs) / len(pairs) * len(of)
            weight += len(of)
    return total / weight if weight else None


@given(ROWS)
def test_it_is_the_mean_over_groups(rows: list[tuple[int, bool, float]]) -> None:
    groups = np.array([g for g, _, _ in rows], np.uint64)
    clicked, predicted = np.array([c for _, c, _ in rows], bool), np.array([p for _, _, p in rows], np.float32)
    assert group_auc(groups, clicked, predicted) == pytest.approx(by_pairs(rows))
