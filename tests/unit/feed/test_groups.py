"""Rows' groups and labels."""

import numpy as np

from streamtrain.contracts.sample import SampleBatch, SampleValues
from streamtrain.feed.groups import groups_of, joined


def batch(values: SampleValues | None = None) -> SampleBatch:
    """Three rows: two feasigns of slot 3, none, one of the largest."""
    return SampleBatch(
        labels=np.array([1, 0, 1]),
        counts=np.array([3, 1, 1]),
        slots=np.array([2, 3, 3, 2, 3], "<u2"),
        feasigns=np.array([7, 8, 9, 7, 2**64 - 1], "<u8"),
        values=values,
    )


def test_the_first_feasign_of_the_slot() -> None:
    groups = groups_of(batch(), 3)
    assert groups.groups.tolist() == [8, 0, 2**64 - 1] and groups.labels.tolist() == [[True], [False], [True]]
    again = joined([groups, groups], 1).taken(np.array([5, 1]))
    assert again.groups.tolist() == [2**64 - 1, 0] and again.labels.tolist() == [[True], [False]]


def test_labels_are_those_of_the_job() -> None:
    values = SampleValues(np.array([[1, 0], [0, 2.5], [0, -1]], "<f4"), np.zeros((3, 0), "<f4"), np.ones(3, "f4"))
    assert groups_of(batch(values), 3).labels.tolist() == [[True, False], [False, True], [False, False]]


def test_no_rows() -> None:
    none = joined([], 2)
    assert len(none) == 0 and none.labels.shape == (0, 2)
