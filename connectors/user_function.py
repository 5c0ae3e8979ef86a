"""A parse function of the user's: it takes the line, and returns a streamtrain.Row or (label, slots, feasigns), or None
for no row; one with the attribute `batch` takes a list of lines and returns a list of as many results.

A line is as it stands in the file, without its line end. What the function returns is taken exactly or not at all: no
value is rounded, wrapped or read out of text. Whatever it raises rejects the line.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from streamtrain.connectors.given_values import check_names, column, described, number, numbers, pair, shown, whole
from streamtrain.connectors.rows import OneByOne, RejectError, Row, RowBuilder
from streamtrain.contracts import user_row
from streamtrain.contracts.feature_text import MAX_FEASIGN, MAX_SLOT
from streamtrain.contracts.line_format import BUILT_IN
from streamtrain.errors import ConfigError, DataError
from streamtrain.user_code import module_place, words

UserFunction: TypeAlias = Callable[[Any], Any]


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
            f"stream.format: {name!r} is none of {', '.join(BUILT_IN)}, nor a function: "
            f"{error if known else described(error)}",
            remedy="Give module:function, with the module on PYTHONPATH.",
        ) from error
    if not callable(function):
        raise ConfigError(
            f"stream.format: {name!r} is {shown(function)}, not a function", remedy="Give module:function."
        )
    return function


class UserParser(OneByOne):
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
            return self._row(self._function(content))
        except RejectError:
            raise
        except MemoryError as error:
            raise out_of_memory(content) from error
        except (Exception, SystemExit) as error:
            raise RejectError(f"the parse function raised {described(error)}") from error

    def _row(self, result: Any) -> Row | None:
        """Of what the function returned. Raises RejectError, and whatever its iterables raise."""
        if result is None:
            return None
        layout = self._builder.layout
        if isinstance(result, user_row.Row):
            slots, feasigns = self._features(result)
            weight = number(result.weight, "the weight")
            if weight != 1 and not layout.weight:
                raise RejectError(f"the weight is {weight}, and the config has no stream.weight")
            return self._builder.build(self._labels(result.labels), slots, feasigns, self._dense(result.dense), weight)
        if not isinstance(result, tuple | list) or len(result) != 3:
            raise RejectError(
                f"the parse function returned {shown(result)}, not (label, slots, feasigns) or a streamtrain.Row"
            )
        if len(layout.labels) > 1 or layout.dense:
            raise RejectError(
                "the parse function returned (label, slots, feasigns), and the job's rows have more: a streamtrain.Row "
                "is wanted"
            )
        slots, feasigns = pair(result[1], result[2])
        binary = layout.labels[0].kind == "binary"
        label = whole(result[0], "the label") if binary else number(result[0], "the label")
        return self._builder.build([label], slots, feasigns)

    def _labels(self, given: Any) -> list[float | int]:
        names = [label.name for label in self._builder.layout.labels]
        if not isinstance(given, Mapping):
            if len(names) > 1:
                raise RejectError(f"the row's labels are {shown(given)}, not a mapping of {', '.join(names)}")
            return [number(given, f"the label {names[0]}")]
        check_names("label", given, names)
        return [number(given[name], f"the label {name}") for name in names]

    def _dense(self, given: Any) -> list[float | int]:
        layout = self._builder.layout
        if not isinstance(given, Mapping):
            raise RejectError(f"the row's dense is {shown(given)}, not a mapping")
        check_names("float", given, [dense.name for dense in layout.dense])
        found: list[float | int] = []
        for of in layout.dense:
            floats = numbers(given[of.name], of.name)
            if len(floats) != of.width:
                raise RejectError(f"{of.name} has {len(floats)} numbers, the config says {of.width}")
            found += floats
        return found

    def _features(self, row: user_row.Row) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.uint64]]:
        if row.slots is not None or row.feasigns is not None:
            if row.features:
                raise RejectError("the row has features, and slots or feasigns too")
            return pair(row.slots if row.slots is not None else (), row.feasigns if row.feasigns is not None else ())
        if not isinstance(row.features, Mapping):
            raise RejectError(f"the row's features are {shown(row.features)}, not a mapping")
        slots: list[npt.NDArray[np.uint64]] = []
        feasigns: list[npt.NDArray[np.uint64]] = []
        for name, values in row.features.items():
            slot = self._builder.layout.slot_number(name) if isinstance(name, str) else whole(name, "a slot")
            if slot is None:
                raise RejectError(f"the row has features of {shown(name)}, which is no name of stream.features")
            one = isinstance(values, int | float | np.number | np.bool_)
            one = one or (isinstance(values, np.ndarray) and not values.ndim)
            feasigns.append(column([values] if one else values, "feasign", 0, MAX_FEASIGN))
            slots.append(column([slot], "slot", 1, MAX_SLOT).repeat(feasigns[-1].size))
        empty = np.empty(0, np.uint64)
        return np.concatenate([empty, *slots]), np.concatenate([empty, *feasigns])


def out_of_memory(content: bytes) -> DataError:
    return DataError(
        f"the parse function ran out of memory on a line of {len(content)} bytes, {content[:80]!r}",
        remedy="Correct the function, or give the bridge more memory; nothing of this split was published.",
    )
