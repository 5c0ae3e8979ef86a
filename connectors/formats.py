"""Lines of logs, parsed into rows.

`feasign_slot` (PaddleRec's): see contracts.feature_text; the label is slot 1, exactly once. `multislot` (Paddle's): for
show, click and each slot in feed order, a count and as many values. Or a function of the user's, `module:function`,
that takes the line (bytes) and returns (label, slots, feasigns).
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from streamtrain.contracts import feature_text
from streamtrain.contracts.feature_text import LABEL_SLOT, MAX_FEASIGN, MAX_SLOT, FeatureError, quoted
from streamtrain.errors import ConfigError
from streamtrain.user_code import module_place, words


class RejectError(ValueError):
    """The line is not a row; the text says why."""


@dataclass(frozen=True)
class Row:
    """A parsed line: slots as packed <u2, ascending and stable, feasigns as packed <u8."""

    label: int
    slots: bytes
    feasigns: bytes


LineParser: TypeAlias = Callable[[bytes], Row]
UserFunction: TypeAlias = Callable[[bytes], tuple[int, Sequence[int], Sequence[int]]]


class _RowBuilder:
    """Makes a Row from columns: keeps the model's slots, sorts by slot."""

    def __init__(self, slots: Sequence[int], *, reject_unknown: bool) -> None:
        self._known = np.zeros(MAX_SLOT + 1, bool)
        self._known[list(slots)] = True
        self._reject_unknown = reject_unknown

    def build(self, label: int, slots: npt.NDArray[np.uint64], feasigns: npt.NDArray[np.uint64]) -> Row:
        if slots.size and int(slots.max()) > MAX_SLOT:
            raise RejectError(f"slot {int(slots.max())} is over {MAX_SLOT}")
        keep = self._known[slots]
        if not keep.all():
            if self._reject_unknown:
                raise RejectError(f"slot {int(slots[~keep][0])} is not one of the model's")
            slots, feasigns = slots[keep], feasigns[keep]
        short = slots.astype("<u2")
        if short.size and (short[1:] < short[:-1]).any():
            order = np.argsort(short, kind="stable")
            short, feasigns = short[order], feasigns[order]
        return Row(label, short.tobytes(), feasigns.astype("<u8", copy=False).tobytes())


def _check_label(label: int) -> int:
    if label not in (0, 1):
        raise RejectError(f"the label is {label}, not 0 or 1")
    return label


class FeasignSlotParser:
    """`feasign:slot feasign:slot ...` with exactly one `0:1` or `1:1`."""

    def __init__(self, builder: _RowBuilder) -> None:
        self._builder = builder

    def __call__(self, line: bytes) -> Row:
        try:
            slots, feasigns = feature_text.parse_line(line)
        except FeatureError as error:
            raise RejectError(str(error)) from error
        labels = feasigns[slots == LABEL_SLOT]
        if labels.size != 1:
            raise RejectError("it has no label (slot 1)" if not labels.size else f"it has {labels.size} labels")
        label = _check_label(int(labels[0]))
        rest = slots != LABEL_SLOT
        return self._builder.build(label, slots[rest], feasigns[rest])


class MultiSlotParser:
    """`1 1 1 label n id .. n id ..`: show, click, then the model's slots in feed order."""

    def __init__(self, builder: _RowBuilder, slots: Sequence[int]) -> None:
        self._builder = builder
        self._slots = list(slots)

    def __call__(self, line: bytes) -> Row:
        tokens = line.split()
        for token in tokens:
            if not token.isdigit():
                raise RejectError(f"{quoted(token)} is not a number")
            if len(token) > 20 or int(token) > MAX_FEASIGN:
                raise RejectError(f"{quoted(token)} is over 2^64-1")
        numbers = [int(token) for token in tokens]
        at = 0
        columns: list[list[int]] = []
        for name in ("show", "click", *self._slots):
            if at >= len(numbers):
                raise RejectError(f"it ends before slot {name}")
            count = numbers[at]
            values = numbers[at + 1 : at + 1 + count]
            if not count or len(values) != count:
                raise RejectError(f"slot {name} says {count} values and has {len(values)}")
            columns.append(values)
            at += 1 + count
        if at != len(numbers):
            raise RejectError(f"it has {len(numbers) - at} numbers after its last slot")
        if columns[0] != [1] or len(columns[1]) != 1:
            raise RejectError("show is not 1, or click has not one value")
        label = _check_label(columns[1][0])
        pairs = [(s, f) for s, c in zip(self._slots, columns[2:], strict=True) for f in c if f]
        slots = np.array([s for s, _ in pairs], np.uint64)
        return self._builder.build(label, slots, np.array([f for _, f in pairs], np.uint64))


class UserParser:
    """A function of the user's: its ValueError or a wrong result rejects the line."""

    def __init__(self, builder: _RowBuilder, function: UserFunction) -> None:
        self._builder = builder
        self._function = function

    def __call__(self, line: bytes) -> Row:
        try:
            label, slots, feasigns = self._function(line)
            columns = [np.array(list(column), np.uint64) for column in (slots, feasigns)]
        except (ValueError, TypeError, OverflowError, IndexError, KeyError) as error:
            raise RejectError(f"the parse function refused it: {error}") from error
        if columns[0].size != columns[1].size:
            raise RejectError("the parse function returned more slots than feasigns, or fewer")
        return self._builder.build(_check_label(int(label)), columns[0], columns[1])


def line_parser(name: str, slots: Sequence[int], *, reject_unknown: bool = False) -> LineParser:
    """The parser of a `stream.format`. Raises ConfigError when there is no such parser."""
    builder = _RowBuilder(slots, reject_unknown=reject_unknown)
    if name == "feasign_slot":
        return FeasignSlotParser(builder)
    if name == "multislot":
        return MultiSlotParser(builder, slots)
    module_name, colon, attribute = name.partition(":")
    if not colon:
        module_name, _, attribute = name.rpartition(".")
    try:
        function = getattr(importlib.import_module(module_name), attribute)
        if not callable(function):
            raise AttributeError(f"{attribute} of module {module_name} is not a function")
    except (Exception, SystemExit) as error:
        if place := module_place(error, module_name):  # it is found, and fails by itself
            raise ConfigError(
                f"stream.format: {name!r} cannot be imported: {place}: {type(error).__name__}: {words(error)}",
                remedy="Correct it there.",
            ) from error
        if not isinstance(error, ImportError | AttributeError | ValueError):
            raise ConfigError(f"stream.format: {name!r} cannot be imported: {type(error).__name__}: {error}") from error
        raise ConfigError(
            f"stream.format: {name!r} is neither feasign_slot nor multislot, nor a function: {error}",
            remedy="Give module:function, with the module on PYTHONPATH.",
        ) from error
    return UserParser(builder, function)
