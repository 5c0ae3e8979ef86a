"""Lines of logs, parsed into rows.

`feasign_slot` (PaddleRec's): see contracts.feature_text; the label is slot 1, exactly once. `multislot` (Paddle's): for
show, click and each slot in feed order, a count and as many values. Or a function of the user's, `module:function`: see
connectors.user_function.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from streamtrain.connectors.rows import LineParser, RejectError, Row, RowBuilder, check_label
from streamtrain.connectors.user_function import UserParser, load_function
from streamtrain.contracts import feature_text
from streamtrain.contracts.feature_text import LABEL_SLOT, MAX_FEASIGN, FeatureError, quoted

__all__ = ["LineParser", "RejectError", "Row", "line_parser"]


class _TextParser:
    """Of the built-in formats: blanks at a line's ends mean nothing."""

    @staticmethod
    def content(line: bytes) -> bytes:
        return line.strip(b" \t\r")


class FeasignSlotParser(_TextParser):
    """`feasign:slot feasign:slot ...` with exactly one `0:1` or `1:1`."""

    def __init__(self, builder: RowBuilder) -> None:
        self._builder = builder

    def __call__(self, line: bytes) -> Row:
        try:
            slots, feasigns = feature_text.parse_line(line)
        except FeatureError as error:
            raise RejectError(str(error)) from error
        labels = feasigns[slots == LABEL_SLOT]
        if labels.size != 1:
            raise RejectError("it has no label (slot 1)" if not labels.size else f"it has {labels.size} labels")
        label = check_label(int(labels[0]))
        rest = slots != LABEL_SLOT
        return self._builder.build(label, slots[rest], feasigns[rest])


class MultiSlotParser(_TextParser):
    """`1 1 1 label n id .. n id ..`: show, click, then the model's slots in feed order."""

    def __init__(self, builder: RowBuilder, slots: Sequence[int]) -> None:
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
        label = check_label(columns[1][0])
        pairs = [(s, f) for s, c in zip(self._slots, columns[2:], strict=True) for f in c if f]
        slots = np.array([s for s, _ in pairs], np.uint64)
        return self._builder.build(label, slots, np.array([f for _, f in pairs], np.uint64))


def line_parser(name: str, slots: Sequence[int], *, reject_unknown: bool = False) -> LineParser:
    """The parser of a `stream.format`. Raises ConfigError when there is no such parser."""
    builder = RowBuilder(slots, reject_unknown=reject_unknown)
    if name == "feasign_slot":
        return FeasignSlotParser(builder)
    if name == "multislot":
        return MultiSlotParser(builder, slots)
    return UserParser(builder, load_function(name))
