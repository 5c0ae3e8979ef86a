"""Whether online and offline predictions agree: what a training worker dumped of a sample of rows, against the same
variables computed from the inference model as it lies on disk.

    python -m streamtrain.consistency.compare ROOT DIGEST SAMPLE DUMP TOLERANCE RESULT    RESULT: a JSON file, written
"""

from __future__ import annotations

import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson

from streamtrain.dumps import read_dump
from streamtrain.errors import CheckpointError, DataError
from streamtrain.files import atomic_write
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


def compare(root: str | Path, digest: str, sample: Path, dump: Path, tolerance: float) -> Consistency:
    """The model of that digest below `root`, against `dump`.

    sample: the rows as MultiSlot text with their ins_ids. Raises CheckpointError when the model cannot be read,
    DataError when sample and dump are not of the same rows, or the dump has no variable that the model computes.
    """
    path, built = load(root, digest)
    manifest = built.bundle.manifest
    online = dict(read_dump(dump))
    ids, columns = read_sample(sample, [feed.slot for feed in manifest.feeds])
    if missing := set(ids) ^ set(online):
        raise DataError(f"{dump} and {sample} are not of the same rows: {min(missing)} is in only one of them")
    names = [n for n in manifest.variables if n in next(iter(online.values()), {})]
    if not names:
        raise DataError(f"{dump} has no variable of all_vars that {path} computes")
    worst: dict[str, Difference] = {}
    for begin in range(0, len(ids), BATCH):
        offline = evaluate(built.bundle, built.table, columns.part(begin, begin + BATCH))
        rows = ids[begin : begin + BATCH]
        for name in names:
            difference = _difference(name, rows, np.stack([online[i][name] for i in rows]), offline[name])
            if name not in worst or difference.relative > worst[name].relative:
                worst[name] = difference
    return Consistency(path, digest, len(ids), tolerance, tuple(worst[n] for n in names))


def _difference(name: str, rows: list[str], online: npt.NDArray[np.float32], offline: npt.NDArray[Any]) -> Difference:
    """Where either value is not a number, the difference is infinite."""
    absolute = np.abs(online.astype(np.float64) - offline.reshape(online.shape))
    absolute[~np.isfinite(absolute)] = np.inf
    relative = np.where(np.isinf(absolute), np.inf, absolute / (1 + np.abs(online)))
    row = int(np.argmax(relative.max(axis=1)))
    return Difference(name, float(absolute.max()), float(relative.max()), rows[row])


def load(root: str | Path, digest: str) -> tuple[str, Built]:
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


def read_sample(path: Path, slots: list[int]) -> tuple[list[str], Columns]:
    """ins_ids and features of MultiSlot text: `1 ins_id 1 show 1 click`, then a count and values a slot.

    Raises DataError naming the line.
    """
    ids: list[str] = []
    pairs: list[list[tuple[int, int]]] = []
    with path.open() as lines:
        for number, line in enumerate(lines, 1):
            try:
                tokens = line.split()
                pairs.append(_features(tokens, slots))
                ids.append(tokens[1])
            except (ValueError, IndexError) as error:
                raise DataError(f"{path}, line {number} is not MultiSlot text with an ins_id: {error}") from error
    flat = [pair for row in pairs for pair in row]
    counts = np.array([len(row) for row in pairs], np.int64)
    names = np.array([slot for slot, _ in flat], np.uint16)
    return ids, Columns(counts, names, np.array([feasign for _, feasign in flat], np.uint64))


def _features(tokens: list[str], slots: list[int]) -> list[tuple[int, int]]:
    """(slot, feasign) pairs; feasign 0 is padding."""
    pairs, at = [], 6
    for slot in slots:
        end = at + 1 + int(tokens[at])
        pairs += [(slot, int(token)) for token in tokens[at + 1 : end] if token != "0"]
        at = end
    if at != len(tokens):
        raise ValueError(f"{len(tokens)} numbers, {at} expected")
    return pairs


def main() -> None:
    root, digest, sample, dump, tolerance, result = sys.argv[1:]
    with reporting("comparison"):
        report = compare(root, digest, Path(sample), Path(dump), float(tolerance)).to_json()
        atomic_write(Path(result), orjson.dumps(report))


if __name__ == "__main__":
    main()
