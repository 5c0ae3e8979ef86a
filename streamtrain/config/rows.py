"""What the keys of `stream:` say of rows and lines together. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from streamtrain.config.sections import StreamConfig
from streamtrain.contracts.line_format import BUILT_IN, WITH_COLUMNS, WITH_HEADER
from streamtrain.contracts.row_layout import Dense, Label, RowLayout


def slots(stream: StreamConfig) -> tuple[int, ...] | None:
    """Those that the section defines; None when hyper_parameters.slot_num has to."""
    if stream.slots is not None:
        return tuple(stream.slots)
    return tuple(stream.features.values()) if stream.features is not None else None


def layout(stream: StreamConfig, numbers: tuple[int, ...]) -> RowLayout:
    """numbers: of the slots, in the order of the model's feeds."""
    dense, begin = [], 0
    for name, width in stream.dense.items():
        dense.append(Dense(name, width, begin))
        begin += width
    labels = tuple(Label(name, kind) for name, kind in stream.labels.items())
    return RowLayout(numbers, dict(stream.features or {}), labels, tuple(dense), stream.weight)


def problems(stream: StreamConfig, counted: tuple[int, ...]) -> Iterator[str]:
    """Keys that the format cannot carry, or does not read. counted: the slots of hyper_parameters.slot_num."""
    name = stream.format
    of = layout(stream, slots(stream) or counted)
    if name == "feasign_slot" and of.has_values:
        more = [key for key in ("labels", "dense", "weight") if key in stream.model_fields_set]
        yield (
            f"stream.format: feasign_slot carries feasigns and one label of 0 or 1 alone, not what "
            f"{' and '.join(f'stream.{key}' for key in more)} name; take name_value, multislot, csv, tsv, json or a "
            "function of yours"
        )
    if stream.feed_order is not None:
        if name != "multislot":
            yield f"stream.feed_order: the format {name} does not read it, only multislot does"
        yield from _order(stream.feed_order, of)
    if "header" in stream.model_fields_set and name not in WITH_HEADER:
        yield f"stream.header: the format {name} does not read it, only {' and '.join(WITH_HEADER)} do"
    if name not in WITH_COLUMNS:
        if stream.columns is not None:
            yield f"stream.columns: the format {name} does not read it, only {', '.join(WITH_COLUMNS)} do"
        if name not in BUILT_IN:
            return
    elif stream.columns is None:
        yield f"stream.columns: required by the format {name}: which column is which label, float and slot"
    else:
        yield from (f"stream.columns.{problem}" for problem in stream.columns.problems(of))
        yield from _header(stream, of)


def _header(stream: StreamConfig, of: RowLayout) -> Iterator[str]:
    if isinstance(stream.header, str) or stream.format not in WITH_HEADER or stream.columns is None:
        return
    if twice := [name for name in stream.header if stream.header.count(name) > 1]:
        yield f"stream.header: {twice[0]} is given twice"
    if lacking := [name for name in stream.columns.columns(of).fields() if name not in stream.header]:
        yield f"stream.header: it has no {', '.join(dict.fromkeys(lacking))}, which stream.columns names"


def _order(order: list[str], of: RowLayout) -> Iterator[str]:
    """Each label, float and slot must be there once; show and the weight may be."""
    wanted = [label.name for label in of.labels] + [dense.name for dense in of.dense]
    known = {"show": "show", **({of.weight: of.weight} if of.weight else {}), **{name: name for name in wanted}}
    found: list[str | int] = []
    for name in order:
        what: str | int | None = known.get(name, of.slot_number(name))
        if what is None:
            yield f"stream.feed_order: {name} is no label, float, weight or slot of the job"
        elif what in found:
            yield f"stream.feed_order: {name} is given twice"
        else:
            found.append(what)
    names = {number: name for name, number in of.names.items()}
    lacking = [n for n in wanted if n not in found] + [names.get(s, str(s)) for s in of.slots if s not in found]
    if lacking:
        yield f"stream.feed_order: it lacks {', '.join(lacking[:10])}"
