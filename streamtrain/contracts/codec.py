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


class Schema:
    """A parsed schema with its fingerprint. `text` is its JSON."""

    def __init__(self, text: str) -> None:
        self.text = json.dumps(json.loads(text), separators=(",", ":"))
        self.parsed: Any = fastavro.parse_schema(json.loads(text))
        canonical = fastavro.schema.to_parsing_canonical_form(self.parsed)
        # fastavro prints the fingerprint as the hex of its little-endian bytes
        self.fingerprint = bytes.fromhex(fastavro.schema.fingerprint(canonical, "CRC-64-AVRO"))
        self.prefix = MAGIC + self.fingerprint

    @classmethod
    def named(cls, name: str) -> Schema:
        """The schema of that name beside this module."""
        return cls(files("streamtrain.contracts").joinpath(f"{name}.avsc").read_text("utf-8"))


def encode(schema: Schema, record: dict[str, Any]) -> bytes:
    """The record as a message of that schema."""
    out = BytesIO()
    out.write(schema.prefix)
    fastavro.schemaless_writer(out, schema.parsed, record)
    return out.getvalue()


def decode(message: bytes, writers: dict[bytes, Schema], reader: Schema) -> dict[str, Any]:
    """Decodes a message written with any of `writers` (by fingerprint) into `reader`'s fields.

    Raises DecodeError for a foreign, cut or over-long message.
    """
    if message[:2] != MAGIC:
        raise DecodeError("it does not start with the Avro single-object marker")
    writer = writers.get(message[2:HEADER])
    if writer is None:
        raise DecodeError(f"its schema {message[2:HEADER].hex()} is unknown")
    body = BytesIO(message)
    body.seek(HEADER)
    try:
        record: dict[str, Any] = fastavro.schemaless_reader(
            body, writer.parsed, None if writer is reader else reader.parsed
        )
    except (EOFError, IndexError, ValueError, TypeError, KeyError, UnicodeDecodeError, OverflowError) as error:
        raise DecodeError(f"it does not decode: {error!r}") from error
    if body.tell() != len(message):
        raise DecodeError("it has bytes after its end")
    return record
