"""GAUC of a pass: the predictions are dumped as text, since Paddle gives them in no other way, and joined over workers.

A row's place in the dump is its place in the pass's text.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from streamtrain.config import JobConfig
from streamtrain.contracts.metrics import Metrics
from streamtrain.dumps import Dump, read_column
from streamtrain.engine.counters import grouped_predictions
from streamtrain.engine.group_auc import group_auc
from streamtrain.errors import TrainingError
from streamtrain.feed.feed import PassData
from streamtrain.feed.groups import joined
from streamtrain.feed.spool import Spool
from streamtrain.training.pass_dumps import PassDumps

if TYPE_CHECKING:
    from streamtrain.engine.engine import Engine


class GroupAucs:
    """Every worker has one and calls it at the same passes.

    Raises ConfigError when the network has no prediction that GAUC can be computed of.
    """

    def __init__(self, config: JobConfig, engine: Engine, dumps: PassDumps) -> None:
        self.slot = config.group_slot
        self._engine = engine
        self._labels = list(config.stream.labels)
        self._fields: dict[str, str] = {}
        if self.slot is None:
            return
        self._fields = grouped_predictions(engine.predictions, self._labels, dumps.predict_fields)
        self._spool = Spool(config.spool_dir)

    @property
    def on(self) -> bool:
        """Whether rows need ins_ids, and their groups."""
        return bool(self._fields)

    @contextlib.contextmanager
    def dumping(self, dump: Dump | None) -> Iterator[Dump | None]:
        """Around predicting and metrics(). dump: that of the user; it serves for both."""
        if dump is not None or not self.on:
            yield dump
            return
        directory = self._spool.empty("predictions")
        yield Dump(directory, tuple(dict.fromkeys(self._fields.values())))
        shutil.rmtree(directory, ignore_errors=True)

    def add(self, metrics: Mapping[str, Metrics], data: PassData, dump: Dump | None) -> dict[str, Metrics]:
        """The metrics with GAUC. dump: what this worker has dumped while it predicted."""
        if not self.on or dump is None or not data.plan.rows:
            return dict(metrics)
        rows = data.groups or joined([], len(self._labels))
        begin = sum(data.plan.rows_of(worker, self._engine.workers) for worker in range(self._engine.index))
        columns = [rows.groups.view(np.int64)]
        for name, field in self._fields.items():
            predicted = read_column(dump, self._engine.index, field) if len(rows) else np.zeros(0, np.float32)
            if len(predicted) != len(rows):
                raise TrainingError(
                    f"pass {data.plan.id}: {len(predicted)} predictions were dumped of {len(rows)} rows"
                )
            clicked = rows.labels[:, self._labels.index(name)]
            columns.append(predicted.view(np.int32).astype(np.int64) * 2 + clicked)
        mine = np.zeros((len(columns), data.plan.rows), np.int64)
        mine[:, begin : begin + len(rows)] = np.stack(columns)
        whole = self._engine.all_reduce_sum(mine)
        found = dict(metrics)
        for name, column in zip(self._fields, whole[1:], strict=True):
            predicted = (column >> 1).astype(np.int32).view(np.float32)
            value = group_auc(whole[0].view(np.uint64), (column & 1).astype(bool), predicted)
            found[name] = replace(metrics[name], gauc=value)
        return found
