"""ESMM as the trainer builds it: love is the conversion of a click, so a row without click must be without love. Its
table is embedding, of width emb_dim."""

from __future__ import annotations

from typing import Any

from net import rates
from parts import Inputs, Model, joined


class StaticModel(Model):
    labels = ("click", "love")

    def predict(self, inputs: Inputs) -> dict[str, Any]:
        x = joined(inputs.pooled(self.slots, "embedding", self.width), inputs.floats)
        click, love = rates(x, self.layer_sizes, self.weight_std)
        return {"click": click, "love": love}
