"""Lines of CSV, TSV and JSON by `stream.columns`, read once more. For the recount alone."""

from __future__ import annotations

import csv
import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import orjson
import xxhash

from streamtrain.proof.line_rules import Given, Rules, feasign_in, number_in

_MOST_OF_A_CROSS = 10_000


def header_in(line: bytes, line_format: str) -> list[str]:
    """The names of the cells. Raises ValueError for a line that is no header."""
    return _cells(line, line_format)


def record_of(line: bytes, line_format: str, header: Sequence[str]) -> Mapping[str, Any]:
    """A line's values by name. Raises ValueError."""
    if line_format == "json":
        record = orjson.loads(line)
        if type(record) is not dict:
            raise ValueError("not an object")
        return record
    return dict(zip(header, _cells(line, line_format), strict=True))


def _cells(line: bytes, line_format: str) -> list[str]:
    text = line.decode("utf-8")
    if line_format == "tsv":
        return text.split("\t")
    try:
        return list(*csv.reader([text], strict=True))
    except csv.Error as error:
        raise ValueError("not CSV") from error


def mapped(record: Mapping[str, Any], rules: Rules) -> Given:
    """A record as stream.columns maps it. Raises ValueError for one that is no row."""
    columns = rules.columns
    given = Given()
    for name, _ in rules.labels:
        given.labels[name] = _label_of(record, columns.get("labels", {}).get(name) or {"field": name})
    for name, width in rules.dense:
        of = columns.get("dense", {}).get(name) or {"field": name}
        given.dense[name] = list(_numbers_of(record, of, width))
    if rules.weight:
        (given.weight,) = _numbers_of(record, columns.get("weight") or {"field": rules.weight}, 1)
    for name, of in columns.get("fields", {}).items():
        slot = of.get("slot") or rules.by_name[name]
        given.pairs += [(feasign, slot) for feasign in _feasigns_of(record, name, of, slot)]
    return given


def _absent(value: Any) -> bool:
    return value is None or (isinstance(value, str | list) and not value)


def _label_of(record: Mapping[str, Any], of: Mapping[str, Any]) -> float:
    value = record.get(of["field"])
    if _absent(value):
        value = of.get("default")
    if value is None:
        raise ValueError("a label is missing")
    if of.get("in") is not None:
        return float(_text(value) in [str(option) for option in of["in"]])
    number = _number(value)
    return number if of.get("over") is None else float(number > of["over"])


def _numbers_of(record: Mapping[str, Any], of: Mapping[str, Any], width: int) -> Iterator[float]:
    single = isinstance(of["field"], str) or len(of["field"]) == 1
    for name in [of["field"]] if isinstance(of["field"], str) else of["field"]:
        value = record.get(name)
        if _absent(value):
            if of.get("default") is None:
                raise ValueError("a number is missing")
            yield from [of["default"]] * (width if single else 1)
        elif single and isinstance(value, list):
            yield from map(_number, value)
        elif single and of.get("split") and isinstance(value, str):
            yield from (_number(part) for part in value.split(of["split"]) if part)
        else:
            yield _number(value)


def _feasigns_of(record: Mapping[str, Any], name: str, of: Mapping[str, Any], slot: int) -> Iterator[int]:
    seed = of.get("hash_as") or slot
    if of.get("of"):
        parts = [[_text(value) for value in _values_of(record, field, of)] for field in of["of"]]
        if math.prod(len(part) for part in parts) > _MOST_OF_A_CROSS:
            raise ValueError("too large a cross")
        for texts in itertools.product(*parts):
            yield _hash("\x1f".join(texts), seed)
        return
    for value in _values_of(record, of.get("field") or name, of):
        if of.get("feasign"):
            yield feasign_in(value.encode()) if isinstance(value, str) else feasign_in(_digits(value))
        elif of.get("buckets") is not None:
            number = _number(value)
            yield _hash(str(sum(bound <= number for bound in of["buckets"])), seed)
        else:
            yield _hash(_text(value), seed)


def _digits(value: Any) -> bytes:
    if type(value) is not int:
        raise ValueError("not a feasign")
    return b"%d" % value


def _values_of(record: Mapping[str, Any], field: str, of: Mapping[str, Any]) -> list[Any]:
    value = record.get(field)
    values = value if isinstance(value, list) else [value]
    if of.get("split") and isinstance(value, str):
        values = value.split(of["split"])
    values = [each for each in values if not _absent(each)]
    return values or ([] if of.get("default") is None else [of["default"]])


def _hash(text: str, seed: int) -> int:
    return xxhash.xxh64(text.encode("utf-8"), seed=seed).intdigest() or 1


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "1" if value else "0"
    if not isinstance(value, str | int):
        raise ValueError("not text or a whole number")
    return str(value)


def _number(value: Any) -> float:
    if isinstance(value, str):
        return number_in(value)
    if not isinstance(value, int | float):
        raise ValueError("not a number")
    return value
