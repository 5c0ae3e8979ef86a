"""What a parse function of the user's makes of a line, read once more. For the recount alone."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from streamtrain.errors import DataError
from streamtrain.proof.line_rules import Given, Rules

#: Up to here a float holds every whole number.
_EXACT = 2**53
_ROW = ("streamtrain.contracts.user_row", "Row")


def of_function(line: bytes, rules: Rules) -> Given | None:
    """What the user's function says, checked: whole numbers only, as many slots as feasigns."""
    assert rules.parse is not None
    try:
        if getattr(rules.parse, "batch", False) is True:
            (result,) = rules.parse([line])
        else:
            result = rules.parse(line)
        if result is None:
            return None
        if isinstance(result, BaseException):
            raise result
        given = _of_row(result, rules) if _is_row(result) else _of_three(result, rules)
    except MemoryError as error:
        raise DataError(f"the parse function ran out of memory on a line of {len(line)} bytes") from error
    except (Exception, SystemExit) as error:
        raise ValueError(f"the function refused it: {type(error).__name__}") from error
    if any(not 0 <= feasign < 1 << 64 or not 0 < slot < 1 << 16 for feasign, slot in given.pairs):
        raise ValueError("a slot or feasign is out of its range")
    return given


def _is_row(result: Any) -> bool:
    """Whether it is a streamtrain.Row, or of a class made from it."""
    return any((of.__module__, of.__name__) == _ROW for of in type(result).__mro__)


def _of_three(result: Any, rules: Rules) -> Given:
    if not isinstance(result, tuple | list) or len(rules.labels) > 1 or rules.dense:
        raise ValueError("not (label, slots, feasigns)")
    label, slots, feasigns = result
    name, kind = rules.labels[0]
    labels = {name: _whole(label) if kind == "binary" else _number(label)}
    return Given(labels, list(zip(_column(feasigns), _column(slots), strict=True)))


def _of_row(row: Any, rules: Rules) -> Given:
    names = [name for name, _ in rules.labels]
    labels = row.labels if isinstance(row.labels, Mapping) else dict(zip(names, [row.labels], strict=True))
    widths = dict(rules.dense)
    if set(labels) != set(names) or set(row.dense) != set(widths):
        raise ValueError("other names")
    given = Given({name: _number(value) for name, value in labels.items()}, weight=_number(row.weight))
    if given.weight != 1 and not rules.weight:
        raise ValueError("a weight")
    given.dense = {name: [_number(value) for value in _listed(values)] for name, values in row.dense.items()}
    if row.slots is None and row.feasigns is None:
        for name, values in row.features.items():
            slot = rules.by_name[name] if isinstance(name, str) else _whole(name)
            if not 0 < slot < 1 << 16:
                raise ValueError("a slot is out of its range")
            given.pairs += [(feasign, slot) for feasign in _column(_listed(values))]
    elif row.features:
        raise ValueError("features and slots")
    else:
        slots = () if row.slots is None else row.slots
        feasigns = () if row.feasigns is None else row.feasigns
        given.pairs = list(zip(_column(feasigns), _column(slots), strict=True))
    return given


def _listed(values: Any) -> Iterable[Any]:
    """One number stands for a list of it."""
    if isinstance(values, str | bytes | bytearray | memoryview | Mapping | set | frozenset):
        raise ValueError("not numbers")
    if isinstance(values, np.ndarray):
        values = values.tolist() if values.ndim < 2 else [values]
    return [values] if isinstance(values, int | float | np.number | np.bool_) else list(values)


def _column(values: Any) -> list[int]:
    if isinstance(values, str | bytes | bytearray | memoryview | dict | set | frozenset):
        raise ValueError("not a list of numbers")
    if isinstance(values, np.ndarray):
        if values.ndim != 1:
            raise ValueError("not of one dimension")
        values = values.tolist()
    return [_whole(value) for value in values]


def _whole(value: Any) -> int:
    """The value as int; ValueError for anything that is not exactly a whole number."""
    number = _number(value)
    if isinstance(number, float) and (not number.is_integer() or abs(number) > _EXACT):
        raise ValueError("not a whole number")
    return int(number)


def _number(value: Any) -> float | int:
    if isinstance(value, np.ndarray) and not value.ndim:
        value = value.item()
    if isinstance(value, int | np.integer | np.bool_):
        return int(value)
    if isinstance(value, float | np.floating) and not math.isnan(value):
        return float(value)
    raise ValueError("not a number")
