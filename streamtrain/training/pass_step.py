"""What one worker does with a pass: read, predict, judge, train; its rows are counted at each step."""

from __future__ import annotations

import contextlib
import logging
import math
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import numpy as np

from streamtrain.checkpoint.journal import PassRecord, pack
from streamtrain.config import JobConfig
from streamtrain.contracts import phases
from streamtrain.contracts.metrics import LabelMetrics, Metrics, global_words
from streamtrain.engine.profiling import is_on, profiled, words
from streamtrain.errors import TrainingError
from streamtrain.failpoints import failpoint
from streamtrain.feed.feed import PassData
from streamtrain.feed.passes import PassPlan
from streamtrain.training.gate import Gate, Verdict
from streamtrain.training.group_aucs import GroupAucs
from streamtrain.training.pass_dumps import PassDumps
from streamtrain.training.saving import Saver

if TYPE_CHECKING:
    from streamtrain.engine.engine import Engine

log = logging.getLogger("streamtrain.trainer")

#: PaddleRec's line: day, pass, Infer or Train, the metrics.
_GLOBAL = "Day:%s, Pass: %d, %s Global Metric: %s"


class PassStep:
    """Every worker has one and calls it at the same passes.

    saver: takes its sample of the rows; a checkpoint that it is still saving is waited for. on_phase(words) at each
    step. Raises ConfigError when dumps or GAUC that the config asks for are not possible.
    """

    def __init__(
        self,
        config: JobConfig,
        engine: Engine,
        saver: Saver,
        gate: Gate | None,
        check_newest: Callable[[], None],
        on_phase: Callable[[str], None],
    ) -> None:
        self._config = config
        self._engine = engine
        self._saver = saver
        self._gate = gate
        self._phase = on_phase
        self._dumps = PassDumps(config, engine, check_newest)
        self._groups = GroupAucs(config, engine, self._dumps)

    @property
    def has_ids(self) -> bool:
        """Whether rows have their ids in the text."""
        return self._dumps.any or self._groups.on

    @property
    def group_slot(self) -> int | None:
        """By which slot rows are grouped."""
        return self._groups.slot

    def predict_and_train(self, data: PassData) -> PassRecord:
        """Predicts the pass with the model so far, then trains on it; counts the rows at each step."""
        plan = data.plan
        log.info("pass %s: %d rows, %d of them here", plan.id, plan.rows, data.rows)
        begin = time.monotonic()
        self._phase(phases.READING)
        dataset = self._engine.read([data.file], ins_ids=self.has_ids) if data.rows else None
        try:
            if dataset is not None:
                self._check_rows(plan, "read", data.rows, dataset.rows)
            failpoint("pass.read")
            self._phase(phases.PREDICTING)
            self._engine.barrier()  # no worker trains while another still predicts
            started = time.monotonic()
            profile: dict[str, float] = {}
            with self._dumps.predict(plan) as users, self._groups.dumping(users) as dump:
                with self._profiled("predict", profile):
                    predicted = self._engine.predict(dataset, dump) if dataset is not None else self._engine.no_stats()
                self._check_rows(plan, "predicted", data.rows, predicted.rows)
                predicted = self._engine.global_stats(predicted)
                before = self._groups.add(predicted.metrics(), data, dump)
            log.info("pass %s: predict AUC %.6f", plan.id, predicted.auc)
            log.info(_GLOBAL, plan.id.day, plan.id.pass_id, "Infer", global_words(before))
            failpoint("pass.predicted")
            halfway = time.monotonic()
            verdict = self._judge(plan, before)
            train = verdict.trained
            if self._saver.is_saving:  # TRAINING, with no processor used, would count as a hang
                self._phase(phases.SAVING)
                self._saver.wait_for_tables()
            self._phase(phases.TRAINING)
            self._engine.barrier()
            with self._dumps.train(plan, plan.rows if train else 0) as dump, self._profiled("train", profile):
                trained = (
                    self._engine.train(dataset, dump) if dataset is not None and train else self._engine.no_stats()
                )
                self._check_rows(plan, "trained", data.rows if train else 0, trained.rows)
            trained = self._engine.global_stats(trained)
            log.info("pass %s: train AUC %.6f", plan.id, trained.auc)
            after = trained.metrics()
            if train:
                log.info(_GLOBAL, plan.id.day, plan.id.pass_id, "Train", global_words(after))
            end = time.monotonic()
            if profile:
                log.info("pass %s: seconds by part: %s", plan.id, words(profile))
            if self._saver.is_saving:
                self._phase(phases.SAVING)
                self._saver.finish()
            self._saver.sample_rows(plan.id, data.file, ins_ids=self.has_ids)
        finally:
            if dataset is not None:
                dataset.release()
            data.release()
        self._check_rows(plan, "predicted by all workers", plan.rows, predicted.rows)
        self._check_rows(plan, "trained by all workers", plan.rows if train else 0, trained.rows)
        failpoint("pass.trained")
        first, *others = [(name, pack(counts.pos, counts.neg)) for name, counts in predicted.labels.items()]
        return PassRecord(
            plan.id.day, plan.id.pass_id, plan.rows, _or_none(predicted.auc), _or_none(trained.auc),
            seconds=end - begin, read_seconds=started - begin, predict_seconds=halfway - started,
            train_seconds=end - halfway,
            labels={name: LabelMetrics(before[name], after[name] if train else None) for name in before},
            predict_histogram=first[1], histograms={name: packed for name, packed in others if name},
            gate=verdict.out_of_bounds or "", trained=train, withheld=verdict.withheld or "", profile=profile,
        )  # fmt: skip

    def _profiled(self, what: str, into: dict[str, float]) -> contextlib.AbstractContextManager[None]:
        return profiled(what, into) if is_on() else contextlib.nullcontext()

    def _judge(self, plan: PassPlan, metrics: Mapping[str, Metrics]) -> Verdict:
        """Worker 0 judges for all; the others learn its verdict, not its reasons."""
        config = self._config.stream.gate
        if self._gate is None or config is None:
            return Verdict()
        reason = self._gate.judge(metrics, plan.rows) if self._engine.index == 0 else None
        flags = np.array([reason is not None, self._gate.last is not None], np.int64)
        out, withhold = (bool(flag) for flag in self._engine.all_reduce_sum(flags))
        train = not out or config.train
        if reason is not None:
            log.error("pass %s is OUT OF BOUNDS: %s; it is %s", plan.id, reason, "trained" if train else "NOT TRAINED")
        return Verdict(
            (reason or "out of bounds") if out else None,
            (self._gate.last or "out of bounds") if withhold and not config.export else None,
            train,
        )

    @staticmethod
    def _check_rows(plan: PassPlan, what: str, expected: int, actual: int) -> None:
        if expected != actual:
            raise TrainingError(
                f"pass {plan.id}: {actual} rows were {what}, there are {expected}",
                remedy="Nothing of this pass was saved; a restart trains it again from the last checkpoint.",
            )


def _or_none(value: float) -> float | None:
    return None if math.isnan(value) else value
