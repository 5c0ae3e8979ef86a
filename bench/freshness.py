"""How fresh the served model is, simulated.

Splits arrive, the bridge publishes them one after the other, passes are trained one after the other, checkpoints are
committed beside them, serving looks for models.

Pure, for docs/scaling.md: what it says for given costs can be held against bench/canary.py, which measures it.

python -m bench.freshness --help
"""

from __future__ import annotations

import argparse
import random
import statistics
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Costs:
    """Seconds. notice: until the bridge sees a finished split, at most. bridged: of a row. fixed, row: of a pass, and
    of each of its rows. checkpoint: from the end of a pass to its model's publication. held: what of it the next pass
    waits. refresh: between two looks of serving; load: of a model."""

    notice: float
    bridged: float
    fixed: float
    row: float
    checkpoint: float
    held: float
    refresh: float
    load: float


@dataclass(frozen=True)
class Stream:
    """splits of so many rows, one every `every` seconds; a pass has split_per_pass, a model follows each
    models_every-th pass."""

    splits: int
    every: float
    rows: int
    split_per_pass: int = 1
    models_every: int = 1


def latencies(stream: Stream, costs: Costs, seed: int = 0) -> list[float]:
    """Of each split that is served at last: seconds from its donefile to a prediction that knows it."""
    source = random.Random(seed)
    bridge = trainer = published = 0.0
    arrived: list[float] = []
    waiting: list[float] = []
    found = []
    passes = 0
    for number in range(stream.splits):
        donefile = number * stream.every
        arrived.append(donefile)
        bridge = max(bridge, donefile + source.uniform(0, costs.notice)) + stream.rows * costs.bridged
        if len(arrived) < stream.split_per_pass:
            continue
        rows = stream.rows * len(arrived)
        trainer = max(trainer, bridge) + costs.fixed + rows * costs.row
        waiting += arrived
        arrived = []
        passes += 1
        if passes % stream.models_every:
            continue
        published = max(published, trainer) + costs.checkpoint
        trainer += costs.held
        served = published + source.uniform(0, costs.refresh) + costs.load
        found += [served - since for since in waiting]
        waiting = []
    return found


def utilization(stream: Stream, costs: Costs) -> dict[str, float]:
    """Shares of the time that each part works; over 1 it falls behind without end, so the greatest is the first
    limit."""
    a_pass = stream.every * stream.split_per_pass
    trained = costs.fixed + stream.rows * stream.split_per_pass * costs.row + costs.held / stream.models_every
    return {
        "bridge": stream.rows * costs.bridged / stream.every,
        "trainer": trained / a_pass,
        "checkpoints": costs.checkpoint / (a_pass * stream.models_every),
    }


def summary(values: Sequence[float]) -> str:
    return (
        f"median {statistics.median(values):.2f} s, 99th percentile {worst_of_100(values):.2f} s, "
        f"greatest {max(values):.2f} s"
    )


def worst_of_100(values: Sequence[float]) -> float:
    """The 99th percentile; of fewer than a hundred the greatest."""
    return sorted(values)[min(len(values) - 1, int(0.99 * len(values)))]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--splits", type=int, default=1000)
    parser.add_argument("--every", type=float, required=True, help="seconds between two splits")
    parser.add_argument("--rows", type=int, required=True, help="of a split")
    parser.add_argument("--split-per-pass", type=int, default=1)
    parser.add_argument("--models-every", type=int, default=1, help="passes")
    for name, value in (
        ("notice", 0.2), ("bridged", 60e-6), ("fixed", 0.3), ("row", 400e-6), ("checkpoint", 1.0), ("held", 0.2),
        ("refresh", 1.0), ("load", 0.2),
    ):  # fmt: skip
        parser.add_argument(f"--{name}", type=float, default=value, help=f"seconds, {value:g} by default")
    given = parser.parse_args()
    stream = Stream(given.splits, given.every, given.rows, given.split_per_pass, given.models_every)
    costs = Costs(*(getattr(given, name) for name in Costs.__dataclass_fields__))
    for part, share in sorted(utilization(stream, costs).items(), key=lambda each: -each[1]):
        print(f"{part:12} {share:6.1%} of the time{', falls behind' if share > 1 else ''}")
    print(f"donefile to prediction: {summary(latencies(stream, costs))}")


if __name__ == "__main__":
    main()
