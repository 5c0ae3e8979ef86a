"""passes.jsonl: a JSON line a pass, for people and plots. Not part of the commit: a restart drops the lines
of passes that it trains again."""

from __future__ import annotations

import base64
import os
import zlib
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO

import numpy as np
import numpy.typing as npt
import orjson

from streamtrain.checkpoint.runs import Run
from streamtrain.contracts.manifest import Manifest
from streamtrain.errors import CheckpointError
from streamtrain.schedule import PassId

NAME = "passes.jsonl"


@dataclass(frozen=True)
class PassRecord:
    """What a pass gave. seconds: the pass, of it read_seconds for loading its
    rows, predict_seconds and train_seconds. ended: seconds since 1970, its checkpoint included.
    checkpoint_parts: seconds of the checkpoint by part; those of paddle_* are Paddle's own saving.

    gate: what the AUC gate found wrong with the pass, '' if nothing; trained: whether its rows were trained; withheld:
    why its inference model is, this pass's gate or that of one before it.
    predict_histogram: rows by label and bucketed prediction, from pack(); AUCs over several passes need it.
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
    predict_histogram: str = field(default="", repr=False)

    @classmethod
    def of_manifest(cls, manifest: Manifest) -> PassRecord | None:
        """The record that the manifest of its checkpoint keeps; None when it is of an older version."""
        try:
            return cls(**manifest.metrics)
        except TypeError:
            return None

    @property
    def id(self) -> PassId:
        return PassId(self.day, self.pass_id)


def pack(pos: npt.NDArray[np.int64], neg: npt.NDArray[np.int64]) -> str:
    """Two histograms of equal length as text."""
    return base64.b64encode(zlib.compress(np.stack([pos, neg]).astype("<i8").tobytes())).decode()


def unpack(text: str) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """The inverse of pack."""
    pos, neg = np.frombuffer(zlib.decompress(base64.b64decode(text)), "<i8").reshape(2, -1)
    return pos, neg


class Journal:
    """The records of one model_save_path. read() needs nothing; roll_back() comes before append()."""

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
            self._out.write(orjson.dumps(asdict(record)) + b"\n")
        except OSError as error:
            raise CheckpointError(f"{self._path} cannot be written: {error.strerror}") from error

    def read(self) -> list[PassRecord]:
        """All records; a last line that a crash cut is left out."""
        try:
            lines = self._path.read_bytes().splitlines()
        except FileNotFoundError:
            return []
        records = []
        for line in lines:
            try:
                records.append(PassRecord(**orjson.loads(line)))
            except (orjson.JSONDecodeError, TypeError):
                continue
        return records

    def roll_back(self, newest: PassId | None, run: Run, record: PassRecord | None = None) -> None:
        """Keeps the records up to `newest`, none when it is None, in a new file.

        record: that of `newest`, in case a crash came before it was appended.
        Raises Fenced when a newer trainer has taken over the store, CheckpointError.
        """
        kept = [r for r in self.read() if newest is not None and r.id <= newest]
        if record is not None and record.id == newest and (not kept or kept[-1].id != newest):
            kept.append(record)
        run.replace(self._path, b"".join(orjson.dumps(asdict(r)) + b"\n" for r in kept))
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
