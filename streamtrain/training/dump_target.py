"""A dump of passes into one folder, on all workers: into a directory of this run, counted, renamed."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from streamtrain.dumps import Dump, DumpFolder, check_part
from streamtrain.errors import TrainingError
from streamtrain.failpoints import failpoint
from streamtrain.schedule import PassId

if TYPE_CHECKING:
    from pathlib import Path

    from streamtrain.engine.engine import Engine


@dataclass(frozen=True)
class DumpTarget:
    """Every worker has one, and calls it at the same passes.

    fields, params: what is dumped. check_newest: called on worker 0 before a change, raises when a newer run has taken
    over.
    """

    engine: Engine
    check_newest: Callable[[], None]
    folder: DumpFolder
    fields: tuple[str, ...]
    params: tuple[str, ...] = ()

    @contextlib.contextmanager
    def writing(self, pass_id: PassId, rows: int, sources: Iterable[tuple[str, str]]) -> Iterator[Dump]:
        """Around what dumps a pass. rows: of all workers. sources: see DumpFolder.publish().

        Raises TrainingError naming the directory when it lacks a line for one of the rows, DiskError.
        """
        first = self.engine.index == 0
        run = secrets.randbits(31) if first else 0
        place = (pass_id.day, pass_id.pass_id)
        if first:
            self.check_newest()
            self.folder.stage(*place, run)
        run = self.sum(run)
        dump = Dump(self.folder.staging(*place, run), self.fields, self.params)
        if not dump.directory.is_dir():
            raise TrainingError(
                f"worker {self.engine.index} does not see {dump.directory}",
                remedy=f"{self.folder.key} must be shared by all workers.",
            )
        yield dump
        rows_here = check_part(dump, self.engine.index)
        failpoint("dump.written")
        dumped = self.sum(rows_here)
        if dumped != rows:
            raise TrainingError(
                f"pass {pass_id}: {dump.directory} has {dumped} rows, there are {rows}",
                remedy=f"Is the disk of {self.folder.key} full? Nothing of this pass was saved.",
            )
        if first:
            self.check_newest()
            self.folder.publish(*place, run, sources)

    def place(self, pass_id: PassId) -> Path:
        """Where a pass's dump is once it is whole."""
        return self.folder.root / pass_id.day / str(pass_id.pass_id)

    def sum(self, value: int) -> int:
        """Over all workers."""
        return int(self.engine.all_reduce_sum(np.array([value], np.int64))[0])
