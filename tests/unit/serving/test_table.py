"""The sparse table against a dict."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamtrain.serving.table import Patches, Table

WIDTH = 2
# few high bits and neighbours, so that some keys meet in one place of the index
keys = st.one_of(st.integers(0, 40), st.integers(0, 2**64 - 1), st.integers(1, 8).map(lambda i: i << 60))
tables = st.dictionaries(keys, st.integers(-100, 100), max_size=40)
patches = st.lists(st.tuples(tables, st.lists(keys, max_size=10)), max_size=4)


def arrays(rows: dict[int, int]) -> tuple[np.ndarray, np.ndarray]:
    values = np.array([[v, v + 0.5] for v in rows.values()], np.float32).reshape(len(rows), WIDTH)
    return np.array(list(rows), np.uint64), values


def plain(rows: dict[int, int], asked: list[int]) -> list[list[float]]:
    return [[rows[k], rows[k] + 0.5] if k and k in rows else [0, 0] for k in asked]


@given(tables, patches, st.lists(keys))
def test_a_table_is_a_dict(
    rows: dict[int, int], changes: list[tuple[dict[int, int], list[int]]], asked: list[int]
) -> None:
    first = Table.of(*arrays(rows))
    table, together, model = first, Patches(WIDTH), dict(rows)
    for new, gone in changes:
        deleted = np.array(gone, np.uint64)
        table = table.patched(*arrays(new), deleted)
        together.add(*arrays(new), deleted)
        model = {k: v for k, v in model.items() if k not in gone} | new
    asked = [*asked, *rows, *model, 0]
    for found in (table, together.over(first)):
        assert found.lookup(np.array(asked, np.uint64)).tolist() == plain(model, asked)
        inside = sorted(k for k in model if k)
        assert len(found) == len(inside)
        assert found.items()[0].tolist() == inside and found.items()[1].tolist() == plain(model, inside)
    assert first.lookup(np.array(asked, np.uint64)).tolist() == plain(rows, asked)  # it did not change


@given(tables, st.lists(st.lists(keys, min_size=1, max_size=40), min_size=1))
def test_sums(rows: dict[int, int], groups: list[list[int]]) -> None:
    table = Table.of(*arrays(rows))
    flat = np.array([k for group in groups for k in group], np.uint64)
    counts = np.array([len(g) for g in groups], np.int64)
    sums = table.gather_sums(table.find(flat), np.cumsum(counts) - counts, counts)
    assert sums.tolist() == [np.sum(plain(rows, group), axis=0).tolist() for group in groups]


def test_a_key_twice_is_refused() -> None:
    twice = np.array([5, 7, 5], np.uint64)
    with pytest.raises(ValueError, match="key 5 occurs twice"):
        Table.of(twice, np.zeros((3, WIDTH), np.float32))
    with pytest.raises(ValueError, match="key 5 occurs twice"):
        Patches(WIDTH).add(twice, np.zeros((3, WIDTH), np.float32), np.zeros(0, np.uint64))
    with pytest.raises(ValueError, match="width is 3"):
        Patches(WIDTH).add(twice[:1], np.zeros((1, 3), np.float32), np.zeros(0, np.uint64))


def test_keys_made_to_share_their_place_are_found() -> None:
    back = pow(0x9E3779B97F4A7C15, -1, 2**64)  # key * 0x9E.. mod 2**64 are then 1, 2, 3 ..
    made = np.array([mark * back % 2**64 for mark in range(1, 200)], np.uint64)
    table = Table.of(made[::2], np.arange(1, 101, dtype=np.float32).reshape(-1, 1))
    assert table.lookup(made[::2]).ravel().tolist() == list(range(1, 101))
    assert not table.lookup(made[1::2]).any()


def test_many_keys_are_found() -> None:
    source = np.random.default_rng(1)
    some = np.unique(source.integers(1, 2**63, 50_000, dtype=np.uint64))
    table = Table.of(some, np.arange(len(some), dtype=np.float32).reshape(-1, 1))
    assert table.lookup(some).ravel().tolist() == list(range(len(some)))
    assert not table.lookup(some + np.uint64(2**63)).any()
    assert table.nbytes < len(some) * 40
