"""A network of pooled slots of which some can be joined: sums, means, maxima, two tables, and those that cannot."""

from __future__ import annotations

from typing import Any

import paddle
from paddle.static import data
from paddle.static.nn import fc, sequence_pool, sparse_embedding

SLOTS = range(2, 18)
#: Of each slot's pool in the table embedding; 15 to 17 are too few to be joined.
KINDS = dict.fromkeys(range(2, 7), "sum") | dict.fromkeys(range(7, 11), "average") | dict.fromkeys(range(11, 15), "max")


class StaticModel:
    """hyper_parameters.penalty: create_optimizer() adds a pool to the loss."""

    def __init__(self, config: Any) -> None:
        self._penalty = bool(config.get("hyper_parameters.penalty", False))

    def create_feeds(self, is_infer: bool = False) -> list[Any]:  # noqa: ARG002 - PaddleRec's signature
        return [data(name, [None, 1], "int64", 1) for name in ("show", "click", *map(str, SLOTS))]

    def net(self, feeds: list[Any], is_infer: bool = False) -> dict[str, Any]:  # noqa: ARG002
        show, click, *slots = feeds
        shows, clicks = (paddle.cast(feed, "float32") for feed in (show, click))
        entry = paddle.distributed.ShowClickEntry(shows.name, clicks.name)

        def look_up(slot: Any, table: str, width: int) -> Any:
            attribute = paddle.ParamAttr(name=table)
            return sparse_embedding(slot, [1000, width], padding_idx=0, entry=entry, param_attr=attribute)

        embeddings = {n: look_up(slot, "embedding", 9) for n, slot in zip(SLOTS, slots, strict=True)}
        pools = {n: sequence_pool(embedding, KINDS.get(n, "sum")) for n, embedding in embeddings.items()}
        twice = paddle.square(pools[17])
        still = [sequence_pool(embeddings[n], "sum") for n in range(7, 11)]
        for pool in still:
            pool.stop_gradient = True
        deep = paddle.concat([*pools.values(), twice, *still], axis=1)
        wide = paddle.concat([sequence_pool(look_up(slot, "wide", 3), "sum") for slot in slots[:6]], axis=1)
        hidden = fc(deep, 8, activation="relu", weight_attr=_named("hidden.w"), bias_attr=_named("hidden.b"))
        both = paddle.concat([hidden, wide], axis=1)
        rate = fc(both, 1, weight_attr=_named("out.w"), bias_attr=_named("out.b"))
        rate = paddle.nn.functional.sigmoid(paddle.clip(rate, min=-15.0, max=15.0))
        paddle.static.auc(paddle.concat([1 - rate, rate], axis=1), click, slide_steps=0)
        self.inference_target_var = rate
        self.all_vars = [*pools.values(), deep, wide, hidden, rate]
        self.train_dump_fields = [pools[3], deep, rate]
        self._cost, self._pool = paddle.mean(paddle.nn.functional.log_loss(rate, clicks)), pools[3]
        return {"cost": self._cost}

    def create_optimizer(self, strategy: Any = None) -> None:
        if self._penalty:
            self._cost = self._cost + 0.01 * paddle.mean(paddle.square(self._pool))
        optimizer = paddle.optimizer.Adam(learning_rate=0.01, lazy_mode=True)
        if strategy is not None:
            from paddle.distributed import fleet

            optimizer = fleet.distributed_optimizer(optimizer, strategy)
        optimizer.minimize(self._cost)


def _named(name: str) -> Any:
    return paddle.ParamAttr(name=name)
