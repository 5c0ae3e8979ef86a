"""Wide & Deep as the trainer builds it. Tables: wide, of width 1, and embedding, of width emb_dim."""

from __future__ import annotations

from typing import Any

from net import logit
from parts import Inputs, Model, names, rate_of


class StaticModel(Model):
    """hyper_parameters.wide and .deep: which of the slots each side reads."""

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self._wide, self._deep = names(config, "wide"), names(config, "deep")

    def predict(self, inputs: Inputs) -> dict[str, Any]:
        wide = inputs.pooled(self._wide, "wide", 1)
        deep = inputs.pooled(self._deep, "embedding", self.width)
        return {"click": rate_of(logit(wide, deep, inputs.floats, self.layer_sizes, self.weight_std))}
