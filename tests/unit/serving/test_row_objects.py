"""Rows by name: what they mean, against code that is slower and simpler; what is refused, and how it is named."""

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamtrain.contracts.served_network import DenseFeed, ServedNetwork, SlotFeed, TableShape, TargetVariable
from streamtrain.errors import DataError
from streamtrain.serving.row_objects import RowForm, dense_columns, parse_rows, whole_numbers

TABLES = {"deep": TableShape(3), "wide": TableShape(1)}
SLOTS = (
    SlotFeed("user", 2, "deep", "a"), SlotFeed("user", 2, "wide", "b"), SlotFeed("items", 7, "deep", "c"),
    SlotFeed("one", 9, "deep", "d", 1),
)  # fmt: skip
TARGETS = (TargetVariable("p", "p"),)
DENSE = (DenseFeed("price", (3,), "price"), DenseFeed("grid", (2, 2), "grid"), DenseFeed("age", (1,), "age"))
WITH_FLOATS = RowForm(ServedNetwork(SLOTS, TABLES, TARGETS, DENSE))
WITHOUT = RowForm(ServedNetwork(SLOTS, TABLES, TARGETS))

feasigns = st.integers(0, 2**64 - 1)
values = feasigns | st.lists(feasigns, max_size=4) | st.none()
floats = st.floats(-(2.0**90), 2.0**90, width=32) | st.integers(-(2**20), 2**20)
objects = st.fixed_dictionaries(
    {
        "price": st.lists(floats, min_size=3, max_size=3), "grid": st.lists(floats, min_size=4, max_size=4),
        "age": floats | st.lists(floats, min_size=1, max_size=1),
    },
    optional={"user": values, "items": values, "9": values, "click": st.integers(0, 1), "other": st.text(max_size=3)},
)  # fmt: skip


def as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [] if value is None else [value]


@given(st.lists(objects, max_size=5), st.randoms())
def test_objects_are_their_values_in_order(rows: list[dict[str, Any]], source: Any) -> None:
    given_ = [source.choice([row, json.dumps(row), json.dumps(row).encode()]) for row in rows]
    columns = parse_rows(given_, WITH_FLOATS)
    begin = 0
    for row, count in zip(rows, columns.counts.tolist(), strict=True):
        pairs = list(zip(columns.slots.tolist(), columns.feasigns.tolist(), strict=True))[begin : begin + count]
        for name, slot in (("user", 2), ("items", 7), ("9", 9)):
            assert [f for s, f in pairs if s == slot] == as_list(row.get(name))
        begin += count
    assert begin == len(columns.slots)
    expected = [as_list(row[name]) for row in rows for name in ("price", "grid", "age")]
    assert columns.dense is not None
    assert columns.dense.ravel().tolist() == np.array([v for own in expected for v in own], np.float32).tolist()
    arrays = {name: np.array([as_list(row[name]) for row in rows], np.float32) for name in ("age", "grid", "price")}
    again = dense_columns(WITH_FLOATS, {**arrays, "other": 1}, len(rows)) if rows else columns.dense
    assert again is not None and (again == columns.dense).all()


@given(st.lists(st.lists(st.tuples(feasigns, st.sampled_from([1, 2, 7, 9, 12])), max_size=5), max_size=5), st.randoms())
def test_text_and_objects_are_the_same_rows(rows: list[list[tuple[int, int]]], source: Any) -> None:
    """For a model without floats, in one request."""
    lines = [" ".join(f"{feasign}:{slot}" for feasign, slot in row) for row in rows]
    names = {1: "click", 2: "user", 7: "items", 9: "9", 12: "12"}
    named = [{name: [f for f, s in row if s == slot] for slot, name in names.items()} for row in rows]
    mixed = [source.choice([line, line.encode(), row]) for line, row in zip(lines, named, strict=True)]
    known = {2, 7, 9}
    expected = [[(s, f) for f, s in row if s in known] for row in rows]
    for batch in (lines, mixed):
        columns = parse_rows(batch, WITHOUT)
        pairs = list(zip(columns.slots.tolist(), columns.feasigns.tolist(), strict=True))
        begin = 0
        for row, count in zip(expected, columns.counts.tolist(), strict=True):
            own = [pair for pair in pairs[begin : begin + count] if pair[0] in known]
            assert sorted(own, key=lambda pair: pair[0]) == sorted(row, key=lambda pair: pair[0])
            begin += count
        assert columns.dense is None


GOOD = {"price": [1, 2, 3], "grid": [1, 2, 3, 4], "age": 0.5}


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({**GOOD, "age": None}, "age is missing: the model takes 1 number of it"),
        ({"user": 1, "age": 1, "grid": GOOD["grid"]}, "price is missing: the model takes 3 numbers of it"),
        ({**GOOD, "price": [1, 2]}, "price has 2 numbers, the model takes 3"),
        ({**GOOD, "grid": [[1, 2], [3, 4]]}, "grid has 2 numbers, the model takes 4"),
        ({**GOOD, "age": True}, "age: 'True' is not a number that a float32 has"),
        ({**GOOD, "age": 1e39}, "age: '1e+39' is not a number that a float32 has"),
        ({**GOOD, "age": float("nan")}, "age: 'nan' is not a number that a float32 has"),
        ({**GOOD, "age": "1"}, "age: '1' is not a number that a float32 has"),
        ({**GOOD, "user": 1.0}, "user: '1.0' is not a feasign, a whole number from 0 to 2^64-1"),
        ({**GOOD, "user": -1}, "user: '-1' is not a feasign"),
        ({**GOOD, "user": [2**64]}, "user: '18446744073709551616' is not a feasign"),
        ({**GOOD, "user": [True]}, "user: 'True' is not a feasign"),
        ({**GOOD, "items": "x" * 200}, f"items: '{'x' * 80}'... is not a feasign"),
        ({**GOOD, "items": {"a": 1}}, "items: \"{'a': 1}\" is not a feasign"),
        ({"usr": 1}, "none of its names is the model's, 'usr' is one; it has user, items, one, price, grid, age"),
        ({}, "price is missing"),
        ("5:2", "price is missing: text has no numbers but feasigns, give an object by name"),
        ('{"age": 1', "it is not a JSON object: unexpected end of data"),
        (" {]", "it is not a JSON object"),
        (7, "int is neither text nor an object"),
        (["5:2"], "list is neither text nor an object"),
    ],
)
def test_a_row_that_is_not_valid_is_named(row: Any, reason: str) -> None:
    with pytest.raises(DataError) as refused:
        parse_rows([GOOD, row], WITH_FLOATS, 10, "rows.jsonl, line")
    assert str(refused.value).startswith(f"rows.jsonl, line 11: {reason}")


def test_numpys_values_are_taken() -> None:
    row = {"user": np.uint64(2**64 - 1), "items": np.array([3, 1, 3]), "price": np.ones(3, np.float32), "grid": [0] * 4,
           "age": np.float32(0.5)}  # fmt: skip
    columns = parse_rows([row], WITH_FLOATS)
    assert columns.feasigns.tolist() == [2**64 - 1, 3, 1, 3] and columns.slots.tolist() == [2, 7, 7, 7]
    assert columns.dense is not None and columns.dense.tolist() == [[1, 1, 1, 0, 0, 0, 0, 0.5]]


@pytest.mark.parametrize(
    ("age", "reason"),
    [
        (None, "age is missing"), ([1.0], r"age has the shape \[1\], for 2 rows it must be \[2, 1\]"),
        ([[1.0, 2.0]], r"age has the shape \[1, 2\]"), ([1.0, np.inf], "row 2: age is not finite"),
        (["a", "b"], "age is not an array of numbers"), (1.0, r"age has the shape \[\]"),
    ],
)  # fmt: skip
def test_arrays_that_do_not_fit(age: Any, reason: str) -> None:
    given_ = {"price": np.ones((2, 3)), "grid": np.ones((2, 4))} | ({} if age is None else {"age": age})
    with pytest.raises(DataError, match=reason):
        dense_columns(WITH_FLOATS, given_, 2)


def test_a_slots_number_need_not_be_text() -> None:
    """As in streamtrain.Row, which says the same of a row that is trained."""
    columns = parse_rows([{2: [5, 6], np.int64(9): 7, "items": 8}, {9: 3}], WITHOUT)
    assert columns.slots.tolist() == [2, 2, 9, 7, 9] and columns.feasigns.tolist() == [5, 6, 7, 8, 3]
    with pytest.raises(DataError, match="row 1: 9: '-1' is not a feasign"):
        parse_rows([{9: -1}], WITHOUT, name="row")
    with pytest.raises(DataError, match="none of its names is the model's, '12' is one"):
        parse_rows([{12: 5}], WITHOUT)


@pytest.mark.parametrize(
    "given", [[1, 2], [2**64 - 1, 7], np.array([1, 2], np.uint64), np.array([-1, 2]), [], np.array([2**63, 5], object)]
)
def test_whole_numbers_are_taken_by_their_bits(given: Any) -> None:
    found = whole_numbers(given, "feasigns", np.uint64)
    assert found.dtype == np.uint64 and found.tolist() == [int(number) % 2**64 for number in given]


@pytest.mark.parametrize("given", [[1.0], [1, -1, 2**64 - 1], [2**64], ["7"], [None], np.array([1.5]), [[1], [2, 3]]])
def test_other_numbers_are_refused(given: Any) -> None:
    with pytest.raises(DataError, match=r"^feasigns are "):
        whole_numbers(given, "feasigns", np.uint64)
