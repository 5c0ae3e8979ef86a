"""DCN-V2 as the trainer builds it. Its table is embedding, of width emb_dim."""

from __future__ import annotations

from typing import Any

from net import logit
from parts import Inputs, Model, joined, rate_of


class StaticModel(Model):
    """hyper_parameters.cross_layers, and cross_rank: of their matrices, 0 (the default): full."""

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self._crosses = int(config.get("hyper_parameters.cross_layers"))
        self._rank = int(config.get("hyper_parameters.cross_rank", 0))

    def predict(self, inputs: Inputs) -> dict[str, Any]:
        x = joined(inputs.pooled(self.slots, "embedding", self.width), inputs.floats)
        return {"click": rate_of(logit(x, self._crosses, self._rank, self.layer_sizes, self.weight_std))}
