"""What a line of each format holds, read once more: labels by name, and the feasigns by slot. For the recount alone.

The rules are the bridge's, written here a second time: what it rejects is rejected here. Floats and the weight are
looked at only to know whether the line is a row.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from streamtrain.proof.columns import mapped, record_of
from streamtrain.proof.functions import of_function
from streamtrain.proof.line_rules import Given, Row, Rules, feasign_in, number_in

#: Up to here a float32 holds every whole number.
_EXACT_32 = 2**24


def row_of(line: bytes, rules: Rules, header: Sequence[str] = ()) -> Row | None:
    """None: the line is no row. header: the names of the cells. Raises ValueError for a line that is rejected."""
    given = _given(line, rules, header)
    if given is None:
        return None
    labels = {name: _label(given.labels[name], kind) for name, kind in rules.labels}
    for name, width in rules.dense:
        if len(given.dense[name]) != width or not all(map(_is_float32, given.dense[name])):
            raise ValueError(name)
    if not _is_float32(given.weight):
        raise ValueError("weight")
    if rules.reject_unknown and any(slot not in rules.wanted for _, slot in given.pairs):
        raise ValueError("unknown slot")
    return Row(labels, [(feasign, slot) for feasign, slot in given.pairs if slot in rules.wanted and feasign])


def _given(line: bytes, rules: Rules, header: Sequence[str]) -> Given | None:
    if rules.parse is not None:
        return of_function(line, rules)
    if rules.line_format == "feasign_slot":
        return _feasign_slot(line, rules)
    if rules.line_format == "multislot":
        return _multislot(line, rules)
    if rules.line_format == "name_value":
        return _name_value(line, rules)
    return mapped(record_of(line, rules.line_format, rules.header or header), rules)


def _label(value: Any, kind: str) -> float:
    if kind == "binary" and value not in (0, 1):
        raise ValueError("label")
    if kind == "int" and (not abs(value) <= _EXACT_32 or value % 1):
        raise ValueError("label")
    if not _is_float32(value):
        raise ValueError("label")
    return float(value)


def _is_float32(value: Any) -> bool:
    """Whether a number stays finite as a float32."""
    try:
        with np.errstate(over="ignore"):
            return bool(np.isfinite(np.float32(float(value))))
    except OverflowError:
        return False


def _feasign_slot(line: bytes, rules: Rules) -> Given:
    given = Given()
    for token in line.split():
        one, _, two = token.partition(b":")
        if not one.isdigit() or not two.isdigit():
            raise ValueError(token[:50])
        digits = [number.lstrip(b"0") or b"0" for number in (one, two)]
        if any(len(number) > 20 for number in digits):
            raise ValueError(token[:50])
        feasign, slot = map(int, digits)
        if feasign >= 1 << 64 or not 0 < slot < 1 << 16:
            raise ValueError(token[:50])
        if slot == 1:
            if given.labels:
                raise ValueError("two labels")
            given.labels[rules.labels[0][0]] = feasign
        else:
            given.pairs.append((feasign, slot))
    if not given.labels:
        raise ValueError("no label")
    return given


def _multislot(line: bytes, rules: Rules) -> Given:
    tokens = line.split()
    rest = iter(tokens)
    given = Given()
    labels, widths = dict(rules.labels), dict(rules.dense)
    # without values and an order of its own, the line is of whole numbers throughout
    plain = labels == dict.fromkeys(labels, "binary") and len(labels) == 1 and not (widths or rules.weight)
    only_digits = plain and not rules.order
    named = {slot: name for name, slot in rules.names.items()}
    default = ["show", *labels, *([rules.weight] if rules.weight else []), *widths,
               *(named.get(slot, str(slot)) for slot in rules.slots)]  # fmt: skip
    if only_digits:
        for token in tokens:
            feasign_in(token)
    for name in rules.order or default:
        count = feasign_in(next(rest, b"?"))
        if not 1 <= count <= len(tokens):
            raise ValueError("count")
        values = [value for _, value in zip(range(count), rest, strict=False)]
        if len(values) != count:
            raise ValueError("it ends too early")
        if name == "show" or name in labels or name in widths or (name and name == rules.weight):
            numbers = [number_in(value.decode("latin-1")) for value in values]
            if name not in widths and len(numbers) != 1:
                raise ValueError(name)
            if name == "show" and numbers != [1]:
                raise ValueError("show")
            if name in labels:
                given.labels[name] = numbers[0]
            elif name in widths:
                given.dense[name] = numbers
            elif name == rules.weight:
                given.weight = numbers[0]
        else:
            given.pairs += [(feasign_in(value), rules.by_name[name]) for value in values]
    if next(rest, None) is not None:
        raise ValueError("the end")
    return given


def _name_value(line: bytes, rules: Rules) -> Given:
    values: dict[str, list[float]] = {name: [] for name, _ in (*rules.labels, *rules.dense)}
    if rules.weight:
        values[rules.weight] = []
    given = Given()
    for token in line.split():
        at = token.find(b":")
        if at < 1:
            raise ValueError(token[:50])
        name, value = token[:at].decode("latin-1"), token[at + 1 :]
        if name in values:
            values[name].append(number_in(value.decode("latin-1")))
        elif name in rules.by_name:
            given.pairs.append((feasign_in(value), rules.by_name[name]))
        elif rules.reject_unknown:
            raise ValueError("unknown name")
    for name, _ in rules.labels:
        (given.labels[name],) = values[name]
    given.dense = {name: values[name] for name, _ in rules.dense}
    if rules.weight and values[rules.weight]:
        (given.weight,) = values[rules.weight]
    return given
