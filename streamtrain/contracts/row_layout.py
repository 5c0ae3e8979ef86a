"""What the rows of a job have: slots of feasigns, labels, floats, a weight. Pure.

The config says it (`stream.slots`, `features`, `labels`, `dense`, `weight`), since the bridge knows no network; each
worker compares it with the network's feeds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

#: binary: 0 or 1; int: a whole number that a float32 holds; float: any finite float32.
LabelKind: TypeAlias = Literal["binary", "int", "float"]

#: Whole numbers up to here are exact in a float32.
EXACT_FLOAT32 = 2**24


@dataclass(frozen=True)
class Label:
    name: str
    kind: LabelKind = "binary"


@dataclass(frozen=True)
class Dense:
    """Floats under one name. begin: where they are in a row's floats."""

    name: str
    width: int
    begin: int

    @property
    def end(self) -> int:
        return self.begin + self.width


CLICK = (Label("click"),)


@dataclass(frozen=True)
class RowLayout:
    """slots: numbers, in the order of the model's feeds. names: the number of each slot that has a name. labels: at
    least one, in the job's order. dense: in the job's order. weight: its name, '' when rows have none."""

    slots: tuple[int, ...]
    names: Mapping[str, int] = field(default_factory=dict)
    labels: tuple[Label, ...] = CLICK
    dense: tuple[Dense, ...] = ()
    weight: str = ""

    @property
    def has_values(self) -> bool:
        """Whether a row has more than slots and one label of 0 or 1."""
        return bool(self.dense or self.weight) or len(self.labels) > 1 or self.labels[0].kind != "binary"

    @property
    def dense_width(self) -> int:
        """Floats of a row."""
        return self.dense[-1].end if self.dense else 0

    def slot_number(self, name: str) -> int | None:
        """The number of the slot that a feed or a value of this name is of; None when the job has no such slot."""
        number = self.names.get(name)
        if number is None and name.isascii() and name.isdigit() and len(name) <= 5:
            number = int(name) if name == str(int(name)) else None
        return number if number in self.slots else None
