"""The Deep Interest Network as the trainer builds it. Its table is embedding, of width emb_dim: an item of the past has
the embedding that it has as the item asked for (stream.columns: hash_as)."""

from __future__ import annotations

from typing import Any

from net import interest, logit
from parts import Inputs, Model, rate_of, sizes


class StaticModel(Model):
    """hyper_parameters.item and .past: the slot that is asked for, and the sequence; attention_sizes: hidden layers of
    the weight."""

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self._item, self._past = (str(config.get(f"hyper_parameters.{name}")) for name in ("item", "past"))
        self._attention = sizes(config, "attention_sizes")

    def predict(self, inputs: Inputs) -> dict[str, Any]:
        slots = [slot for slot in self.slots if slot != self._past]
        pooled = dict(zip(slots, inputs.pooled(slots, "embedding", self.width), strict=True))
        past = inputs.sequence(self._past, "embedding", self.width)
        parts = [*pooled.values(), interest(past, pooled[self._item], self._attention)]
        return {"click": rate_of(logit(parts, inputs.floats, self.layer_sizes, self.weight_std))}
