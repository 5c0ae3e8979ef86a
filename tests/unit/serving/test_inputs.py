"""What the network is fed with, cell by cell, against a dict of vectors; several tables, one over the other."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamtrain.contracts.served_network import (
    Constant,
    DenseFeed,
    ServedNetwork,
    SlotFeed,
    TableShape,
    TargetVariable,
)
from streamtrain.errors import DataError
from streamtrain.serving.inputs import Inputs, check_lengths
from streamtrain.serving.rows import Columns
from streamtrain.serving.table import Table

WIDTHS = {"deep": 3, "wide": 1}
SLOTS = (
    SlotFeed("one", 9, "deep", "d", 1), SlotFeed("user", 2, "wide", "b"), SlotFeed("items", 7, "deep", "c"),
    SlotFeed("user", 2, "deep", "a"), SlotFeed("items", 7, "deep", "e"), SlotFeed("pair", 11, "wide", "f", 2),
)  # fmt: skip
NETWORK = ServedNetwork(
    SLOTS, {name: TableShape(width) for name, width in WIDTHS.items()}, (TargetVariable("p", "p"),),
    (DenseFeed("x", (2,), "x"), DenseFeed("grid", (2, 2), "grid")), (Constant("show", 1.0, True),),
)  # fmt: skip
LENGTHS = {9: 1, 11: 2}
VECTORS = {
    name: {key: np.arange(width, dtype=np.float32) + 10 * key for key in range(1, 8)} for name, width in WIDTHS.items()
}
TABLES = {
    f"sparse/{name}": Table.of(np.array(list(keys), np.uint64), np.array(list(keys.values()), np.float32))
    for name, keys in VECTORS.items()
}
rows_of = st.lists(
    st.lists(st.tuples(st.sampled_from([1, 2, 7, 9, 11, 30]), st.integers(0, 9)), max_size=8).map(
        lambda row: [
            pair for place, pair in enumerate(row)
            if pair[0] not in LENGTHS or [p[0] for p in row[:place]].count(pair[0]) < LENGTHS[pair[0]]
        ]
    ),
    max_size=4,
)  # fmt: skip


def columns_of(rows: list[list[tuple[int, int]]]) -> Columns:
    flat = [pair for row in rows for pair in row]
    dense = np.arange(6 * len(rows), dtype=np.float32).reshape(len(rows), 6)
    slots = np.array([slot for slot, _ in flat], np.uint16)
    counts = np.array([len(row) for row in rows], np.int64)
    return Columns(counts, slots, np.array([key for _, key in flat], np.uint64), dense)


@given(rows_of)
def test_each_feed_gets_its_slots_vectors(rows: list[list[tuple[int, int]]]) -> None:
    fed = Inputs(NETWORK, TABLES).of(columns_of(rows))
    assert len(fed) == len(NETWORK.variables) == 9
    for feed, given_ in zip(SLOTS, fed, strict=False):
        zeros = np.zeros(WIDTHS[feed.table], np.float32)
        cells = [[key for slot, key in row if slot == feed.slot and key] for row in rows]
        padded = [keys + [0] * (max(1, feed.length) - len(keys)) for keys in cells]
        expected = [VECTORS[feed.table].get(key, zeros) for keys in padded for key in keys]
        assert given_.values.tolist() == [vector.tolist() for vector in expected]
        lengths = None if given_.offsets is None else np.diff(given_.offsets).tolist()
        assert lengths == (None if feed.length else [len(keys) for keys in padded])
    floats = np.arange(6 * len(rows), dtype=np.float32).reshape(len(rows), 6)
    assert (fed[6].values == floats[:, :2]).all() and fed[7].values.shape == (len(rows), 2, 2)
    assert (fed[7].values.reshape(-1, 4) == floats[:, 2:]).all()
    assert fed[8].values.dtype == np.int64 and fed[8].values.tolist() == [[1]] * len(rows)


def test_more_feasigns_than_a_feed_takes() -> None:
    fits = columns_of([[(9, 1), (11, 1), (11, 2)], [(7, 1), (7, 2), (9, 0), (9, 3)]])
    fixed = [feed for feed in SLOTS if feed.length]
    check_lengths(fits, fixed, 5, "line")
    with pytest.raises(DataError, match="line 6: pair has 3 feasigns, the model takes 2"):
        check_lengths(columns_of([[(9, 1)], [(11, 1), (9, 2), (11, 2), (11, 3)]]), fixed, 5, "line")


@given(st.lists(st.lists(st.tuples(st.sampled_from([2, 3]), st.integers(0, 9)), max_size=6), min_size=1, max_size=4))
def test_sums_are_the_feeds_summed(rows: list[list[tuple[int, int]]]) -> None:
    """The one feed of a folded network, in its own order of the slots."""
    slots = (SlotFeed("2", 2, "t", "a"), SlotFeed("3", 3, "t", "b"), SlotFeed("2", 2, "t", "c"))  # 2 is read twice
    network = ServedNetwork(slots, {"t": TableShape(3)}, (TargetVariable("p", "p"),))
    tables = {"sparse": TABLES["sparse/deep"]}
    columns = columns_of(rows)
    (summed,) = Inputs(network, tables, ("c", "b", "a")).of(columns)
    found = []
    for fed in Inputs(network, tables).of(columns):
        assert fed.offsets is not None
        ends = np.array(fed.offsets[1:])
        found.append([own.sum(axis=0) for own in np.split(fed.values, ends[:-1])])
    assert np.allclose(summed.values, np.concatenate([found[2], found[1], found[0]], axis=1))
