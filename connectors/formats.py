"""Lines of logs, parsed into rows. docs/rows.md shows a line of each format.

`feasign_slot` (PaddleRec's): see contracts.feature_text; the label is slot 1, exactly once. `multislot` (Paddle's): for
each feed in order, a count and as many values. `name_value` (PaddleRec's), `csv`, `tsv`, `json`: see named_values and
tables. Or a function of the user's, `module:function`: see user_function.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from streamtrain.connectors.named_values import NameValueParser
from streamtrain.connectors.rows import LineParser, OneByOne, RejectError, Result, Row, RowBuilder
from streamtrain.connectors.user_batches import user_parser
from streamtrain.connectors.user_function import load_function
from streamtrain.connectors.values import number_of
from streamtrain.contracts import feature_text
from streamtrain.contracts.feature_text import LABEL_SLOT, MAX_FEASIGN, FeatureError, quoted
from streamtrain.contracts.line_format import WITH_COLUMNS, LineFormat
from streamtrain.contracts.row_layout import RowLayout

__all__ = ["LineParser", "RejectError", "Row", "line_parser"]


class _TextParser(OneByOne):
    """Of the formats of one line of text: blanks at a line's ends mean nothing."""

    @staticmethod
    def content(line: bytes) -> bytes:
        return line.strip(b" \t\r")


class FeasignSlotParser(_TextParser):
    """`feasign:slot feasign:slot ...` with exactly one `0:1` or `1:1`."""

    batch = feature_text.TOGETHER

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
        rest = slots != LABEL_SLOT
        return self._builder.build([int(labels[0])], slots[rest], feasigns[rest])

    def rows(self, contents: Sequence[bytes]) -> Iterator[Result]:
        """Lines that are all as they should be are taken together; else each of them by itself, for its reason."""
        features = feature_text.fast_features(contents)
        together = self._builder.build_together(features) if features is not None else None
        yield from together if together is not None else super().rows(contents)


class MultiSlotParser(_TextParser):
    """`1 1 1 label n id .. n id ..`: show, click, then the model's slots in feed order."""

    def __init__(self, builder: RowBuilder) -> None:
        self._builder = builder
        self._slots = list(builder.layout.slots)

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
        label = columns[1][0]
        pairs = [(s, f) for s, c in zip(self._slots, columns[2:], strict=True) for f in c if f]
        slots = np.array([s for s, _ in pairs], np.uint64)
        return self._builder.build([label], slots, np.array([f for _, f in pairs], np.uint64))


class FeedsParser(_TextParser):
    """MultiSlot text of any feeds: for each of `order`, a count and as many values. Labels, floats and the weight are
    decimal text, feasigns digits; 0 is no feasign."""

    def __init__(self, builder: RowBuilder, order: Sequence[str]) -> None:
        layout = self._layout = builder.layout
        self._builder = builder
        self._order = list(order) or feeds_of(layout)
        #: Values that a feed has; those of a slot may be any number.
        self._widths = {"show": 1, layout.weight: 1, **{label.name: 1 for label in layout.labels}}
        self._widths.update({dense.name: dense.width for dense in layout.dense})

    def __call__(self, line: bytes) -> Row:
        tokens = line.split()
        at = 0
        given: dict[str, list[Any]] = {}
        slots: list[int] = []
        feasigns: list[int] = []
        for name in self._order:
            if at >= len(tokens):
                raise RejectError(f"it ends before {name}")
            count = _digits(tokens[at])
            values = tokens[at + 1 : at + 1 + count]
            if not count or len(values) != count:
                raise RejectError(f"{name} says {count} values and has {len(values)}")
            at += 1 + count
            if (width := self._widths.get(name)) is None:
                found = [number for number in map(_digits, values) if number]
                slots += [self._layout.slot_number(name) or 0] * len(found)
                feasigns += found
            elif width != count:
                raise RejectError(f"{name} has {count} values, the config says {width}")
            else:
                given[name] = [number_of(value.decode("latin-1"), name) for value in values]
        if at != len(tokens):
            raise RejectError(f"it has {len(tokens) - at} numbers after its last feed")
        if given.get("show", [1]) != [1]:
            raise RejectError("show is not 1")
        labels = [given[label.name][0] for label in self._layout.labels]
        dense = [value for of in self._layout.dense for value in given[of.name]]
        weight = given.get(self._layout.weight, [1.0])[0]
        return self._builder.build(labels, np.array(slots, np.uint64), np.array(feasigns, np.uint64), dense, weight)


def feeds_of(layout: RowLayout) -> list[str]:
    """The feeds of a line where stream.feed_order does not say them."""
    names = {number: name for name, number in layout.names.items()}
    return [
        "show", *(label.name for label in layout.labels), *([layout.weight] if layout.weight else []),
        *(dense.name for dense in layout.dense), *(names.get(slot, str(slot)) for slot in layout.slots),
    ]  # fmt: skip


def _digits(token: bytes) -> int:
    if not token.isdigit():
        raise RejectError(f"{quoted(token)} is not a number")
    if len(token) > 20 or int(token) > MAX_FEASIGN:
        raise RejectError(f"{quoted(token)} is over 2^64-1")
    return int(token)


def line_parser(form: LineFormat | str, layout: RowLayout, *, reject_unknown: bool = False) -> LineParser:
    """The parser of a `stream.format`. Raises ConfigError when there is no such parser."""
    form = LineFormat(form) if isinstance(form, str) else form
    builder = RowBuilder(layout, reject_unknown=reject_unknown)
    if form.name == "feasign_slot":
        return FeasignSlotParser(builder)
    if form.name == "multislot":
        plain = not layout.has_values and not form.feed_order
        return MultiSlotParser(builder) if plain else FeedsParser(builder, form.feed_order)
    if form.name == "name_value":
        return NameValueParser(builder)
    if form.name in WITH_COLUMNS:
        from streamtrain.connectors.tables import named_parser

        return named_parser(form, builder)
    return user_parser(builder, load_function(form.name))
