"""`name:value name:value ..`, PaddleRec's text of named values: `click:0 price:0.05 price:0.66 1:715353 user:12`."""

from __future__ import annotations

from typing import Any

import numpy as np

from streamtrain.connectors.absent_names import AbsentNames
from streamtrain.connectors.rows import OneByOne, RejectError, Row, RowBuilder
from streamtrain.connectors.values import number_of
from streamtrain.contracts.feature_text import MAX_FEASIGN, quoted


class NameValueParser(OneByOne):
    """A name that is repeated has several values. Names are those of labels, floats, the weight and slots; a slot's
    number is one too. A weight may be absent: it is 1."""

    def __init__(self, builder: RowBuilder) -> None:
        layout = self._layout = builder.layout
        self._builder = builder
        self._slots = {str(slot).encode(): slot for slot in layout.slots}
        self._slots.update({name.encode(): slot for name, slot in layout.names.items() if slot in layout.slots})
        numbers = [*(label.name for label in layout.labels), *(dense.name for dense in layout.dense), layout.weight]
        self._numbers = {name.encode(): name for name in numbers if name}
        self._names = {slot: str(slot) for slot in layout.slots}
        self._names.update({slot: name for name, slot in layout.names.items() if slot in layout.slots})
        self.absent = AbsentNames([*([layout.weight] if layout.weight else []), *self._names.values()])

    @staticmethod
    def content(line: bytes) -> bytes:
        return line.strip(b" \t\r")

    def __call__(self, line: bytes) -> Row:
        slots: list[int] = []
        feasigns: list[int] = []
        given: dict[str, list[Any]] = {name: [] for name in self._numbers.values()}
        for token in line.split():
            name, colon, value = token.partition(b":")
            if not colon or not name:
                raise RejectError(f"{quoted(token)} is not name:value")
            slot = self._slots.get(name)
            if slot is not None:
                if not value.isdigit() or len(value) > 20 or int(value) > MAX_FEASIGN:
                    raise RejectError(f"{quoted(token)} is not a feasign from 0 to 2^64-1")
                slots.append(slot)
                feasigns.append(int(value))
            elif name in self._numbers:
                known = self._numbers[name]
                given[known].append(number_of(value.decode("latin-1"), known))
            elif self._builder.reject_unknown:
                raise RejectError(f"{quoted(name)} is not a name of the config's")
        if self.absent.left:
            self.absent.had({*(self._names[slot] for slot in slots), *(name for name, of in given.items() if of)})
        labels = [self._one(given, label.name, None) for label in self._layout.labels]
        dense = [value for of in self._layout.dense for value in self._all(given, of.name, of.width)]
        weight = self._one(given, self._layout.weight, 1.0) if self._layout.weight else 1.0
        return self._builder.build(labels, np.array(slots, np.uint64), np.array(feasigns, np.uint64), dense, weight)

    @staticmethod
    def _one(given: dict[str, list[Any]], name: str, default: float | None) -> Any:
        values = given[name] or ([] if default is None else [default])
        if len(values) != 1:
            raise RejectError(f"it has {len(values)} values of {name}, not one")
        return values[0]

    @staticmethod
    def _all(given: dict[str, list[Any]], name: str, width: int) -> list[Any]:
        if len(given[name]) != width:
            raise RejectError(f"it has {len(given[name])} values of {name}, the config says {width}")
        return given[name]
