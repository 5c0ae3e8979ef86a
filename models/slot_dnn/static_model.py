"""The model as the trainer builds it: feeds, network, metrics, optimizer."""

from __future__ import annotations

from typing import Any

import paddle
from net import SlotDNN


class StaticModel:
    """Reads hyper_parameters: slot_num, emb_dim, dict_dim, layer_sizes, weight_std, optimizer.learning_rate."""

    def __init__(self, config: Any) -> None:
        self._slot_num = int(config.get("hyper_parameters.slot_num"))
        self._learning_rate = float(config.get("hyper_parameters.optimizer.learning_rate"))
        self._net = SlotDNN(
            int(config.get("hyper_parameters.dict_dim", 1000000)),
            int(config.get("hyper_parameters.emb_dim")),
            self._slot_num,
            _sizes(config.get("hyper_parameters.layer_sizes")),
            config.get("hyper_parameters.weight_std"),
        )
        self._cost: Any = None

    def create_feeds(self, is_infer: bool = False) -> list[Any]:  # noqa: ARG002 - PaddleRec's signature
        """show, click, then the slots: a slot's name is its number, the first is 2 (1 is the label)."""
        names = ["show", "click", *(str(i) for i in range(2, self._slot_num + 2))]
        return [paddle.static.data(name, [None, 1], "int64", 1) for name in names]

    def net(self, feeds: list[Any], is_infer: bool = False) -> dict[str, Any]:
        show, click, *slots = feeds
        predicted = self._net.forward(show, click, slots)
        auc, _, auc_stats = paddle.static.auc(paddle.concat([1 - predicted, predicted], axis=1), click, slide_steps=0)
        ctr_stats = paddle.static.ctr_metric_bundle(predicted, paddle.cast(click, "float32"))
        self.metric_list = [*auc_stats, *ctr_stats]
        self.metric_types = ["int64"] * len(auc_stats) + ["float32"] * len(ctr_stats)
        self.thread_stat_var_names = [auc_stats[2].name, auc_stats[3].name, *(v.name for v in ctr_stats)]
        self.inference_feed_vars = self._net.inference_feed_vars
        self.inference_target_var = predicted
        self.all_vars = self._net.all_vars
        self.train_dump_fields = [predicted]
        self.train_dump_params: list[Any] = []
        self.infer_dump_fields = [predicted]
        if is_infer:
            return {"auc": auc}
        self._cost = paddle.mean(paddle.nn.functional.log_loss(predicted, paddle.cast(click, "float32")))
        return {"cost": self._cost, "auc": auc}

    def create_optimizer(self, strategy: Any = None) -> None:
        optimizer = paddle.optimizer.Adam(learning_rate=self._learning_rate, lazy_mode=True)
        if strategy is not None:
            from paddle.distributed import fleet

            optimizer = fleet.distributed_optimizer(optimizer, strategy)
        optimizer.minimize(self._cost)

    def infer_net(self, feeds: list[Any]) -> dict[str, Any]:
        return self.net(feeds, is_infer=True)


def _sizes(value: Any) -> list[int]:
    """Of the hidden layers; none when the key is absent."""
    sizes = [] if value is None else value
    if not isinstance(sizes, list) or not all(type(size) is int and size > 0 for size in sizes):
        raise TypeError(f"hyper_parameters.layer_sizes: a list of whole numbers is wanted, found {value!r}")
    return sizes
