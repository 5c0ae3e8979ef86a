"""How a line of a log becomes a row: the format's name, and what a mapping of columns says. Pure data.

The mapping serves whatever has named values: a line of CSV, TSV or JSON. docs/rows.md has what each part means.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeAlias

#: Those that need no code of the user's.
BUILT_IN = ("feasign_slot", "multislot", "name_value", "csv", "tsv", "json")
#: Those whose values have names, which `stream.columns` maps.
WITH_COLUMNS = ("csv", "tsv", "json")
#: Those whose names are in a header.
WITH_HEADER = ("csv", "tsv")
#: A value of a config that stands for one of a line.
Value: TypeAlias = str | int | float


@dataclass(frozen=True)
class LabelColumn:
    """over: 1 above this number, else 0. values: 1 where the value's text is one of them, else 0. default: stands where
    there is no value; None: such a line is rejected."""

    field: str
    over: float | None = None
    values: tuple[str, ...] | None = None
    default: Value | None = None


@dataclass(frozen=True)
class NumberColumn:
    """Numbers, of one field or of several with one number each. split: separates the numbers in a text. default: stands
    where there is no value; None: such a line is rejected."""

    fields: tuple[str, ...]
    split: str = ""
    default: float | None = None


@dataclass(frozen=True)
class SlotColumn:
    """Feasigns of a slot. fields: several make a cross of their values. seed: the slot whose feasigns the same value
    has. split: separates values in a text. buckets: bounds, ascending; the value is a number, and the bucket that it is
    in is hashed. default: stands where there is no value. feasign: the value is one already."""

    slot: int
    fields: tuple[str, ...]
    seed: int
    split: str = ""
    buckets: tuple[float, ...] | None = None
    default: Value | None = None
    feasign: bool = False


@dataclass(frozen=True)
class Columns:
    """labels, dense: in the layout's order. weight: None when rows have none."""

    labels: tuple[LabelColumn, ...]
    dense: tuple[NumberColumn, ...]
    weight: NumberColumn | None
    slots: tuple[SlotColumn, ...]

    def fields(self) -> Iterator[str]:
        """All fields that are read, some of them twice."""
        for label in self.labels:
            yield label.field
        for number in (*self.dense, *([self.weight] if self.weight is not None else [])):
            yield from number.fields
        for slot in self.slots:
            yield from slot.fields


@dataclass(frozen=True)
class LineFormat:
    """name: one of BUILT_IN, or module:function. columns: of formats whose values have names. header: names of a
    line's values; None: the first line of each file has them. feed_order: of multislot, () as it was before 0.4.0."""

    name: str
    columns: Columns | None = None
    header: tuple[str, ...] | None = None
    feed_order: tuple[str, ...] = ()
