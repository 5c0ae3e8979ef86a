"""The AUC gate: whether a pass's predictions are so bad that it is not trained, or its model not published. Pure."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable

from streamtrain.config import GateConfig


class Gate:
    """Judges passes in order."""

    def __init__(self, config: GateConfig) -> None:
        self._config = config
        self._recent: deque[float] = deque(maxlen=config.passes)
        #: What the last pass that could be judged was found to be: '' within bounds. While it is out of bounds the
        #: model stays withheld, whatever small passes follow.
        self.last = ""

    def recall(self, passes: Iterable[tuple[float | None, int]]) -> None:
        """Judges passes of before a restart, (predict AUC, rows) each, to be where it was."""
        for auc, rows in passes:
            self.judge(math.nan if auc is None else auc, rows)

    def judge(self, auc: float, rows: int) -> str:
        """'' for a pass within bounds, which is remembered; else what is wrong with it.

        auc: NaN when there is none (no clicks, no rows): within bounds.
        """
        if math.isnan(auc) or rows < self._config.min_rows:
            return ""
        self.last = self._judge(auc)
        if not self.last:
            self._recent.append(auc)
        return self.last

    def _judge(self, auc: float) -> str:
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
        return ""
