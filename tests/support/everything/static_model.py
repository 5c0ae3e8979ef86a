"""A network that has all that a network may have: floats, three labels, a weight, named slots, a sequence whose order
counts, tables of three widths, show and click in one of them."""

from __future__ import annotations

from typing import Any

import paddle
from paddle.static import data
from paddle.static.nn import continuous_value_model, fc, sequence_conv, sequence_pool, sparse_embedding

SLOTS = {"user_id": 1, "item_id": 0, "last_items": 1, "tags": 1}  # with their lod_levels


class StaticModel:
    weight = "importance"

    def __init__(self, config: Any) -> None:
        self._hidden = int(config.get("hyper_parameters.hidden", 8))
        self._rate = float(config.get("hyper_parameters.optimizer.learning_rate", 0.01))

    def create_feeds(self, is_infer: bool = False) -> list[Any]:  # noqa: ARG002 - PaddleRec's signature
        return [
            data("price", [None, 3], "float32"),
            data("user_id", [None, 1], "int64", SLOTS["user_id"]),
            data("click", [None, 1], "int64", 1),
            data("item_id", [None, 1], "int64", SLOTS["item_id"]),
            data("like", [None, 1], "int64"),
            data("last_items", [None, 1], "int64", SLOTS["last_items"]),
            data("dwell", [None, 1], "float32"),
            data("show", [None, 1], "int64", 1),
            data("importance", [None, 1], "float32"),
            data("tags", [None, 1], "int64", SLOTS["tags"]),
            data("age", [None, 1], "float32"),
        ]

    def net(self, feeds: list[Any], is_infer: bool = False) -> dict[str, Any]:
        by_name = {feed.name: feed for feed in feeds}
        show, click, like = (paddle.cast(by_name[name], "float32") for name in ("show", "click", "like"))
        of_click = paddle.distributed.ShowClickEntry(show.name, click.name)
        of_like = paddle.distributed.ShowClickEntry(show.name, like.name)
        deep = {name: _look_up(by_name[name], "deep", 5, of_click) for name in ("user_id", "item_id", "tags")}
        wide = [_look_up(by_name[name], "wide", 3, None) for name in ("user_id", "tags")]
        liked = _look_up(by_name["user_id"], "a_liked", 2, of_like)
        shown = paddle.concat([show, click], axis=1)
        shown.stop_gradient = True
        history = continuous_value_model(_look_up(by_name["last_items"], "counted", 7, None), shown, True)
        tags = _look_up(by_name["tags"], "counted", 7, None)
        tags = continuous_value_model(sequence_pool(tags, "sum"), shown, False)
        order = sequence_conv(history, 4, filter_size=3, param_attr=_named("order.w"), bias_attr=_named("order.b"))
        layer = paddle.concat(
            [
                sequence_pool(deep["user_id"], "sum"), deep["item_id"], sequence_pool(deep["tags"], "average"),
                sequence_pool(order, "max"), tags, by_name["price"], by_name["age"], sequence_pool(liked, "sum"),
            ],
            axis=1,
        )  # fmt: skip
        hidden = _layer(layer, self._hidden, "hidden", "relu")
        hidden = paddle.concat([hidden, paddle.add_n([sequence_pool(each, "sum") for each in wide])], axis=1)
        rate, liking = (_probability(_layer(hidden, 1, name)) for name in ("click", "like"))
        seconds = _layer(hidden, 1, "dwell")
        self.inference_target_var = {"click": rate, "like": liking, "dwell": seconds}
        for predicted, label in ((rate, "click"), (liking, "like")):
            paddle.static.auc(paddle.concat([1 - predicted, predicted], axis=1), by_name[label], slide_steps=0)
        self.infer_dump_fields = [rate, liking, seconds, by_name["like"]]
        self.train_dump_fields = [liking]
        self.all_vars = [order, layer, hidden, rate, liking, seconds]
        if is_infer:
            return {}
        log_loss = paddle.nn.functional.log_loss
        loss = log_loss(rate, click) + log_loss(liking, like) + 0.1 * paddle.square(seconds - by_name["dwell"])
        self._cost = paddle.mean(loss * by_name["importance"])
        return {"cost": self._cost}

    def create_optimizer(self, strategy: Any = None) -> None:
        optimizer = paddle.optimizer.Adam(learning_rate=self._rate, lazy_mode=True)
        if strategy is not None:
            from paddle.distributed import fleet

            optimizer = fleet.distributed_optimizer(optimizer, strategy)
        optimizer.minimize(self._cost)


def _look_up(slot: Any, table: str, width: int, entry: Any) -> Any:
    return sparse_embedding(slot, [1000, width], padding_idx=0, entry=entry, param_attr=_named(table))


def _named(name: str) -> Any:
    return paddle.ParamAttr(name=name)


def _layer(x: Any, size: int, name: str, activation: str | None = None) -> Any:
    return fc(x, size, activation=activation, weight_attr=_named(f"{name}.w"), bias_attr=_named(f"{name}.b"))


def _probability(x: Any) -> Any:
    return paddle.nn.functional.sigmoid(paddle.clip(x, min=-15.0, max=15.0))
