"""A warm start: what a job's first pass has begun from, as job.json says it, and the counts that a recount begins with.

    .warmup/<table>.counts    a record a key, sorted by key: key uint64, show float32, click float32, unseen_days int32,
                              little-endian, nothing between them

Every checkpoint of such a job has these files, so that it can be proven when the source is long gone. Pure.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

#: Directory of the counts in a checkpoint.
COUNTS = ".warmup"
#: A key's record.
COUNT = np.dtype([("key", "<u8"), ("show", "<f4"), ("click", "<f4"), ("unseen_days", "<i4")])
#: The config's key.
KEY = "runner.warmup_model_path"
#: The same among the keys that are fixed for a job: the source's digest. A version before 0.4.0, which would count the
#: source's rows as trained twice, refuses the job by it.
FIXED = f"{KEY} (digest)"


@dataclass(frozen=True)
class Part:
    """A table or dense parameter of the source or the network. taken: `all`; `values`, without the optimizer's
    statistics; `no`. why: in words, '' where all was taken. keys: of a table, that were taken."""

    kind: Literal["table", "dense"]
    name: str
    taken: Literal["all", "values", "no"]
    why: str = ""
    keys: int = 0


@dataclass(frozen=True)
class WarmStart:
    """path: of the source, as found. source: a checkpoint of this software, or what PaddleRec's trainer has saved.
    digest: of the checkpoint's manifest, or of the names, sizes and digests of PaddleRec's files."""

    path: str
    source: Literal["checkpoint", "paddlerec"]
    digest: str
    parts: tuple[Part, ...] = ()

    @property
    def keys(self) -> int:
        return sum(part.keys for part in self.parts)

    def summary(self) -> str:
        """What was taken, in a sentence."""
        tables = [part for part in self.parts if part.kind == "table" and part.taken != "no"]
        dense = [part for part in self.parts if part.kind == "dense"]
        taken = sum(part.taken != "no" for part in dense)
        return (
            f"{self.keys:,} keys of {len(tables)} table(s), {taken} of {len(dense)} dense parameters from {self.path} "
            f"(digest {self.digest[:12]})"
        )


def counts_name(table: str) -> str:
    """The file of a table's counts, below a checkpoint."""
    return f"{COUNTS}/{table}.counts"


def encode_counts(
    keys: npt.NDArray[np.uint64], shows: npt.NDArray[np.float64], clicks: npt.NDArray[np.float64],
    unseen_days: npt.NDArray[np.int64],
) -> bytes:  # fmt: skip
    """Raises ValueError for a key that is there twice."""
    records = np.empty(len(keys), COUNT)
    records["key"], records["show"], records["click"], records["unseen_days"] = keys, shows, clicks, unseen_days
    records.sort(order="key")
    twice = np.flatnonzero(records["key"][1:] == records["key"][:-1])
    if len(twice):
        raise ValueError(f"key {records['key'][twice[0]]} is there twice")
    return records.tobytes()
