"""JSON documents that are read through typed dataclasses, validated by pydantic.

The rule of all of them, docs/formats.md: keys that this version does not know are ignored, since a newer version may
add some; a change of a key's meaning raises the document's `format`, and an unknown format is refused.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, TypeVar

import orjson
from pydantic import TypeAdapter, ValidationError

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

T = TypeVar("T")


class UnknownFormatError(ValueError):
    """The document is of a format that this version does not know: it is not damaged, a newer version wrote it."""


def check_format(version: object, known: int) -> None:
    """Raises UnknownFormatError when the document's `format` is not the one that this version reads."""
    if version != known or isinstance(version, bool):
        raise UnknownFormatError(f"its format is {version!r}, this version reads {known}: a newer version wrote it")


def check_keys(document: Mapping[str, object], known: Collection[str]) -> None:
    """Tells a newer version's document from a damaged one: newer versions add keys and leave out none, a flipped bit in
    a key's name does both. Raises ValueError."""
    unknown, missing = sorted(document.keys() - set(known)), sorted(set(known) - document.keys())
    if unknown and missing:
        raise ValueError(f"it has the key {unknown[0]!r}, and lacks {missing[0]!r}")


def encode(document: DataclassInstance, *, without: Collection[str] = ()) -> bytes:
    """Indented, with sorted keys and a line end: the same document always gives the same bytes. without: keys that are
    left out."""
    values = {key: value for key, value in asdict(document).items() if key not in without}
    return orjson.dumps(values, option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS) + b"\n"


def decode(adapter: TypeAdapter[T], data: bytes, what: str, *, format: int | None = None) -> T:
    """A document as the adapter's class. what: the kind of document, for the reason.

    format: the value that the document's key `format` must have; checked first, since another format may have other
    keys. Raises UnknownFormatError for another one, ValueError saying which key is missing or wrong.
    """
    if format is not None:
        document = decode_object(data, what)
        if "format" not in document:
            raise ValueError(f"it is not {what}: it has no key format")
        check_format(document["format"], format)
    try:
        if problem := given_twice(data):
            raise ValueError(f"it is not {what}: {problem}")
        return adapter.validate_json(data)
    except ValidationError as error:
        raise ValueError(f"it is not {what}: {first_problem(error)}") from error


def given_twice(data: bytes) -> str:
    """What is wrong with a document that gives a key twice: its readers take one value each, and not the same one. ''
    for one that does not."""
    twice: list[str] = []

    def pairs(found: list[tuple[str, Any]]) -> dict[str, Any]:
        document = dict(found)
        if len(document) < len(found) and not twice:
            keys = [key for key, _ in found]
            twice.append(next(key for key in keys if keys.count(key) > 1))
        return document

    try:
        json.loads(data, object_pairs_hook=pairs)
    except (ValueError, RecursionError):
        return ""  # pydantic says what is wrong
    return f"the key {twice[0][:80]!r} is given twice" if twice else ""


def decode_object(data: bytes, what: str) -> dict[str, Any]:
    """The JSON object as it is. Raises ValueError when the data is not one."""
    try:
        document = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise ValueError(f"it is not {what}: {error}") from error
    if not isinstance(document, dict):
        raise ValueError(f"it is not {what}: its JSON is not an object")
    return document


def first_problem(error: ValidationError) -> str:
    """`key.key: what is wrong with it`, of the first of the errors."""
    first = error.errors()[0]
    key = ".".join(map(str, first["loc"]))
    reason = str(first["msg"]).removeprefix("Value error, ")  # pydantic's words before those of a validator of ours
    return f"{key}: {reason}" if key else reason
