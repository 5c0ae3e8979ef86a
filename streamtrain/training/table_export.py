"""One table's part in inference models: which keys a model has, which are deleted, and its text below sparse/."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from streamtrain.checkpoint import table_files
from streamtrain.checkpoint.published import PublishedModels
from streamtrain.checkpoint.runs import Run, refusals
from streamtrain.contracts.feature_text import U64
from streamtrain.contracts.inference_models import DELETED, TableKeys
from streamtrain.contracts.manifest import ModelChain, ModelRef
from streamtrain.contracts.served_network import TableShape, sparse_directory
from streamtrain.contracts.table_text import Thresholds

if TYPE_CHECKING:
    from streamtrain.engine.tables import TableFormat


@dataclass(frozen=True)
class TableContent:
    """What a model has of a table. parts: Paddle's part files with the keys. deleted: keys that are no longer in it,
    [m]."""

    parts: Sequence[Path] = ()
    deleted: U64 = field(default_factory=lambda: np.zeros(0, np.uint64))


@dataclass(frozen=True)
class Shrinks:
    """Day ends at which keys were shrunk, and keys that these have deleted, of all tables: when the newest model of the
    chain `before` was made, and now."""

    before: ModelChain
    shrinks: int
    deletions: int

    @property
    def any(self) -> bool:
        return self.before.shrinks != self.shrinks

    @property
    def any_deleted(self) -> bool:
        return self.before.deletions != self.deletions


class TableExport:
    """Of worker 0. shape: of the network's embeddings. tables: how many the network has. touched: whether all keys are
    exported, else those that pass the accessor's thresholds."""

    def __init__(
        self, table: TableFormat, shape: TableShape, tables: int, models: PublishedModels, run: Run, *, touched: bool
    ) -> None:
        self.name = table.name
        self.shape = shape
        self.directory = sparse_directory(table.name, tables)
        self._table = table
        self._models = models
        self._run = run
        configured = table.thresholds
        self.thresholds = None if touched else Thresholds(
            **{f.name: float(configured[f.name]) for f in fields(Thresholds)}
        )  # fmt: skip

    @property
    def changes_with_a_shrink(self) -> bool:
        """Whether a shrink changes what the network gets for keys that were not touched: their show and click decay."""
        return self._table.changes_untouched

    def all_of(self, checkpoint: Path) -> TableContent:
        """Every key of a staged checkpoint."""
        return TableContent(sorted((checkpoint / self._table.directory).glob("part-*.txt")))

    def changed(self, chain: ModelChain, now: Shrinks, checkpoint: Path, touched: Path) -> TableContent:
        """What an incremental model changes in the chain. touched: directory of Paddle's part files of the keys that
        were touched since its newest model. Raises CheckpointError, OSError, ValueError when models of the chain cannot
        be read."""
        parts = self.all_of(checkpoint).parts
        deleted = self._deleted(chain, now, parts)
        without_embedx = self._untouched_with_embedx(chain, now, touched)
        return TableContent([*sorted(touched.glob("part-*")), *self._write_forgotten(parts, without_embedx)], deleted)

    def write(self, directory: Path, content: TableContent, *, full: bool) -> TableKeys:
        """The table's part of a model in `directory`: a file for each part, one for all of an incremental model's."""
        sparse = directory / self.directory
        sparse.mkdir(parents=True)
        counts: dict[Path, int] = {}
        for number, part in enumerate(content.parts):
            target = sparse / f"part-{number if full else 0:05d}.txt"
            count = table_files.write_short(part, target, self._table.columns, self.thresholds, self.shape.pulls)
            counts[target] = counts.get(target, 0) + count
        for target, count in counts.items():
            table_files.write_meta(target, self.shape.embedx_dim, count, self.shape.pulls)
        if content.deleted.size:
            (sparse / DELETED).write_bytes(b"".join(b"%d\n" % key for key in content.deleted.tolist()))
        return TableKeys(sum(counts.values()), len(content.deleted))

    def _deleted(self, chain: ModelChain, now: Shrinks, parts: Sequence[Path]) -> U64:
        """Keys that the chain's models have and the checkpoint's `parts` lack.

        The models are read only when keys were deleted since the last of them.
        """
        known = np.zeros(0, np.uint64)
        if not now.any_deleted:
            return known
        for model in self._models.members(chain):
            deleted = self._of(model) / DELETED
            if deleted.exists():
                known = np.setdiff1d(known, table_files.keys_of(deleted))
            known = np.union1d(known, _all_keys(self._parts_of(model)))
        return np.setdiff1d(known, _all_keys(parts))

    def _untouched_with_embedx(self, chain: ModelChain, now: Shrinks, touched: Path) -> set[bytes]:
        """Keys that are published with an embedx and were not touched since: a shrink may have taken them below
        embedx_threshold, so that they have none any more. Empty where that is impossible."""
        keys: set[bytes] = set()
        if not now.any or not self._table.forgets_embedx:
            return keys
        for model in self._models.members(chain):
            for part in self._parts_of(model):
                table_files.follow_embedx(part, keys)
        for part in touched.glob("part-*"):
            keys.difference_update(b"%d" % key for key in table_files.keys_of(part).tolist())
        return keys

    def _write_forgotten(self, parts: Sequence[Path], keys: set[bytes]) -> list[Path]:
        """A part file of those keys that have no embedx in the checkpoint's `parts`; no file when there are no keys."""
        if not keys:
            return []
        path = self._run.empty(f"forgotten-{self._table.id}") / "part-0"
        with refusals(path, "cannot be written"), path.open("wb") as out:
            for part in parts:
                out.write(table_files.without_embedx(part, self._table.columns, keys))
        return [path]

    def _of(self, model: ModelRef) -> Path:
        return self._models.path(model) / self.directory

    def _parts_of(self, model: ModelRef) -> list[Path]:
        return sorted(self._of(model).glob("part-*.txt"))


def _all_keys(parts: Sequence[Path]) -> U64:
    return np.concatenate([np.zeros(0, np.uint64), *map(table_files.keys_of, parts)])
