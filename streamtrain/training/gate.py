"""The AUC gate: whether a pass's predictions are so bad that it is not trained, or its model is withheld. Pure."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

from streamtrain.config import GateConfig


@dataclass(frozen=True)
class Verdict:
    """What a pass's predictions lead to. out_of_bounds, withheld: why the pass is, why its model is; None: it is not.
    trained: whether the pass is trained."""

    out_of_bounds: str | None = None
    withheld: str | None = None
    trained: bool = True


class Gate:
    """Judges passes in order."""

    def __init__(self, config: GateConfig) -> None:
        self._config = config
        self._recent: deque[float] = deque(maxlen=config.passes)
        #: Why the last pass that could be judged is out of bounds; None: it is within them. As long as it is out of
        #: bounds the model stays withheld, whatever small passes follow.
        self.last: str | None = None

    def recall(self, passes: Iterable[tuple[float | None, int, str]]) -> None:
        """Takes over the state before a restart. passes: the newest first, (predict AUC, rows, what the gate found
        wrong with it or '') each; read no further than the mean needs."""
        judged = False
        within: list[float] = []
        for auc, rows, reason in passes:
            if rows < self._config.min_rows:
                continue
            if not judged:
                self.last, judged = reason or None, True
            if not reason and auc is not None:
                within.append(auc)
                if len(within) == self._config.passes:
                    break
        self._recent.extend(reversed(within))

    def judge(self, auc: float, rows: int) -> str | None:
        """Why a pass is out of bounds; None for one within them, whose AUC counts for the mean from now on.

        auc: NaN for a pass of clicks alone or without any, and for predictions that are no numbers: out of bounds,
        since nothing says that the model is good. A pass with too few rows is not judged: None.
        """
        if rows < self._config.min_rows:
            return None
        self.last = self._judge(auc)
        if self.last is None:
            self._recent.append(auc)
        return self.last

    def _judge(self, auc: float) -> str | None:
        if math.isnan(auc):
            return "its predict AUC is not a number: all of its rows are clicks, or none is"
        least = self._config.min_auc
        if least is not None and auc < least:
            return f"predict AUC {auc:.4f} is below stream.gate.min_auc, {least:g}"
        drop = self._config.max_drop
        if drop is not None and self._recent:
            mean = sum(self._recent) / len(self._recent)
            if mean - auc > drop:
                return (
                    f"predict AUC {auc:.4f} is more than stream.gate.max_drop, {drop:g}, below {mean:.4f}, the mean of "
                    f"the last {len(self._recent)} passes"
                )
        return None
