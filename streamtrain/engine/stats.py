"""A pass's predictions as counts, and the metrics that follow from them. Needs no Paddle."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from streamtrain.contracts.metrics import Metrics

BUCKETS = 4096
#: The bucket error's: the span of predictions that it may take together, and how well a span's rate must be known.
_SPAN, _KNOWN = 0.01, 0.05
#: Sums go between workers as whole numbers of this part: Paddle's reduction of floats has seven digits.
_PART = 2.0**-30
#: What a worker's sum is below; that of a larger one is not known.
_LARGEST = 2.0**27


@dataclass(frozen=True)
class Sums:
    """Over the rows: of squared errors, absolute errors, predictions, and sigmoids of predictions (PaddleRec's q)."""

    squared: float
    absolute: float
    predicted: float
    q: float

    def to_array(self) -> npt.NDArray[np.float64]:
        return np.array([self.squared, self.absolute, self.predicted, self.q], np.float64)


@dataclass(frozen=True)
class Counts:
    """Of one label: rows by label and bucketed prediction, pos and neg, each [buckets]; a prediction p is in bucket
    floor(p * (buckets - 1)). sums: None when the network does not sum them."""

    pos: npt.NDArray[np.int64]
    neg: npt.NDArray[np.int64]
    sums: Sums | None = None

    @classmethod
    def empty(cls, buckets: int = BUCKETS, *, sums: bool = False) -> Counts:
        """Of no rows."""
        return cls(np.zeros(buckets, np.int64), np.zeros(buckets, np.int64), Sums(0, 0, 0, 0) if sums else None)

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

    @property
    def bucket_error(self) -> float | None:
        """How far predicted rates are from actual ones, relative and weighted by rows, as PaddleRec's fleet metric has
        it: neighbouring buckets, at most 0.01 apart, are taken together until their rate is known to 5 %; each such
        group counts with its rows. None when no group is known so well."""
        n = len(self.pos)
        begin, rows, predicted, clicks = -1.0, 0, 0.0, 0
        error, known = 0.0, 0
        for i, (pos, neg) in enumerate(zip(self.pos.tolist(), self.neg.tolist(), strict=True)):
            rate = i / n
            if abs(rate - begin) > _SPAN:
                begin, rows, predicted, clicks = rate, 0, 0.0, 0
            rows += pos + neg
            predicted += rate * (pos + neg)
            clicks += pos
            if not predicted:
                continue
            mean = predicted / rows
            if math.sqrt((1 - mean) / (mean * rows)) < _KNOWN:
                error += abs(clicks / rows / mean - 1) * rows
                known += rows
                begin = -1.0
        return error / known if known else None

    @property
    def resolution(self) -> float:
        """How far a prediction may be from its bucket's middle."""
        return 0.5 / max(1, len(self.pos) - 1)

    def estimated(self) -> Sums:
        """The sums as if each prediction were in the middle of its bucket."""
        buckets = np.arange(len(self.pos))
        middle = np.minimum((buckets + 0.5) / max(1, len(self.pos) - 1), 1.0)
        both = self.pos + self.neg
        return Sums(
            float((self.pos * (1 - middle) ** 2 + self.neg * middle**2).sum()),
            float((self.pos * (1 - middle) + self.neg * middle).sum()),
            float((both * middle).sum()),
            float((both / (1 + np.exp(-middle))).sum()),
        )

    def metrics(self) -> Metrics:
        """All but GAUC."""
        rows = self.rows
        if not rows:
            return Metrics(rows=0)
        sums = self.sums or self.estimated()
        clicks = int(self.pos.sum())
        return Metrics(
            rows=rows,
            auc=_or_none(self.auc),
            bucket_error=self.bucket_error,
            mae=_or_none(sums.absolute / rows),
            rmse=_or_none(math.sqrt(sums.squared / rows)) if sums.squared >= 0 else None,
            actual_ctr=clicks / rows,
            predicted_ctr=_or_none(sums.predicted / rows),
            copc=_or_none(clicks / sums.predicted) if sums.predicted > 0 else None,
            mean_q=_or_none(sums.q / rows),
            resolution=0.0 if self.sums is not None else self.resolution,
        )


@dataclass(frozen=True)
class PassStats:
    """The counts by label, the first one being the one that `predict_auc` and `train_auc` are of; '' is no label."""

    labels: dict[str, Counts]

    @property
    def first(self) -> Counts:
        return next(iter(self.labels.values()))

    @property
    def rows(self) -> int:
        """A label that counts fewer is one that the network looks at in some rows only."""
        return max(counts.rows for counts in self.labels.values())

    @property
    def auc(self) -> float:
        """The first label's."""
        return self.first.auc

    def cleared(self) -> PassStats:
        """Of no rows."""
        return PassStats(
            {name: Counts.empty(len(counts.pos), sums=counts.sums is not None) for name, counts in self.labels.items()}
        )

    def metrics(self) -> dict[str, Metrics]:
        return {name: counts.metrics() for name, counts in self.labels.items() if name}

    def to_array(self) -> npt.NDArray[np.int64]:
        """All counts as whole numbers, which may be added up over workers."""
        parts = []
        for counts in self.labels.values():
            parts += [counts.pos, counts.neg]
            if counts.sums is not None:
                sums = counts.sums.to_array()
                known = bool((np.abs(sums) < _LARGEST).all())  # not when one is nan
                parts.append(np.rint((sums if known else np.zeros(4)) / _PART).astype(np.int64))
                parts.append(np.array([not known], np.int64))
        return np.concatenate(parts)

    def of_array(self, array: npt.NDArray[np.int64]) -> PassStats:
        """The counts in `array`, a sum of to_array() of stats of the same shape as these."""
        labels, begin = {}, 0
        for name, counts in self.labels.items():
            pos, neg = array[begin : begin + 2 * len(counts.pos)].reshape(2, -1)
            begin += 2 * len(counts.pos)
            both = replace(counts, pos=pos, neg=neg)
            if counts.sums is not None:
                sums = array[begin : begin + 4] * (_PART if not array[begin + 4] else np.nan)
                both = replace(both, sums=Sums(*sums.tolist()))
                begin += 5
            labels[name] = both
        return PassStats(labels)


def _or_none(value: float) -> float | None:
    return value if math.isfinite(value) else None
