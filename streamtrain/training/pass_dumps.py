"""Dumps of a pass's predictions and training, on all workers: into a directory of this run, counted, renamed."""

from __future__ import annotations

import contextlib
import logging
import secrets
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import numpy as np

from streamtrain.config import JobConfig
from streamtrain.dumps import Dump, DumpFolder, check_part
from streamtrain.engine.model_checks import no_dump_fields
from streamtrain.errors import TrainingError
from streamtrain.failpoints import failpoint
from streamtrain.feed.passes import PassPlan
from streamtrain.feed.row_ids import files_of

if TYPE_CHECKING:
    from streamtrain.engine.engine import Engine

log = logging.getLogger("streamtrain.dumps")


class PassDumps:
    """The dumps that the config asks for; every worker has one.

    check_newest: called on worker 0 before a change, raises when a newer run has taken over. Raises ConfigError when
    the model lists nothing to dump, or what cannot be dumped.
    """

    def __init__(self, config: JobConfig, engine: Engine, check_newest: Callable[[], None]) -> None:
        runner = config.runner
        self._engine = engine
        self._check_newest = check_newest
        self._infer: _Kind | None = None
        self._train: _Kind | None = None
        if runner.need_infer_dump:
            folder = DumpFolder(config.resolve(runner.infer_dump_fields_dir), "runner.infer_dump_fields_dir")
            self._infer = _Kind("infer", folder, engine.variables("infer_dump_fields"), ())
        if runner.need_train_dump:
            folder = DumpFolder(config.resolve(runner.train_dump_fields_dir), "runner.train_dump_fields_dir")
            params = engine.variables("train_dump_params", params=True)
            self._train = _Kind("train", folder, engine.variables("train_dump_fields"), params)

    @property
    def any(self) -> bool:
        """Whether rows need ins_ids."""
        return self._infer is not None or self._train is not None

    @property
    def infer_fields(self) -> tuple[str, ...]:
        """What predicting dumps; none when it does not."""
        return self._infer.fields if self._infer is not None else ()

    def infer(self, plan: PassPlan) -> contextlib.AbstractContextManager[Dump | None]:
        """Around predicting a pass, on every worker. None: nothing is dumped.

        Raises TrainingError naming the directory when it lacks a line for one of the pass's rows, DiskError.
        """
        return self._around(self._infer, plan, plan.rows)

    def train(self, plan: PassPlan, rows: int) -> contextlib.AbstractContextManager[Dump | None]:
        """The same around training. rows: 0 for a pass that is not trained; its dump is empty."""
        return self._around(self._train, plan, rows)

    @contextlib.contextmanager
    def _around(self, kind: _Kind | None, plan: PassPlan, rows: int) -> Iterator[Dump | None]:
        if kind is None:
            yield None
            return
        first = self._engine.index == 0
        run = secrets.randbits(31) if first else 0
        place = (plan.id.day, plan.id.pass_id)
        if first:
            self._check_newest()
            kind.folder.stage(*place, run)
        run = self._sum(run)
        dump = Dump(kind.folder.staging(*place, run), kind.fields, kind.params)
        if not dump.directory.is_dir():
            raise TrainingError(
                f"worker {self._engine.index} does not see {dump.directory}",
                remedy=f"{kind.folder.key} must be shared by all workers.",
            )
        yield dump
        rows_here = check_part(dump, self._engine.index)
        failpoint("dump.written")
        dumped = self._sum(rows_here)
        if dumped != rows:
            raise TrainingError(
                f"pass {plan.id}: {dump.directory} has {dumped} rows, the pass has {rows}",
                remedy=f"Is the disk of {kind.folder.key} full? Nothing of this pass was saved.",
            )
        if first:
            self._check_newest()
            path = kind.folder.publish(*place, run, files_of(plan.markers))
            log.info("pass %s: %d rows dumped to %s", plan.id, rows, path)

    def _sum(self, value: int) -> int:
        return int(self._engine.all_reduce_sum(np.array([value], np.int64))[0])


class _Kind:
    """One of the two dumps of a pass."""

    def __init__(self, name: str, folder: DumpFolder, fields: tuple[str, ...], params: tuple[str, ...]) -> None:
        self.folder = folder
        self.fields = fields
        self.params = params
        if not fields:
            raise no_dump_fields(name)
