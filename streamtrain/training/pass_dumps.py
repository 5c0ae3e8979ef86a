"""Dumps of a pass's own rows: their predictions before the pass is trained, and what training computes."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from streamtrain.config import JobConfig
from streamtrain.dumps import Dump, DumpFolder
from streamtrain.engine.model_checks import no_dump_fields, predict_dump_fields
from streamtrain.feed.passes import PassPlan
from streamtrain.feed.row_ids import files_of
from streamtrain.training.dump_target import DumpTarget

if TYPE_CHECKING:
    from streamtrain.engine.engine import Engine

log = logging.getLogger("streamtrain.dumps")


class PassDumps:
    """The dumps that the config asks for; every worker has one.

    check_newest: see DumpTarget. Raises ConfigError when the model lists nothing to dump, or what cannot be dumped.
    """

    def __init__(self, config: JobConfig, engine: Engine, check_newest: Callable[[], None]) -> None:
        runner = config.runner
        self._predict: DumpTarget | None = None
        self._train: DumpTarget | None = None
        if config.stream.predict_dump_dir:
            folder = DumpFolder(config.resolve(config.stream.predict_dump_dir), "stream.predict_dump_dir")
            self._predict = DumpTarget(engine, check_newest, folder, predict_dump_fields(engine.variables))
        if runner.need_train_dump:
            fields = engine.variables("train_dump_fields")
            if not fields:
                raise no_dump_fields("runner.need_train_dump", "train_dump_fields")
            folder = DumpFolder(config.resolve(runner.train_dump_fields_dir), "runner.train_dump_fields_dir")
            params = engine.variables("train_dump_params", params=True)
            self._train = DumpTarget(engine, check_newest, folder, fields, params)

    @property
    def any(self) -> bool:
        """Whether rows need ins_ids."""
        return self._predict is not None or self._train is not None

    @property
    def predict_fields(self) -> tuple[str, ...]:
        """What predicting dumps; none when it does not."""
        return self._predict.fields if self._predict is not None else ()

    def predict(self, plan: PassPlan) -> contextlib.AbstractContextManager[Dump | None]:
        """Around predicting a pass, on every worker. None: nothing is dumped. Raises as DumpTarget.writing()."""
        return self._around(self._predict, plan, plan.rows)

    def train(self, plan: PassPlan, rows: int) -> contextlib.AbstractContextManager[Dump | None]:
        """The same around training. rows: 0 for a pass that is not trained; its dump is empty."""
        return self._around(self._train, plan, rows)

    @staticmethod
    @contextlib.contextmanager
    def _around(target: DumpTarget | None, plan: PassPlan, rows: int) -> Iterator[Dump | None]:
        if target is None:
            yield None
            return
        with target.writing(plan.id, rows, files_of(plan.markers)) as dump:
            yield dump
        if target.engine.index == 0:
            log.info("pass %s: %d rows dumped to %s", plan.id, rows, target.place(plan.id))
