"""SplitDone, the marker message of `<job>.splits`.

Headers of the message: `format`, 1 where there is none, 2 where rows have labels, floats or a weight, so that versions
before 0.4.0 refuse the job by name; and `schema`, the JSON of the schema that the marker was
written with, by which a version that does not know the schema finds the fields that it knows.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, Literal

from streamtrain.contracts.codec import (
    DecodeError,
    Schema,
    SchemaError,
    UnknownSchema,
    decode,
    encode,
    fingerprint_of,
)
from streamtrain.contracts.paths import check_day, check_time, quoted, source_path

SCHEMA = Schema.named("SplitDone")
FORMAT = b"1"
#: Of a job whose rows have values, see contracts.sample.
VALUES_FORMAT = b"2"

Status = Literal["data", "empty", "skipped"]


def headers(*, values: bool = False) -> dict[str, bytes]:
    """Those of each marker. values: whether the job's rows have more than slots and one label."""
    return {"format": VALUES_FORMAT if values else FORMAT, "schema": SCHEMA.text.encode()}


HEADERS = headers()


@dataclass(frozen=True)
class Range:
    """Rows of one partition. `end_offset` is the last row's offset + 1; control records and aborted rows in between
    have offsets too, so `end_offset - start_offset >= rows`."""

    partition: int
    start_offset: int
    end_offset: int
    rows: int


@dataclass(frozen=True)
class SourceFile:
    """A source file as bridged: path below the split's directory, size in bytes and SHA-256 as stored."""

    path: str
    bytes: int
    rows: int
    sha256: str


@dataclass(frozen=True)
class Marker:
    """This split is complete; its rows are exactly `ranges`. `schema`: JSON of the rows' Sample schema."""

    day: str
    time: str
    sequence: int
    revision: int
    status: Status
    topic_id: str
    ranges: tuple[Range, ...]
    rows: int
    rejected: int
    files: tuple[SourceFile, ...]
    schema: str

    def encode(self) -> bytes:
        return encode(SCHEMA, asdict(self))

    @classmethod
    def decode(cls, message: bytes, headers: Iterable[tuple[str, bytes | None]] = ()) -> Marker:
        """Fields that this version does not know are ignored. Raises UnknownSchema for a newer format, and for a schema
        that no header gives; DecodeError for a message that is cut or none of this encoding."""
        given = dict(headers)
        if (version := given.get("format") or FORMAT) not in (FORMAT, VALUES_FORMAT):
            raise UnknownSchema(f"its format is {version!r}, this version reads {FORMAT!r} and {VALUES_FORMAT!r}")
        known = {SCHEMA.fingerprint: SCHEMA}
        fingerprint = fingerprint_of(message)
        if fingerprint not in known and (text := given.get("schema")):
            known[fingerprint] = _named_by(text, fingerprint)
        record = decode(message, known, SCHEMA)
        record["ranges"] = tuple(Range(**r) for r in record["ranges"])
        record["files"] = tuple(SourceFile(**f) for f in record["files"])
        try:
            check_day(record["day"])
            check_time(record["time"])
            for file in record["files"]:
                source_path(file.path)
            _check_numbers(record)
        except ValueError as error:
            raise DecodeError(str(error)) from error
        return cls(**record)


def _check_numbers(record: dict[str, Any]) -> None:
    """Raises ValueError for a marker whose numbers contradict each other: a reader would wait for rows without end, or
    read others."""
    for key in ("sequence", "revision", "rows", "rejected"):
        if record[key] < 0:
            raise ValueError(f"its {key} is {record[key]}")
    for file in record["files"]:
        if file.bytes < 0 or file.rows < 0:
            raise ValueError(f"its file {quoted(file.path)} has {file.bytes} bytes and {file.rows} rows")
    ranges = record["ranges"]
    for r in ranges:
        if r.partition < 0 or r.start_offset < 0 or not 0 < r.rows <= r.end_offset - r.start_offset:
            raise ValueError(
                f"its range of partition {r.partition} has {r.rows} rows at the offsets {r.start_offset} to "
                f"{r.end_offset}"
            )
    if len({r.partition for r in ranges}) != len(ranges):
        raise ValueError("it has two ranges of one partition")
    if sum(r.rows for r in ranges) != record["rows"]:
        raise ValueError(f"its ranges have {sum(r.rows for r in ranges)} rows, it says {record['rows']}")


def _named_by(text: bytes, fingerprint: bytes) -> Schema:
    """The schema of a header, if it is the message's."""
    try:
        schema = Schema(text.decode())
    except SchemaError as error:
        raise UnknownSchema(f"its header `schema` is not a schema: {error}") from error
    except UnicodeDecodeError as error:
        raise UnknownSchema("its header `schema` is not UTF-8") from error
    if schema.fingerprint != fingerprint:
        raise UnknownSchema("its header `schema` is not that of the message")
    return schema
