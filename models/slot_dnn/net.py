"""The network: an embedding a slot, summed, concatenated, fully connected layers, a sigmoid."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import paddle


class SlotDNN:
    """slot_num slots, embeddings of emb_dim (embed_w and embedx), hidden layers of layer_sizes (may be none).
    weight_std: standard deviation of the layers' first weights, by default 1 / sqrt(inputs).

    After forward(): inference_feed_vars, the embeddings; all_vars, everything that a consistency check
    compares: pooled embeddings, their concatenation, each layer's output, the prediction.
    """

    def __init__(
        self, dict_dim: int, emb_dim: int, slot_num: int, layer_sizes: Sequence[int], weight_std: float | None = None
    ) -> None:
        self._table = [dict_dim, emb_dim]
        self._width = emb_dim * slot_num
        self._layer_sizes = list(layer_sizes)
        self._weight_std = weight_std
        self.all_vars: list[Any] = []
        self.inference_feed_vars: list[Any] = []

    def forward(self, show: Any, click: Any, slots: Sequence[Any]) -> Any:
        """show, click: [batch, 1] int64; slots: LoD int64. Returns the predicted rate, [batch, 1]."""
        show_value, click_value = (paddle.cast(v, "float32") for v in (show, click))
        entry = paddle.distributed.ShowClickEntry(show_value.name, click_value.name)
        pooled = []
        for slot in slots:
            embedding = paddle.static.nn.sparse_embedding(
                input=slot,
                size=self._table,
                padding_idx=0,
                entry=entry,
                param_attr=paddle.ParamAttr(name="embedding"),
            )
            self.inference_feed_vars.append(embedding)
            pooled.append(paddle.static.nn.sequence_pool(embedding, "sum"))
        layer = paddle.concat(pooled, axis=1)
        self.all_vars = [*pooled, layer]
        width = self._width
        for number, size in enumerate([*self._layer_sizes, 1]):
            last = number == len(self._layer_sizes)
            name = "out" if last else f"fc_{number}"
            layer = paddle.static.nn.fc(
                layer,
                size,
                activation=None if last else "relu",
                weight_attr=paddle.ParamAttr(
                    name=f"{name}.w", initializer=paddle.nn.initializer.Normal(std=self._weight_std or 1.0 / width**0.5)
                ),
                bias_attr=paddle.ParamAttr(name=f"{name}.b"),
            )
            self.all_vars.append(layer)
            width = size
        predicted = paddle.nn.functional.sigmoid(paddle.clip(layer, min=-15.0, max=15.0))
        self.all_vars.append(predicted)
        return predicted
