"""Whether online and offline predictions agree: what a training worker dumped of a sample of rows, against the same
variables computed from the inference model as it lies on disk.

    python -m streamtrain.consistency.compare ROOT DIGEST SAMPLE DUMP TOLERANCE RESULT    RESULT: a JSON file, written

Beside SAMPLE is what its text is made of: see sample.py.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson

from streamtrain.consistency.sample import read_feeds
from streamtrain.contracts.network import NetworkFeed
from streamtrain.contracts.served_network import ServedNetwork
from streamtrain.dumps import read_dump
from streamtrain.errors import CheckpointError, DataError
from streamtrain.files import atomic_write
from streamtrain.locations import Location
from streamtrain.runtime.child_state import reporting
from streamtrain.serving import catalog
from streamtrain.serving.bundle import open_bundle
from streamtrain.serving.chain import Built, Stack
from streamtrain.serving.files import Files
from streamtrain.serving.model import evaluate
from streamtrain.serving.rows import Columns

#: Rows computed at once.
BATCH = 512


@dataclass(frozen=True)
class Difference:
    """The largest difference in a variable: absolute; relative to 1 + the online value; the row where that is."""

    variable: str
    absolute: float
    relative: float
    ins_id: str


@dataclass(frozen=True)
class Consistency:
    """model: path below the root. ok: every variable's largest relative difference is within the tolerance."""

    model: str
    digest: str
    rows: int
    tolerance: float
    variables: tuple[Difference, ...]

    @property
    def worst(self) -> Difference:
        return max(self.variables, key=lambda d: d.relative)

    @property
    def ok(self) -> bool:
        return self.worst.relative <= self.tolerance

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "ok": self.ok, "worst": asdict(self.worst)}


def compare(root: str | Path | Location, digest: str, sample: Path, dump: Path, tolerance: float) -> Consistency:
    """The model of that digest below `root`, against `dump`.

    sample: the rows as MultiSlot text with their ins_ids, beside it what sample.write_feeds() wrote. Raises
    CheckpointError when the model cannot be read, DataError when sample and dump are not of the same rows, or the dump
    has no variable that the model computes.
    """
    path, built = load(root, digest)
    manifest = built.bundle.manifest
    online = dict(read_dump(dump))
    ids, columns = read_sample(sample, read_feeds(sample), built.bundle.network)
    if missing := set(ids) ^ set(online):
        raise DataError(f"{dump} and {sample} are not of the same rows: {min(missing)} is in only one of them")
    computed = dict.fromkeys((*manifest.variables, *(target.variable for target in built.bundle.network.targets)))
    names = [name for name in computed if name in next(iter(online.values()), {})]
    if not names:
        raise DataError(f"{dump} has neither a prediction nor a variable of all_vars that {path} computes")
    worst: dict[str, Difference] = {}
    for begin in range(0, len(ids), BATCH):
        offline = evaluate(built.bundle, built.tables, columns.part(begin, begin + BATCH))
        rows = ids[begin : begin + BATCH]
        for name in names:
            difference = _difference(name, rows, [online[i][name] for i in rows], offline[name])
            if name not in worst or difference.relative > worst[name].relative:
                worst[name] = difference
    return Consistency(path, digest, len(ids), tolerance, tuple(worst[n] for n in names))


def _difference(
    name: str, rows: list[str], online: Sequence[npt.NDArray[np.float32]], offline: npt.NDArray[Any]
) -> Difference:
    """online: a row's numbers each; of a sequence they are not as many in each row. Where either value is not a number,
    the difference is infinite. Raises DataError when they are not as many as offline."""
    expected = np.concatenate(online)
    if expected.size != offline.size:
        raise DataError(f"{name} has {expected.size} numbers online, {offline.size} offline")
    absolute = np.abs(expected.astype(np.float64) - offline.ravel())
    absolute[~np.isfinite(absolute)] = np.inf
    relative = np.where(np.isinf(absolute), np.inf, absolute / (1 + np.abs(expected)))
    worst = int(np.argmax(relative))
    row = int(np.repeat(np.arange(len(rows)), [len(values) for values in online])[worst])
    return Difference(name, float(absolute.max()), float(relative[worst]), rows[row])


def load(root: str | Path | Location, digest: str) -> tuple[str, Built]:
    """The model of that digest, with those that it patches; its path below `root`. Raises CheckpointError."""
    files = Files(root)
    listing = catalog.read(files)
    for chain in catalog.chains(listing.lines if listing else ()):
        if chain[-1].digest == digest:
            stack = Stack()
            for entry in chain:
                try:
                    stack.add(open_bundle(files, entry.path, entry.digest))
                except ValueError as error:
                    raise CheckpointError(f"{files.name(entry.path)}: {error}") from error
            built = stack.built()
            assert built is not None
            return chain[-1].path, built
    raise CheckpointError(f"{files.url} lists no inference model of digest {digest}")


def read_sample(path: Path, feeds: Sequence[NetworkFeed], network: ServedNetwork) -> tuple[list[str], Columns]:
    """ins_ids, and what the served network takes, of MultiSlot text: `1 ins_id`, then a count and values a feed.

    Raises DataError naming the line, or a feed that the text does not have.
    """
    if lost := {feed.name for feed in network.dense} - {feed.name for feed in feeds}:
        raise DataError(f"{path} has no values of {min(lost)}")
    ids: list[str] = []
    rows: list[tuple[list[int], list[int], list[float]]] = []
    with path.open() as lines:
        for number, line in enumerate(lines, 1):
            try:
                tokens = line.split()
                rows.append(_values(tokens, feeds, network))
                ids.append(tokens[1])
            except (ValueError, IndexError, KeyError) as error:
                raise DataError(f"{path}, line {number} is not MultiSlot text with an ins_id: {error}") from error
    counts = np.array([len(slots) for slots, _, _ in rows], np.int64)
    slots = np.array([slot for row in rows for slot in row[0]], np.uint16)
    feasigns = np.array([feasign for row in rows for feasign in row[1]], np.uint64)
    dense = np.array([floats for _, _, floats in rows], np.float32) if network.dense else None
    return ids, Columns(counts, slots, feasigns, dense)


def _values(
    tokens: list[str], feeds: Sequence[NetworkFeed], network: ServedNetwork
) -> tuple[list[int], list[int], list[float]]:
    """(slots, feasigns, floats in the order of the served network's); feasign 0 is padding."""
    slots: list[int] = []
    feasigns: list[int] = []
    floats: dict[str, list[float]] = {}
    at = 2
    for feed in feeds:
        end = at + 1 + int(tokens[at])
        values = tokens[at + 1 : end]
        if feed.kind == "slot":
            own = [int(token) for token in values if token != "0"]
            slots += [feed.slot] * len(own)
            feasigns += own
        elif feed.kind == "dense":
            floats[feed.name] = [float(token) for token in values]
        at = end
    if at != len(tokens):
        raise ValueError(f"{len(tokens)} numbers, {at} expected")
    return slots, feasigns, [value for feed in network.dense for value in floats[feed.name]]


def main() -> None:
    root, digest, sample, dump, tolerance, result = sys.argv[1:]
    with reporting("comparison"):
        report = compare(root, digest, Path(sample), Path(dump), float(tolerance)).to_json()
        atomic_write(Path(result), orjson.dumps(report))


if __name__ == "__main__":
    main()
