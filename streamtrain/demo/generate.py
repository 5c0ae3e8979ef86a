"""A seeded generator of logs: ids by power law, a drift over days, a label that can be learned."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import numpy as np
import numpy.typing as npt
import orjson

from streamtrain.schedule import Schedule, format_day, parse_day

#: Multiplied and added so that feasigns look like hashes and no two (slot, id) share one.
_SPREAD = np.uint64(0x9E3779B97F4A7C15)
_BLOCK = 500
_POWER = 1.2
_WEIGHT = 0.15


@dataclass(frozen=True)
class GenerateSummary:
    rows: int
    splits: int
    bytes: int


def generate(
    directory: Path,
    *,
    start_day: str,
    days: int,
    split_interval: int,
    rows_per_split: int,
    slots: int = 300,
    features: int = 384,
    seed: int = 1,
    vocabulary: int = 2000,
    drift: float = 0.05,
    donefile: str = "data.done",
) -> GenerateSummary:
    """Writes directory/YYYYMMDD/HHMM/part-0 in `feasign:slot` form, each split's donefile last.

    features: a row, spread at random over `slots` slots (2 .. slots + 1). vocabulary: ids a slot.
    drift: how far the ids' weights move a day, as a share. Equal arguments give equal bytes.
    """
    end_day = format_day(parse_day(start_day) + timedelta(days=days - 1))
    schedule = Schedule(split_interval, 1, start_day, end_day)
    weights = np.random.default_rng(seed).normal(size=(slots, vocabulary)) * _WEIGHT
    moves = np.random.default_rng(seed + 1).normal(size=(slots, vocabulary)) * _WEIGHT
    size = 0
    for split in schedule.splits():
        day = split.sequence // schedule.splits_a_day
        random = np.random.default_rng([seed, split.sequence])
        folder = directory / split.path
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / "part-0").open("wb") as out:
            for start in range(0, rows_per_split, _BLOCK):
                count = min(_BLOCK, rows_per_split - start)
                size += out.write(_block(random, count, features, weights + drift * day * moves))
        (folder / donefile).touch()
    return GenerateSummary(rows_per_split * schedule.total_splits, schedule.total_splits, size)


def _block(random: np.random.Generator, rows: int, features: int, weights: npt.NDArray[np.float64]) -> bytes:
    slots, vocabulary = weights.shape
    slot = np.sort(random.integers(0, slots, (rows, features)), axis=1)
    which = np.minimum(random.zipf(_POWER, (rows, features)), vocabulary) - 1
    odds = weights[slot, which].sum(axis=1)
    labels = (random.random(rows) < 1 / (1 + np.exp(-odds))).astype(int)
    feasigns = (slot.astype(np.uint64) * np.uint64(vocabulary) + which.astype(np.uint64) + np.uint64(1)) * _SPREAD
    pairs = np.empty((rows, features * 2), np.uint64)
    pairs[:, 0::2] = feasigns
    pairs[:, 1::2] = slot + 2
    lines = []
    for label, row in zip(labels.tolist(), pairs, strict=True):
        numbers = orjson.dumps(row, option=orjson.OPT_SERIALIZE_NUMPY)[1:-1].split(b",")
        tokens = map(b"%b:%b".__mod__, zip(numbers[0::2], numbers[1::2], strict=True))
        lines.append(b"%d:1 %b\n" % (label, b" ".join(tokens)))
    return b"".join(lines)
