"""The gate: whether a pass's predictions are so bad that it is not trained, or its model is withheld. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from streamtrain.config import GateConfig, LabelBounds
from streamtrain.contracts.metrics import Metrics
from streamtrain.engine.counters import refuse_unknown


@dataclass(frozen=True)
class Verdict:
    """What a pass's predictions lead to. out_of_bounds, withheld: why the pass is, why its model is; None: it is not.
    trained: whether the pass is trained."""

    out_of_bounds: str | None = None
    withheld: str | None = None
    trained: bool = True


class Gate:
    """Judges passes in order. labels: those that the network's metrics are of, the first one first.

    The gate's own bounds are the first label's; those of `labels:` are each label's. Raises ConfigError for bounds of
    a label that is none of them.
    """

    def __init__(self, config: GateConfig, labels: Sequence[str]) -> None:
        self._config = config
        refuse_unknown(config.labels, labels)
        first = labels[0]
        self._bounds: list[tuple[str, str, LabelBounds]] = [(first, "stream.gate", config)]
        self._bounds += [(name, f"stream.gate.labels.{name}", bounds) for name, bounds in config.labels.items()]
        self._labels = list(labels)
        self._recent: dict[str, deque[float]] = {name: deque(maxlen=config.passes) for name in labels}
        #: Why the last pass that could be judged is out of bounds; None: it is within them. As long as it is out of
        #: bounds the model stays withheld, whatever small passes follow.
        self.last: str | None = None

    def recall(self, passes: Iterable[tuple[Sequence[tuple[str, float | None]], int, str]]) -> None:
        """Takes over the state before a restart. passes: the newest first, (predict AUCs by label, rows, what the gate
        found wrong with it or '') each; read no further than the means need. The label '' is the first one."""
        judged, count = False, 0
        within: dict[str, list[float]] = {name: [] for name in self._labels}
        for aucs, rows, reason in passes:
            if rows < self._config.min_rows:
                continue
            if not judged:
                self.last, judged = reason or None, True
            if reason:
                continue
            for name, auc in aucs:
                if auc is not None and (name or self._labels[0]) in within:
                    within[name or self._labels[0]].append(auc)
            count += 1
            if count == self._config.passes:
                break
        for name, values in within.items():
            self._recent[name].extend(reversed(values))

    def judge(self, metrics: Mapping[str, Metrics], rows: int) -> str | None:
        """Why a pass is out of bounds; None for one within them, whose AUCs count for the means from now on.

        metrics: of its predictions, by label. A metric that the rows do not define (an AUC of clicks alone or without
        any, a COPC of predictions of 0) is out of bounds, since nothing says that the model is good. A pass with too
        few rows is not judged: None.
        """
        if rows < self._config.min_rows:
            return None
        wrong = [reason for bounds in self._bounds if (reason := self._judge(metrics, *bounds)) is not None]
        self.last = "; ".join(wrong) or None
        if self.last is None:
            for name, values in metrics.items():
                if values.auc is not None:
                    self._recent[name].append(values.auc)
        return self.last

    def _judge(self, metrics: Mapping[str, Metrics], label: str, key: str, bounds: LabelBounds) -> str | None:
        values = metrics[label]
        of_label = "" if bounds is self._config else f" of {label}"
        needs_auc = bounds is self._config or bounds.min_auc is not None or bounds.max_drop is not None
        if values.auc is None and needs_auc:
            return f"its predict AUC{of_label} is not a number: all of its rows are clicks, or none is"
        if (auc := values.auc) is not None:
            if bounds.min_auc is not None and auc < bounds.min_auc:
                return f"predict AUC{of_label} {auc:.4f} is below {key}.min_auc, {bounds.min_auc:g}"
            recent = self._recent[label]
            mean = sum(recent) / len(recent) if recent else auc
            if bounds.max_drop is not None and mean - auc > bounds.max_drop:
                return (
                    f"predict AUC{of_label} {auc:.4f} is more than {key}.max_drop, {bounds.max_drop:g}, below "
                    f"{mean:.4f}, the mean of the last {len(recent)} passes"
                )
        if bounds.copc is not None:
            low, high = bounds.copc
            if values.copc is None:
                return f"its predict COPC{of_label} is not a number: the predictions' sum is 0"
            if not low <= values.copc <= high:
                return f"predict COPC{of_label} {values.copc:.4f} is not within {key}.copc, {low:g} to {high:g}"
        return None
