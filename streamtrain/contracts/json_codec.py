"""JSON documents that are read through typed dataclasses, validated by pydantic.

A class whose documents must not have unknown keys says so: `__pydantic_config__ = ConfigDict(extra="forbid")`, which
holds for the plain dataclasses inside it too. Every other class ignores unknown keys.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any, TypeVar

import orjson
from pydantic import TypeAdapter, ValidationError

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

T = TypeVar("T")


def encode(document: DataclassInstance) -> bytes:
    """Indented, with sorted keys and a line end: the same document always gives the same bytes."""
    return orjson.dumps(asdict(document), option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS) + b"\n"


def decode(adapter: TypeAdapter[T], data: bytes, what: str, *, format: int | None = None) -> T:
    """A document as the adapter's class. what: the kind of document, for the reason.

    format: the value that the document's key `format` must have; checked first, since another format may have other
    keys. Raises ValueError saying which key is missing or wrong.
    """
    if format is not None:
        version = decode_object(data, what).get("format")
        if version != format:
            raise ValueError(f"its format is {version}, this version reads {format}")
    try:
        return adapter.validate_json(data)
    except ValidationError as error:
        raise ValueError(f"it is not {what}: {first_problem(error)}") from error


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
