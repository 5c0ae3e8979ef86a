"""Which fast paths a job takes. Each computes what the slow one does."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class FastPaths:
    """predict: the forward half of the network alone predicts, else Paddle's training program without its pushes. pool:
    the embeddings of many slots are pooled by one operator, else each slot's by its own. save: checkpoints are saved
    while the next pass is read and predicted."""

    predict: bool = True
    pool: bool = True
    save: bool = True
