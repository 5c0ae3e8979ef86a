"""Numbers and texts of values that have names: cells of CSV, values of JSON, what stands behind a name. Pure.

A value is what was written: 0.9 is no whole number, and a text that is no number is none.
"""

from __future__ import annotations

import re
from typing import Any

from streamtrain.connectors.rows import RejectError

_NUMBER = re.compile(r"[-+]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][-+]?[0-9]+)?", re.ASCII)
_SHOWN = 60


def number_of(value: Any, name: str) -> float | int:
    """The number that a value is, or that its text says. Raises RejectError with `name`."""
    if isinstance(value, str):
        if _NUMBER.fullmatch(value) and len(value) <= 400:
            return float(value)
        raise RejectError(f"{name} is {shown(value)}, not a number")
    if isinstance(value, int | float):
        return int(value) if isinstance(value, bool) else value
    raise RejectError(f"{name} is {shown(value)}, not a number")


def text_of(value: Any, name: str) -> str:
    """The text that a value is hashed by. Raises RejectError for one that has none: a float, a list, a mapping."""
    if isinstance(value, str):
        return value
    if isinstance(value, int):  # true and false are 1 and 0
        return str(int(value))
    if isinstance(value, float):
        raise RejectError(f"{name} is the float {value!r}, which is not hashed: give buckets, or write it as text")
    raise RejectError(f"{name} has {shown(value)}, which is neither text nor a whole number")


def is_missing(value: Any) -> bool:
    """Whether there is no value: null, an empty text, an empty list."""
    return value is None or value == "" or value == []


def shown(value: Any) -> str:
    """A value as reasons show it."""
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
