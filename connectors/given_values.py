"""Values that a function of the user's returns: taken exactly or not at all. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from streamtrain.connectors.rows import RejectError
from streamtrain.contracts.feature_text import MAX_FEASIGN, MAX_SLOT

#: A float holds every whole number up to here; a larger one may have been rounded.
_EXACT_FLOAT = 2**53
#: Characters of a value or an exception's text in a reason.
_SHOWN = 200


def pair(slots: Any, feasigns: Any) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.uint64]]:
    one = column(slots, "slot", 1, MAX_SLOT)
    other = column(feasigns, "feasign", 0, MAX_FEASIGN)
    if one.size != other.size:
        raise RejectError(f"the parse function returned {one.size} slots and {other.size} feasigns")
    return one, other


def check_names(what: str, given: Mapping[Any, Any], names: Sequence[str]) -> None:
    for name in names:
        if name not in given:
            raise RejectError(f"the row has no {what} {name}")
    if len(given) != len(names):
        unknown = next(name for name in given if name not in names)
        raise RejectError(f"the row has a {what} {shown(unknown)}, which the config does not name")


def numbers(value: Any, name: str) -> list[float | int]:
    if isinstance(value, str | bytes | bytearray | memoryview | Mapping | set | frozenset):
        raise RejectError(f"{name} is {shown(value)}, not numbers")
    if isinstance(value, np.ndarray):
        if value.ndim > 1:
            raise RejectError(f"{name} is an array of {value.ndim} dimensions, not of one")
        value = value.tolist()
    if isinstance(value, int | float | np.integer | np.floating | np.bool_):
        value = [value]
    try:
        return [number(item, name) for item in value]
    except TypeError as error:
        raise RejectError(f"{name} is {shown(value)}, not numbers") from error


def number(value: Any, what: str) -> float | int:
    """The number that a value is, as Python's own. Raises RejectError."""
    if isinstance(value, np.ndarray) and value.ndim == 0:
        value = value.item()
    if isinstance(value, int | np.integer | np.bool_):
        return int(value)
    if isinstance(value, float | np.floating):
        return float(value)
    raise RejectError(f"{what} is {shown(value)}, not a number")


def column(values: Any, what: str, least: int, most: int) -> npt.NDArray[np.uint64]:
    """Whole numbers from `least` to `most`. Raises RejectError."""
    if isinstance(values, str | bytes | bytearray | memoryview | dict | set | frozenset):
        raise RejectError(f"the parse function's {what}s are {shown(values)}, not a list of numbers")
    if isinstance(values, np.ndarray):
        if values.ndim != 1:
            raise RejectError(f"the parse function's {what}s are an array of {values.ndim} dimensions, not of one")
        values = values.tolist()
    try:
        numbers = list(values)
    except TypeError as error:
        raise RejectError(f"the parse function's {what}s are {shown(values)}, not a list of numbers") from error
    if not set(map(type, numbers)) <= {int}:
        numbers = [whole(value, f"a {what}") for value in numbers]
    if numbers and not (least <= min(numbers) and max(numbers) <= most):
        wrong = next(number for number in numbers if not least <= number <= most)
        raise RejectError(f"{what} {shown(wrong)} is not from {least} to {most}")
    return np.array(numbers, np.uint64)


def whole(value: Any, what: str) -> int:
    """The whole number that a value is. Raises RejectError."""
    if isinstance(value, np.ndarray) and value.ndim == 0:
        value = value.item()
    if isinstance(value, int | np.integer | np.bool_):
        return int(value)
    if isinstance(value, float | np.floating) and value == np.floor(value) and abs(value) <= _EXACT_FLOAT:
        return int(value)
    raise RejectError(f"{what} is {shown(value)}, not a whole number")


def described(error: BaseException) -> str:
    """Type and text of an exception, in one line."""
    try:
        text = " ".join(str(error).split())[:_SHOWN]
    except Exception:
        text = ""
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def shown(value: Any) -> str:
    try:
        text = repr(value)
    except Exception:
        text = f"a {type(value).__name__}"
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
