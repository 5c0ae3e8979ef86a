"""The metrics of a pass's predictions, by label, as they are recorded and as PaddleRec words them. Pure.

docs/metrics.md has each one's formula.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import TypeAdapter, ValidationError

#: Names of the metrics that are one number each, in the order in which they are shown.
NAMES = ("auc", "gauc", "bucket_error", "mae", "rmse", "actual_ctr", "predicted_ctr", "copc", "mean_q")


@dataclass(frozen=True, kw_only=True)
class Metrics:
    """What the predictions of a pass's rows are worth. None: the rows do not define it, as no AUC without clicks.

    resolution: how far a prediction may be from the one that mae, rmse, predicted_ctr, copc and mean_q are computed
    from; 0 where the network sums them itself.
    """

    rows: int
    auc: float | None = None
    gauc: float | None = None
    bucket_error: float | None = None
    mae: float | None = None
    rmse: float | None = None
    actual_ctr: float | None = None
    predicted_ctr: float | None = None
    copc: float | None = None
    mean_q: float | None = None
    resolution: float = 0.0

    @property
    def words(self) -> str:
        """As PaddleRec logs them, its spelling included. What the rows do not define is nan."""
        words = (
            f"AUC={_text(self.auc)} BUCKET_ERROR={_text(self.bucket_error)} MAE={_text(self.mae)} "
            f"RMSE={_text(self.rmse)} Actural_CTR={_text(self.actual_ctr)} Predicted_CTR={_text(self.predicted_ctr)} "
            f"COPC={_text(self.copc)} MEAN Q_VALUE={_text(self.mean_q)} Ins number={self.rows}"
        )
        return words if self.gauc is None else f"{words} GAUC={_text(self.gauc)}"


@dataclass(frozen=True)
class LabelMetrics:
    """Of one label. predict: of the predictions before the pass was trained; train: of those on the way, None when it
    was not trained."""

    predict: Metrics
    train: Metrics | None = None


def global_words(metrics: Mapping[str, Metrics]) -> str:
    """Those of all labels in one text, as PaddleRec's `.. Global Metric` has them; a label's name comes before its
    metrics when there are several."""
    several = len(metrics) > 1
    return "; ".join(f"{name if several else ''} global {m.words}" for name, m in metrics.items())


def recorded_labels(recorded: Any) -> dict[str, LabelMetrics]:
    """The `labels` of a model's metrics, as its manifest has them; none where they are not understood, as in manifests
    before 0.4.0."""
    try:
        return _LABELS.validate_python(recorded)
    except ValidationError:
        return {}


def monitor_data(labels: Mapping[str, LabelMetrics]) -> str:
    """What PaddleRec's donefiles say of a model: the metrics of its pass's training, of its prediction where it was not
    trained."""
    return global_words({name: label.train or label.predict for name, label in labels.items()})


_LABELS = TypeAdapter(dict[str, LabelMetrics])


def _text(value: float | None) -> str:
    return "nan" if value is None else f"{value:.6f}"
