"""The mixture as the trainer builds it, with a rate for click and one for love. Its table is embedding, of width
emb_dim."""

from __future__ import annotations

from typing import Any

from net import logits
from parts import Inputs, Model, joined, rate_of, sizes


class StaticModel(Model):
    """hyper_parameters.experts; layer_sizes are an expert's, tower_sizes a task's."""

    labels = ("click", "love")

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self._experts = int(config.get("hyper_parameters.experts"))
        self._tower = sizes(config, "tower_sizes")

    def predict(self, inputs: Inputs) -> dict[str, Any]:
        x = joined(inputs.pooled(self.slots, "embedding", self.width), inputs.floats)
        found = logits(x, self.labels, self._experts, self.layer_sizes, self._tower, self.weight_std)
        return {label: rate_of(value) for label, value in found.items()}
