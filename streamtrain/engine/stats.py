"""A pass's predictions, as counts. Needs no Paddle."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

BUCKETS = 4096


@dataclass(frozen=True)
class PassStats:
    """Rows by label and bucketed prediction: pos and neg, each [buckets], bucket i near i / (buckets - 1)."""

    pos: npt.NDArray[np.int64]
    neg: npt.NDArray[np.int64]

    @classmethod
    def empty(cls, buckets: int = BUCKETS) -> PassStats:
        return cls(np.zeros(buckets, np.int64), np.zeros(buckets, np.int64))

    @property
    def rows(self) -> int:
        return int(self.pos.sum() + self.neg.sum())

    @property
    def auc(self) -> float:
        """Area under the ROC curve of the bucketed predictions; rows of one bucket are ties and count
        half. nan when there are only clicks, or none."""
        clicks, others = int(self.pos.sum()), int(self.neg.sum())
        if not clicks or not others:
            return float("nan")
        below = np.cumsum(self.neg) - self.neg
        return float((self.pos * (below + self.neg / 2)).sum() / (clicks * others))
