"""Avro single-object encoding (Avro 1.11 specification) of the job's two records, through fastavro.

A message is C3 01, the schema's CRC-64-AVRO fingerprint (8 bytes, little-endian), and the body.
"""

from __future__ import annotations

import json
from importlib.resources import files
from io import BytesIO
from typing import Any

import fastavro

MAGIC = b"\xc3\x01"
HEADER = 10


class DecodeError(ValueError):
    """A message has another format, or is cut."""


class UnknownSchema(DecodeError):
    """A message of this encoding, with a schema or a format that this version does not know."""


class SchemaError(ValueError):
    """A text is not an Avro schema."""


class Schema:
    """A parsed schema with its fingerprint. `text` is its JSON. Raises SchemaError for a text that is none."""

    def __init__(self, text: str) -> None:
        try:
            document = json.loads(text)
            if not isinstance(document, dict):
                raise SchemaError("it is not a record")
            self.text = json.dumps(document, separators=(",", ":"))
            self.parsed: Any = fastavro.parse_schema(document)
            _least_bytes(self.parsed, {}, ())
        except SchemaError:
            raise
        except Exception as error:  # fastavro raises what its own code stumbles over
            raise SchemaError(f"{type(error).__name__}: {error}") from error
        canonical = fastavro.schema.to_parsing_canonical_form(self.parsed)
        # fastavro prints the fingerprint as the hex of its little-endian bytes
        self.fingerprint = bytes.fromhex(fastavro.schema.fingerprint(canonical, "CRC-64-AVRO"))
        self.prefix = MAGIC + self.fingerprint

    @classmethod
    def named(cls, name: str) -> Schema:
        """The schema of that name beside this module."""
        return cls(files("streamtrain.contracts").joinpath(f"{name}.avsc").read_text("utf-8"))


_SCALARS = {"null": 0, "boolean": 1, "int": 1, "long": 1, "float": 4, "double": 8, "bytes": 1, "string": 1}


def _least_bytes(schema: Any, named: dict[str, int], above: tuple[str, ...]) -> int:
    """Bytes that a value of the schema has at least; the items of an array must have some: a few bytes could stand for
    billions of them. Raises SchemaError, also for a type that contains itself: values could be nested without end.

    named: those of the named types so far. above: the names of the types around this one.
    """
    if isinstance(schema, list):
        return 1 + min((_least_bytes(option, named, above) for option in schema), default=0)
    if isinstance(schema, str):
        if schema in above:
            raise SchemaError(f"its type {schema[:80]!r} contains itself")
        return _SCALARS[schema] if schema in _SCALARS else named[schema]
    kind = schema["type"]
    if kind in ("record", "error"):
        inside = (*above, schema["name"])
        least = sum(_least_bytes(field["type"], named, inside) for field in schema["fields"])
    elif kind == "array":
        if not _least_bytes(schema["items"], named, above):
            raise SchemaError("it has an array of values without bytes")
        return 1
    elif kind == "map":
        _least_bytes(schema["values"], named, above)
        return 1
    elif kind == "enum":
        least = 1
    elif kind == "fixed":
        least = int(schema["size"])
    else:
        return _least_bytes(kind, named, above)
    named[schema["name"]] = least
    return least


def fingerprint_of(message: bytes) -> bytes:
    """The fingerprint of a message's schema; b"" of one that is not of this encoding."""
    return message[2:HEADER] if message[:2] == MAGIC else b""


def encode(schema: Schema, record: dict[str, Any]) -> bytes:
    """The record as a message of that schema."""
    out = BytesIO()
    out.write(schema.prefix)
    fastavro.schemaless_writer(out, schema.parsed, record)
    return out.getvalue()


def decode(message: bytes, writers: dict[bytes, Schema], reader: Schema) -> dict[str, Any]:
    """Decodes a message written with any of `writers` (by fingerprint) into `reader`'s fields.

    Raises UnknownSchema for another writer's, DecodeError for a foreign, cut or over-long message.
    """
    if message[:2] != MAGIC:
        raise DecodeError("it does not start with the Avro single-object marker")
    writer = writers.get(message[2:HEADER])
    if writer is None:
        raise UnknownSchema(f"its schema {message[2:HEADER].hex()} is unknown")
    body = BytesIO(message)
    body.seek(HEADER)
    try:
        record: dict[str, Any] = fastavro.schemaless_reader(
            body, writer.parsed, None if writer is reader else reader.parsed
        )
    except fastavro.schema.SchemaParseException as error:
        raise UnknownSchema(f"its schema cannot be read as this version's: {error}") from error
    except fastavro.read.SchemaResolutionError as error:
        raise UnknownSchema(f"its schema lacks what this version needs: {error}") from error
    except Exception as error:  # fastavro raises what its own code stumbles over
        raise DecodeError(f"it does not decode: {error!r}") from error
    if body.tell() != len(message):
        raise DecodeError("it has bytes after its end")
    return record
