"""The mapping `stream.columns`: named values of a line to a row. Pure."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Mapping
from itertools import product
from math import prod
from typing import Any

import numpy as np

from streamtrain.connectors.rows import RejectError, Row, RowBuilder
from streamtrain.connectors.values import is_missing, number_of, shown, text_of
from streamtrain.contracts.feature_text import MAX_FEASIGN
from streamtrain.contracts.hashing import CROSS, feasign_of
from streamtrain.contracts.line_format import Columns, LabelColumn, NumberColumn, SlotColumn

#: Feasigns of a cross in a row, at most: lists crossed with lists could make billions.
MAX_CROSS = 10_000


class ColumnMapper:
    """Rows of mappings from field to value: text, or what JSON has. Raises RejectError for one that is no row."""

    def __init__(self, columns: Columns, builder: RowBuilder) -> None:
        self._columns = columns
        self._builder = builder
        layout = builder.layout
        self._labels = [(column, label.name) for column, label in zip(columns.labels, layout.labels, strict=True)]
        self._dense = [(column, dense) for column, dense in zip(columns.dense, layout.dense, strict=True)]
        self._slots: list[tuple[int, Callable[[Mapping[str, Any]], list[int]]]] = [
            (column.slot, _feasigns(column)) for column in columns.slots
        ]

    def row(self, record: Mapping[str, Any]) -> Row:
        labels = [_label(column, record.get(column.field), name) for column, name in self._labels]
        dense: list[float | int] = []
        for column, of in self._dense:
            numbers = _numbers(column, record, of.name, of.width)
            if len(numbers) != of.width:
                raise RejectError(f"{of.name} has {len(numbers)} numbers, the config says {of.width}")
            dense += numbers
        weight: float | int = 1.0
        if self._columns.weight is not None:
            given = _numbers(self._columns.weight, record, self._builder.layout.weight, 1)
            if len(given) != 1:
                raise RejectError(f"{self._builder.layout.weight} has {len(given)} numbers, not one")
            weight = given[0]
        slots: list[int] = []
        feasigns: list[int] = []
        for slot, of_slot in self._slots:
            found = of_slot(record)
            slots += [slot] * len(found)
            feasigns += found
        return self._builder.build(labels, np.array(slots, np.uint64), np.array(feasigns, np.uint64), dense, weight)


def _label(column: LabelColumn, value: Any, name: str) -> float | int:
    if is_missing(value):
        if column.default is None:
            raise RejectError(f"it has no {column.field}, and the label {name} no default")
        value = column.default
    if column.values is not None:
        return int(text_of(value, column.field) in column.values)
    number = number_of(value, column.field)
    return number if column.over is None else int(number > column.over)


def _numbers(column: NumberColumn, record: Mapping[str, Any], name: str, width: int) -> list[float | int]:
    found: list[float | int] = []
    one_each = len(column.fields) > 1
    for field in column.fields:
        value = record.get(field)
        if is_missing(value):
            if column.default is None:
                raise RejectError(f"it has no {field}, and {name} no default")
            found += [column.default] * (1 if one_each else width)
        elif isinstance(value, list) and not one_each:
            found += [number_of(item, field) for item in value]
        elif column.split and isinstance(value, str) and not one_each:
            found += [number_of(part, field) for part in value.split(column.split) if part]
        else:
            found.append(number_of(value, field))
    return found


def _feasigns(column: SlotColumn) -> Callable[[Mapping[str, Any]], list[int]]:
    """What gives a record's feasigns of one slot, in their order."""
    (field, *more), seed = column.fields, column.seed
    if more:
        return lambda record: _cross(column, record)
    if column.feasign:
        return lambda record: [_ready(value, field) for value in _values(column, field, record)]
    if column.buckets is not None:
        bounds = column.buckets
        return lambda record: [
            feasign_of(str(bisect_right(bounds, number_of(value, field))), seed)
            for value in _values(column, field, record)
        ]
    return lambda record: [feasign_of(text_of(value, field), seed) for value in _values(column, field, record)]


def _values(column: SlotColumn, field: str, record: Mapping[str, Any]) -> list[Any]:
    """The values of a field, or the default in place of none."""
    value = record.get(field)
    found: list[Any]
    if isinstance(value, list):
        found = [item for item in value if not is_missing(item)]
    elif column.split and isinstance(value, str):
        found = [part for part in value.split(column.split) if part]
    else:
        found = [] if is_missing(value) else [value]
    return found or ([] if column.default is None else [column.default])


def _cross(column: SlotColumn, record: Mapping[str, Any]) -> list[int]:
    parts = [[text_of(value, field) for value in _values(column, field, record)] for field in column.fields]
    if prod(map(len, parts)) > MAX_CROSS:
        raise RejectError(f"the cross of {', '.join(column.fields)} has more than {MAX_CROSS} values")
    return [feasign_of(CROSS.join(texts), column.seed) for texts in product(*parts)]


def _ready(value: Any, field: str) -> int:
    """A feasign as it is: a whole number, or its digits."""
    number = value
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= 20:
        number = int(value)
    if type(number) is int and 0 <= number <= MAX_FEASIGN:
        return number
    raise RejectError(f"{field} is {shown(value)}, not a feasign from 0 to 2^64-1")
