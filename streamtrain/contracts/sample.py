"""Sample, the row message of `<job>.samples`, encoded and decoded in batches of columns.

It has two schemas: Sample.avsc for rows of slots and one label of 0 or 1, as every version writes them, and
SampleValues.avsc for rows with more. A job's rows are all of one of them, by its layout.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from streamtrain.contracts.codec import DecodeError, Schema, UnknownSchema, decode, encode, fingerprint_of
from streamtrain.contracts.row_layout import RowLayout

SCHEMA = Schema.named("Sample")
VALUES_SCHEMA = Schema.named("SampleValues")

U16: TypeAlias = npt.NDArray[np.uint16]
U64: TypeAlias = npt.NDArray[np.uint64]
I64: TypeAlias = npt.NDArray[np.int64]
F32: TypeAlias = npt.NDArray[np.float32]


class SampleError(ValueError):
    """A row does not decode. index: its place in the batch. unknown: this version does not know its schema."""

    def __init__(self, index: int, reason: str, *, unknown: bool = False) -> None:
        super().__init__(reason)
        self.index = index
        self.reason = reason
        self.unknown = unknown


@dataclass(frozen=True)
class SampleValues:
    """What n rows have more: labels [n, labels of the layout], dense [n, floats of the layout], weights [n]."""

    labels: F32
    dense: F32
    weights: F32


@dataclass(frozen=True)
class SampleBatch:
    """n rows as columns: labels [n], counts [n] (features a row), slots and feasigns [sum(counts)]; on request files
    [n] and lines [n].

    values: None for rows of slots and one label.
    """

    labels: I64
    counts: I64
    slots: U16
    feasigns: U64
    files: I64 | None = None
    lines: I64 | None = None
    values: SampleValues | None = None

    def __len__(self) -> int:
        return len(self.labels)


def encode_sample(label: int, file: int, line: int, slots: bytes, feasigns: bytes) -> bytes:
    """One message. slots: packed <u2, ascending; feasigns: packed <u8, as many."""
    return encode(SCHEMA, {"label": label, "file": file, "line": line, "slots": slots, "feasigns": feasigns})


def encode_values(
    label: int, file: int, line: int, slots: bytes, feasigns: bytes, labels: bytes, dense: bytes, weight: float
) -> bytes:
    """A message of VALUES_SCHEMA. labels, dense: packed <f4, as the layout has them."""
    row = {"label": label, "file": file, "line": line, "slots": slots, "feasigns": feasigns}
    return encode(VALUES_SCHEMA, {**row, "labels": labels, "dense": dense, "weight": weight})


def schema_of(layout: RowLayout) -> Schema:
    """The schema of a job's rows."""
    return VALUES_SCHEMA if layout.has_values else SCHEMA


class SampleDecoder:
    """Decodes batches; knows this version's schemas and those that markers carry.

    Rows written with another schema are resolved into this version's fields. layout: what each row must have, None for
    slots and one label.
    """

    def __init__(self, writers: Iterable[str] = (), layout: RowLayout | None = None) -> None:
        self._layout = layout if layout is not None and layout.has_values else None
        self._writers = {schema.fingerprint: schema for schema in (SCHEMA, VALUES_SCHEMA)}
        self._texts = {schema.text for schema in self._writers.values()}
        for text in writers:
            self.add(text)

    def add(self, text: str) -> None:
        """Adds a writer's schema, given as JSON. Raises codec.SchemaError for a text that is not a schema."""
        if text in self._texts:
            return
        self._texts.add(text)
        schema = Schema(text)
        self._writers.setdefault(schema.fingerprint, schema)

    def decode(self, messages: Sequence[bytes], *, places: bool = False) -> SampleBatch:
        """places: with files and lines. Raises SampleError with the index of the first row that does not decode."""
        rows = []
        wanted = self._layout
        reader = VALUES_SCHEMA if wanted is not None else SCHEMA
        for index, message in enumerate(messages):
            try:
                row = decode(message, self._writers, reader)
            except DecodeError as error:
                raise SampleError(index, str(error), unknown=isinstance(error, UnknownSchema)) from error
            if len(row["slots"]) * 4 != len(row["feasigns"]) or len(row["slots"]) % 2:
                raise SampleError(index, "slots and feasigns differ in number")
            if row["label"] not in (0, 1):
                raise SampleError(index, f"its label is {row['label']}, not 0 or 1")
            if wanted is not None:
                _check_values(index, row, wanted)
            elif fingerprint_of(message) == VALUES_SCHEMA.fingerprint:
                raise SampleError(index, "it has labels or floats that the config does not name")
            rows.append(row)
        return SampleBatch(
            labels=np.array([r["label"] for r in rows], np.int64),
            counts=np.array([len(r["slots"]) // 2 for r in rows], np.int64),
            slots=np.frombuffer(b"".join([r["slots"] for r in rows]), "<u2"),
            feasigns=np.frombuffer(b"".join([r["feasigns"] for r in rows]), "<u8"),
            files=np.array([r["file"] for r in rows], np.int64) if places else None,
            lines=np.array([r["line"] for r in rows], np.int64) if places else None,
            values=_values(rows, wanted) if wanted is not None else None,
        )


def _check_values(index: int, row: dict[str, Any], layout: RowLayout) -> None:
    """Raises SampleError unless the row has as many labels and floats as the layout, and all of them are finite."""
    for name, given, count in (
        ("labels", row["labels"], len(layout.labels)), ("floats", row["dense"], layout.dense_width),
    ):  # fmt: skip
        if len(given) != 4 * count:
            raise SampleError(index, f"it has {len(given) / 4:g} {name}, the config says {count}")
        if not np.isfinite(np.frombuffer(given, "<f4")).all():
            raise SampleError(index, f"one of its {name} is not finite")
    if not math.isfinite(row["weight"]):
        raise SampleError(index, "its weight is not finite")


def _values(rows: Sequence[dict[str, Any]], layout: RowLayout) -> SampleValues:
    labels = np.frombuffer(b"".join([r["labels"] for r in rows]), "<f4").reshape(len(rows), len(layout.labels))
    dense = np.frombuffer(b"".join([r["dense"] for r in rows]), "<f4").reshape(len(rows), layout.dense_width)
    return SampleValues(labels, dense, np.array([r["weight"] for r in rows], np.float32))
