"""A parse function of the user's: it takes the line, and returns (label, slots, feasigns), or None for no row.

The line is as it stands in the file, without its line end. What the function returns is taken exactly or not at all:
no value is rounded, wrapped or read out of text. Whatever it raises rejects the line.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from streamtrain.connectors.rows import RejectError, Row, RowBuilder, check_label
from streamtrain.contracts.feature_text import MAX_FEASIGN, MAX_SLOT
from streamtrain.errors import ConfigError, DataError
from streamtrain.user_code import module_place, words

UserFunction: TypeAlias = Callable[[bytes], Any]

#: A float holds every whole number up to here; a larger one may have been rounded.
_EXACT_FLOAT = 2**53
#: Characters of a value or an exception's text in a reason.
_SHOWN = 200


def load_function(name: str) -> UserFunction:
    """The function `module:function` or `module.function`. Raises ConfigError."""
    module_name, colon, attribute = name.partition(":")
    if not colon:
        module_name, _, attribute = name.rpartition(".")
    try:
        function = importlib.import_module(module_name)
        for part in attribute.split("."):
            function = getattr(function, part)
    except (Exception, SystemExit) as error:
        if place := module_place(error):
            raise ConfigError(
                f"stream.format: {name!r} cannot be imported: {place}: {type(error).__name__}: {words(error)}",
                remedy="Correct it there.",
            ) from error
        known = isinstance(error, ImportError | AttributeError | ValueError)
        raise ConfigError(
            f"stream.format: {name!r} is neither feasign_slot nor multislot, nor a function: "
            f"{error if known else _described(error)}",
            remedy="Give module:function, with the module on PYTHONPATH.",
        ) from error
    if not callable(function):
        raise ConfigError(
            f"stream.format: {name!r} is {_shown(function)}, not a function", remedy="Give module:function."
        )
    return function


class UserParser:
    """Raises DataError when the function runs out of memory: that says nothing about the line."""

    def __init__(self, builder: RowBuilder, function: UserFunction) -> None:
        self._builder = builder
        self._function = function

    @staticmethod
    def content(line: bytes) -> bytes:
        """Tabs and blanks at a line's ends are the function's own."""
        return line.removesuffix(b"\r") if line.strip(b"\r") else b""

    def __call__(self, content: bytes) -> Row | None:
        try:
            result = self._function(content)
            if result is None:
                return None
            if not isinstance(result, tuple | list) or len(result) != 3:
                raise RejectError(f"the parse function returned {_shown(result)}, not (label, slots, feasigns)")
            label = check_label(_whole(result[0], "the label"))
            slots = _column(result[1], "slot", 1, MAX_SLOT)
            feasigns = _column(result[2], "feasign", 0, MAX_FEASIGN)
        except RejectError:
            raise
        except MemoryError as error:
            raise DataError(
                f"the parse function ran out of memory on a line of {len(content)} bytes, {content[:80]!r}",
                remedy="Correct the function, or give the bridge more memory; nothing of this split was published.",
            ) from error
        except (Exception, SystemExit) as error:
            raise RejectError(f"the parse function raised {_described(error)}") from error
        if slots.size != feasigns.size:
            raise RejectError(f"the parse function returned {slots.size} slots and {feasigns.size} feasigns")
        return self._builder.build(label, slots, feasigns)


def _column(values: Any, what: str, least: int, most: int) -> npt.NDArray[np.uint64]:
    """Whole numbers from `least` to `most`. Raises RejectError."""
    if isinstance(values, str | bytes | bytearray | memoryview | dict | set | frozenset):
        raise RejectError(f"the parse function's {what}s are {_shown(values)}, not a list of numbers")
    if isinstance(values, np.ndarray):
        if values.ndim != 1:
            raise RejectError(f"the parse function's {what}s are an array of {values.ndim} dimensions, not of one")
        values = values.tolist()
    try:
        numbers = list(values)
    except TypeError as error:
        raise RejectError(f"the parse function's {what}s are {_shown(values)}, not a list of numbers") from error
    if not set(map(type, numbers)) <= {int}:
        numbers = [_whole(value, f"a {what}") for value in numbers]
    if numbers and not (least <= min(numbers) and max(numbers) <= most):
        wrong = next(number for number in numbers if not least <= number <= most)
        raise RejectError(f"{what} {_shown(wrong)} is not from {least} to {most}")
    return np.array(numbers, np.uint64)


def _whole(value: Any, what: str) -> int:
    """The whole number that a value is. Raises RejectError."""
    if isinstance(value, np.ndarray) and value.ndim == 0:
        value = value.item()
    if isinstance(value, int | np.integer | np.bool_):
        return int(value)
    if isinstance(value, float | np.floating) and value == np.floor(value) and abs(value) <= _EXACT_FLOAT:
        return int(value)
    raise RejectError(f"{what} is {_shown(value)}, not a whole number")


def _described(error: BaseException) -> str:
    """Type and text of an exception, in one line."""
    try:
        text = " ".join(str(error).split())[:_SHOWN]
    except Exception:
        text = ""
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _shown(value: Any) -> str:
    try:
        text = repr(value)
    except Exception:
        text = f"a {type(value).__name__}"
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
