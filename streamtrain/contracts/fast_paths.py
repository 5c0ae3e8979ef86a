"""Which fast paths a job takes. Each computes what the slow one does."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class FastPaths:
    """predict: the forward half of the network alone predicts, else Paddle's training program without its pushes. save:
    checkpoints are saved while the next pass is read and predicted."""

    predict: bool = True
    save: bool = False
