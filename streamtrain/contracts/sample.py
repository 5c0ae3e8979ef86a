"""Sample, the row message of `<job>.samples`, encoded and decoded in batches of columns."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from streamtrain.contracts.codec import DecodeError, Schema, decode, encode

SCHEMA = Schema.named("Sample")

U16: TypeAlias = npt.NDArray[np.uint16]
U64: TypeAlias = npt.NDArray[np.uint64]
I64: TypeAlias = npt.NDArray[np.int64]


class SampleError(ValueError):
    """A row does not decode. `index`: its place in the batch."""

    def __init__(self, index: int, reason: str) -> None:
        super().__init__(reason)
        self.index = index
        self.reason = reason


@dataclass(frozen=True)
class SampleBatch:
    """n rows as columns: labels [n], counts [n] (features a row), slots and feasigns [sum(counts)]; on request files
    [n] and lines [n]."""

    labels: I64
    counts: I64
    slots: U16
    feasigns: U64
    files: I64 | None = None
    lines: I64 | None = None

    def __len__(self) -> int:
        return len(self.labels)


def encode_sample(label: int, file: int, line: int, slots: bytes, feasigns: bytes) -> bytes:
    """One message. slots: packed <u2, ascending; feasigns: packed <u8, as many."""
    return encode(SCHEMA, {"label": label, "file": file, "line": line, "slots": slots, "feasigns": feasigns})


class SampleDecoder:
    """Decodes batches; knows this version's schema and those that markers carry.

    Rows written with another schema are resolved into this version's fields.
    """

    def __init__(self, writers: Iterable[str] = ()) -> None:
        self._writers = {SCHEMA.fingerprint: SCHEMA}
        self._texts = {SCHEMA.text}
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
        for index, message in enumerate(messages):
            try:
                row = decode(message, self._writers, SCHEMA)
            except DecodeError as error:
                raise SampleError(index, str(error)) from error
            if len(row["slots"]) * 4 != len(row["feasigns"]) or len(row["slots"]) % 2:
                raise SampleError(index, "slots and feasigns differ in number")
            if row["label"] not in (0, 1):
                raise SampleError(index, f"its label is {row['label']}, not 0 or 1")
            rows.append(row)
        return SampleBatch(
            labels=np.array([r["label"] for r in rows], np.int64),
            counts=np.array([len(r["slots"]) // 2 for r in rows], np.int64),
            slots=np.frombuffer(b"".join([r["slots"] for r in rows]), "<u2"),
            feasigns=np.frombuffer(b"".join([r["feasigns"] for r in rows]), "<u8"),
            files=np.array([r["file"] for r in rows], np.int64) if places else None,
            lines=np.array([r["line"] for r in rows], np.int64) if places else None,
        )
