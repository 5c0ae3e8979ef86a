"""SplitDone, the marker message of `<job>.splits`."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Literal

from streamtrain.contracts.codec import DecodeError, Schema, decode, encode
from streamtrain.contracts.paths import check_day, check_time, source_path

SCHEMA = Schema.named("SplitDone")

Status = Literal["data", "empty", "skipped"]


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
    def decode(cls, message: bytes, older: Iterable[Schema] = ()) -> Marker:
        """Raises codec.DecodeError."""
        known = {schema.fingerprint: schema for schema in (SCHEMA, *older)}
        record = decode(message, known, SCHEMA)
        record["ranges"] = tuple(Range(**r) for r in record["ranges"])
        record["files"] = tuple(SourceFile(**f) for f in record["files"])
        try:
            check_day(record["day"])
            check_time(record["time"])
            for file in record["files"]:
                source_path(file.path)
        except ValueError as error:
            raise DecodeError(str(error)) from error
        return cls(**record)
