"""DeepFM as the trainer builds it. Tables: embedding, of width emb_dim, and first_order, of width 1."""

from __future__ import annotations

from typing import Any

from net import logit
from parts import Inputs, Model, rate_of


class StaticModel(Model):
    def predict(self, inputs: Inputs) -> dict[str, Any]:
        first_order = inputs.pooled(self.slots, "first_order", 1)
        fields = inputs.pooled(self.slots, "embedding", self.width)
        return {"click": rate_of(logit(first_order, fields, inputs.floats, self.layer_sizes, self.weight_std))}
