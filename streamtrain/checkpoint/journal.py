"""passes.jsonl: a JSON line a pass, for people and plots. Not part of the commit: a restart drops the lines
of passes that it trains again. A line's format is 1 where it has no key `format`, as this version writes it."""

from __future__ import annotations

import base64
import contextlib
import os
import zlib
from collections.abc import Collection, Iterator
from dataclasses import asdict, dataclass, field, fields
from itertools import takewhile
from pathlib import Path
from typing import IO

import numpy as np
import numpy.typing as npt
import orjson
from pydantic import TypeAdapter, ValidationError

from streamtrain.checkpoint.runs import Run
from streamtrain.contracts import json_codec
from streamtrain.contracts.json_codec import UnknownFormatError
from streamtrain.contracts.manifest import Manifest
from streamtrain.contracts.metrics import LabelMetrics
from streamtrain.errors import CheckpointError, UnknownFormat
from streamtrain.files import lines_backwards
from streamtrain.schedule import PassId

NAME = "passes.jsonl"
FORMAT = 1
#: Bytes of two unpacked histograms; those of Paddle's AUC have 4096 buckets, a model may ask for millions.
_MAX_HISTOGRAM = 16 << 20


@dataclass(frozen=True)
class PassRecord:
    """What a pass gave. seconds: the pass, of it read_seconds for loading its
    rows, predict_seconds and train_seconds; infer_dump_seconds: after it, for predicting infer_data_dir. ended: seconds
    since 1970, its checkpoint included.
    checkpoint_parts: seconds of the checkpoint by part; those of paddle_* are Paddle's own saving.

    gate: what the AUC gate found wrong with the pass, '' if nothing; trained: whether its rows were trained; withheld:
    why its inference model is, this pass's gate or that of one before it.
    labels: the metrics of each label, the first one being the one that predict_auc and train_auc are of.
    profile: worker 0's seconds of predict and train by part, with --profile.
    predict_histogram: rows by label and bucketed prediction, from pack(); AUCs over several passes need it. histograms:
    the same of labels other than the first.
    """

    day: str
    pass_id: int
    rows: int
    predict_auc: float | None
    train_auc: float | None
    seconds: float
    read_seconds: float
    predict_seconds: float
    train_seconds: float
    ended: float = 0.0
    checkpoint_seconds: float | None = None
    checkpoint_parts: dict[str, float] = field(default_factory=dict)
    gate: str = ""
    trained: bool = True
    withheld: str = ""
    labels: dict[str, LabelMetrics] = field(default_factory=dict)
    infer_dump_seconds: float | None = None
    profile: dict[str, float] = field(default_factory=dict)
    predict_histogram: str = field(default="", repr=False)
    histograms: dict[str, str] = field(default_factory=dict, repr=False)

    @classmethod
    def of_manifest(cls, manifest: Manifest) -> PassRecord | None:
        """The record that the manifest of its checkpoint keeps; None when it is of an older version."""
        try:
            return _RECORD.validate_python({k: v for k, v in manifest.metrics.items() if k in _FIELDS})
        except ValidationError:
            return None

    @property
    def id(self) -> PassId:
        return PassId(self.day, self.pass_id)


def pack(pos: npt.NDArray[np.int64], neg: npt.NDArray[np.int64]) -> str:
    """Two histograms of equal length as text."""
    return base64.b64encode(zlib.compress(np.stack([pos, neg]).astype("<i8").tobytes())).decode()


def unpack(text: str) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """The inverse of pack. Raises ValueError for text that pack() did not write."""
    try:
        unpacker = zlib.decompressobj()
        data = unpacker.decompress(base64.b64decode(text), _MAX_HISTOGRAM + 1)
        if len(data) > _MAX_HISTOGRAM or not unpacker.eof:
            raise ValueError(f"its histogram is cut, or has more than {_MAX_HISTOGRAM} bytes")
        pos, neg = np.frombuffer(data, "<i8").reshape(2, -1)
    except zlib.error as error:
        raise ValueError(f"its histogram does not unpack: {error}") from error
    return pos, neg


_RECORD = TypeAdapter(PassRecord)
_FIELDS = frozenset(f.name for f in fields(PassRecord))


def encode(record: PassRecord) -> bytes:
    """Its line, with a line end."""
    return orjson.dumps(asdict(record)) + b"\n"


def decode(line: bytes) -> PassRecord:
    """A line of passes.jsonl. Keys that this version does not know are ignored.

    Raises UnknownFormatError for a line whose `format` is a newer one, ValueError for one that is cut or damaged.
    """
    document = json_codec.decode_object(line, "a line of passes.jsonl")
    json_codec.check_format(document.get("format", FORMAT), FORMAT)
    try:
        return _RECORD.validate_python({k: v for k, v in document.items() if k in _FIELDS})
    except ValidationError as error:
        raise ValueError(json_codec.first_problem(error)) from error


class Journal:
    """The records of one model_save_path. Reading needs nothing; roll_back() comes before append().

    Lines that are cut or damaged are left out. Methods that read raise UnknownFormat for a line of a newer format, and
    Unreadable. What they read is bounded by the passes that they are asked for, not by the job's age.
    """

    def __init__(self, root: Path) -> None:
        self._path = root / NAME
        self._out: IO[bytes] | None = None

    def append(self, record: PassRecord) -> None:
        """Into the file that roll_back() made: that of a newer trainer, if there is one, is another file.

        Raises CheckpointError when there is no space.
        """
        if self._out is None:
            raise CheckpointError(f"{self._path} was not rolled back")
        try:
            self._out.write(encode(record))
        except OSError as error:
            raise CheckpointError(f"{self._path} cannot be written: {error.strerror}") from error

    def read(self) -> list[PassRecord]:
        """All records, in their order."""
        return list(self.backwards())[::-1]

    def backwards(self) -> Iterator[PassRecord]:
        """All records, the newest first, each read when it is asked for."""
        for _, record, _ in self._lines():
            if record is not None:
                yield record

    def lines_backwards(self) -> Iterator[tuple[PassRecord, bytes]]:
        """All records with their lines, the newest first."""
        for _, record, line in self._lines():
            if record is not None:
                yield record, line

    def newest(self) -> PassRecord | None:
        return next(self.backwards(), None)

    def after(self, pass_id: PassId | None) -> list[PassRecord]:
        """The records of later passes, in their order; all for None."""
        later = takewhile(lambda r: pass_id is None or r.id > pass_id, self.backwards())
        return list(later)[::-1]

    def rows_of(self, passes: Collection[PassId]) -> int:
        """Rows of passes that were not trained: no other line is decoded. 0 for a pass without a line."""
        missing, rows = set(passes), 0
        for _, line in lines_backwards(self._path):
            if not missing:
                break
            if b"false" not in line:  # of the key `trained`
                continue
            with contextlib.suppress(ValueError):
                record = decode(line)
                if record.id in missing:
                    missing.discard(record.id)
                    rows += record.rows
        return rows

    def identity(self) -> int | None:
        """Another number after each roll_back(); None while there is no file."""
        try:
            return self._path.stat().st_ino
        except OSError:
            return None

    def _lines(self) -> Iterator[tuple[int, PassRecord | None, bytes]]:
        """(offset, record or None when it is cut or damaged, text), the newest first."""
        for offset, line in lines_backwards(self._path):
            try:
                record = decode(line)
            except UnknownFormatError as error:
                raise UnknownFormat(
                    f"{self._path}, the line at byte {offset}: {error}",
                    remedy=UnknownFormat.REMEDY,
                ) from error
            except ValueError:
                yield offset, None, line
            else:
                yield offset, record, line

    def roll_back(self, newest: PassId | None, run: Run, record: PassRecord | None = None) -> None:
        """Keeps the lines up to that of `newest`, as they are, in a new file; none when it is None.

        record: that of `newest`, in case a crash came before it was appended.
        Raises Fenced when a newer trainer has taken over the store, CheckpointError.
        """
        end, last = 0, None
        for offset, kept, line in self._lines():
            if newest is not None and kept is not None and kept.id <= newest:
                end, last = offset + len(line), kept.id
                break
        more = b""
        if record is not None and record.id == newest and last != newest:
            more = encode(record)
        run.replace_with_beginning(self._path, end, more)
        self._out = self._path.open("ab", buffering=0)

    def sync(self) -> None:
        """fsyncs what was appended. Raises CheckpointError."""
        if self._out is not None:
            try:
                os.fsync(self._out.fileno())
            except OSError as error:
                raise CheckpointError(f"fsync of {self._path} failed: {error.strerror}") from error

    def close(self) -> None:
        if self._out is not None:
            self._out.close()
