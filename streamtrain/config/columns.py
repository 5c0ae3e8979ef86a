"""`stream.columns`, typed: which field of a line is which label, float or slot."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StrictBool, StrictFloat, StrictInt, StrictStr

from streamtrain.contracts.feature_text import MAX_FEASIGN
from streamtrain.contracts.line_format import Columns, LabelColumn, NumberColumn, SlotColumn
from streamtrain.contracts.row_layout import RowLayout

#: Names of feeds: of labels, floats, slots.
FEED_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,199}")


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


def _not_a_bool(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError("a number or text is wanted: true and false of JSON are 1 and 0, put text in quotes")
    return value


def _field_alone(value: Any) -> Any:
    """The name of a field stands for a mapping."""
    return {"field": value} if isinstance(value, str) else value


def _fields_alone(value: Any) -> Any:
    return {"field": value} if isinstance(value, str | list) else value


def _slot_alone(value: Any) -> Any:
    if value is None:
        return {}
    return {"slot": value} if type(value) is int else value


Name = Annotated[StrictStr, Field(min_length=1)]
Number = StrictInt | StrictFloat
Value = Annotated[StrictStr | StrictInt | StrictFloat, BeforeValidator(_not_a_bool)]
SlotNumber = Annotated[StrictInt, Field(ge=2, le=65535)]


class LabelOf(_Part):
    field: Name
    over: Number | None = None
    values: list[Annotated[StrictStr | StrictInt, BeforeValidator(_not_a_bool)]] | None = Field(
        None, alias="in", min_length=1
    )
    default: Value | None = None


class NumberOf(_Part):
    field: Name | Annotated[list[Name], Field(min_length=1)]
    split: str = ""
    default: Number | None = None


class SlotOf(_Part):
    slot: SlotNumber | None = None
    field: Name | None = None
    of: Annotated[list[Name], Field(min_length=2)] | None = None
    hash_as: SlotNumber | None = None
    split: str = ""
    buckets: Annotated[list[Number], Field(min_length=1)] | None = None
    default: Value | None = None
    feasign: StrictBool = False


class ColumnsConfig(_Part):
    """A label, float or weight that is not named here is read from the field of its own name."""

    labels: dict[str, Annotated[LabelOf, BeforeValidator(_field_alone)]] = {}
    dense: dict[str, Annotated[NumberOf, BeforeValidator(_fields_alone)]] = {}
    weight: Annotated[NumberOf, BeforeValidator(_field_alone)] | None = None
    fields: dict[str, Annotated[SlotOf, BeforeValidator(_slot_alone)]] = {}

    def numbers(self) -> dict[str, int]:
        """Numbers of the slots that have a name, where `fields` says both."""
        return {name: of.slot for name, of in self.fields.items() if of.slot is not None and not name.isdigit()}

    def problems(self, layout: RowLayout) -> Iterator[str]:
        """What does not fit the rows, by key below stream.columns."""
        yield from _unknown("labels", self.labels, [label.name for label in layout.labels])
        yield from _unknown("dense", self.dense, [dense.name for dense in layout.dense])
        if self.weight is not None and not layout.weight:
            yield "weight: rows have none; set stream.weight to its name"
        for name, label in self.labels.items():
            if label.over is not None and label.values is not None:
                yield f"labels.{name}: over and in exclude each other"
            if label.default is not None and label.values is None and isinstance(label.default, str):
                yield f"labels.{name}.default: {label.default!r} is no number"
            if label.values is not None and isinstance(label.default, float):
                yield f"labels.{name}.default: {label.default!r} is a float, which has no text: put it in quotes"
        widths = {dense.name: dense.width for dense in layout.dense}
        for name, number in self.dense.items():
            if isinstance(number.field, list) and len(number.field) != widths.get(name, len(number.field)):
                yield f"dense.{name}: {len(number.field)} fields, stream.dense says {widths[name]} floats"
        taken: dict[int, str] = {}
        for name, of in self.fields.items():
            yield from (f"fields.{name}{problem}" for problem in _slot_problems(name, of, layout))
            if (slot := self._slot(name, of, layout)) is not None and taken.setdefault(slot, name) != name:
                yield f"fields.{name}: slot {slot} is {taken[slot]} already"
        mapped = {self._slot(name, of, layout) for name, of in self.fields.items()}
        names = {number: name for name, number in layout.names.items()}
        if lacking := [names.get(slot, str(slot)) for slot in layout.slots if slot not in mapped]:
            yield f"fields: nothing says which field {', '.join(lacking[:10])} is"

    def columns(self, layout: RowLayout) -> Columns:
        """For a layout without problems()."""
        labels = (self.labels.get(label.name, LabelOf.model_validate({"field": label.name})) for label in layout.labels)
        dense = (self.dense.get(dense.name, NumberOf(field=dense.name)) for dense in layout.dense)
        weight = self.weight or NumberOf(field=layout.weight or "weight")
        return Columns(
            tuple(
                LabelColumn(
                    of.field, of.over, None if of.values is None else tuple(map(str, of.values)), of.default
                ) for of in labels
            ),
            tuple(map(_number_column, dense)),
            _number_column(weight) if layout.weight else None,
            tuple(self._slot_column(name, of, layout) for name, of in self.fields.items()),
        )  # fmt: skip

    def _slot_column(self, name: str, of: SlotOf, layout: RowLayout) -> SlotColumn:
        slot = self._slot(name, of, layout) or 0
        return SlotColumn(
            slot, tuple(of.of or [of.field or name]), of.hash_as or slot, of.split,
            None if of.buckets is None else tuple(of.buckets), of.default, of.feasign,
        )  # fmt: skip

    @staticmethod
    def _slot(name: str, of: SlotOf, layout: RowLayout) -> int | None:
        return of.slot if of.slot is not None else layout.slot_number(name)

    def identity(self, layout: RowLayout) -> dict[str, Any]:
        """What it means, by dotted keys below stream.columns, however it is written."""
        found = self.columns(layout)
        parts: dict[str, Any] = {}
        for label, column in zip(layout.labels, found.labels, strict=True):
            parts[f"labels.{label.name}"] = vars(column)
        for dense, number in zip(layout.dense, found.dense, strict=True):
            parts[f"dense.{dense.name}"] = vars(number)
        if found.weight is not None:
            parts["weight"] = vars(found.weight)
        for name, slot in zip(self.fields, found.slots, strict=True):
            parts[f"fields.{name}"] = vars(slot)
        return {
            key: {
                k: list(v) if isinstance(v, tuple) else v
                for k, v in values.items()
                if v is not None and v is not False and (k, v) != ("split", "")
            }
            for key, values in parts.items()
        }


def _number_column(of: NumberOf) -> NumberColumn:
    fields = (of.field,) if isinstance(of.field, str) else tuple(of.field)
    return NumberColumn(fields, of.split, None if of.default is None else float(of.default))


def _unknown(part: str, given: Mapping[str, Any], names: list[str]) -> Iterator[str]:
    for name in given:
        if name not in names:
            yield f"{part}.{name}: stream.{part} has {', '.join(names) or 'none'}, no {name}"


def _slot_problems(name: str, of: SlotOf, layout: RowLayout) -> Iterator[str]:
    number = layout.slot_number(name)
    if not FEED_NAME.fullmatch(name) and not (name.isascii() and name.isdigit() and 2 <= int(name[:9]) <= 65535):
        yield ": it is no name: letters, digits, '_', '.', '-', beginning with a letter or '_'; or a slot's number"
        return
    if of.slot is None and number is None:
        yield ": its slot's number is wanted, here or in stream.features"
    elif of.slot is not None and name.isdigit() and of.slot != int(name):
        yield f".slot: {of.slot}, and the name is {name}"
    elif of.slot is not None and number is not None and of.slot != number:
        yield f".slot: {of.slot}, stream.features says {number}"
    elif of.slot is not None and of.slot not in layout.slots:
        yield f".slot: {of.slot} is not one of the job's slots"
    if of.hash_as is not None and of.hash_as not in layout.slots:
        yield f".hash_as: {of.hash_as} is not one of the job's slots"
    if of.of is not None and (of.field is not None or of.buckets is not None or of.feasign):
        yield ".of: a cross takes neither field nor buckets nor feasign"
    if of.feasign and (of.buckets is not None or of.hash_as is not None):
        yield ".feasign: what is one already takes neither buckets nor hash_as"
    if of.buckets is not None and any(a >= b for a, b in zip(of.buckets, of.buckets[1:], strict=False)):
        yield ".buckets: they must ascend"
    yield from _default_problems(of)


def _default_problems(of: SlotOf) -> Iterator[str]:
    if of.default is None:
        return
    if of.buckets is not None:
        if isinstance(of.default, str):
            yield f".default: {of.default!r} is no number, which buckets want"
    elif of.feasign:
        digits = str(of.default)
        if not re.fullmatch("[0-9]{1,20}", digits) or int(digits) > MAX_FEASIGN:
            yield f".default: {of.default!r} is no feasign"
    elif isinstance(of.default, float):
        yield f".default: {of.default!r} is a float, which is not hashed: put it in quotes"
