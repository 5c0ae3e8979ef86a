"""Which fast paths a job takes. Each computes what the slow one does; a job takes all unless its config says."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class FastPaths:
    """predict: the forward half of the network alone predicts, else Paddle's training program without its pushes."""

    predict: bool = True
