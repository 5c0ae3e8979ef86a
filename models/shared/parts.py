"""What the models beside slot_dnn have in common: feeds by the config's names, look-ups, layers, losses and metrics.

Each model's folder has a link to this file, so that it is a whole model directory (`cp -rL` copies one).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import paddle
from paddle.nn.functional import log_loss, sigmoid
from paddle.static.nn import fc, sequence_pool, sparse_embedding

#: Of every logit: the logarithm of the loss stays finite.
_BOUND = 15.0


class Inputs:
    """A batch's feeds by name, and how they are looked up. floats: [rows, n], or None where the model reads none."""

    def __init__(self, feeds: Sequence[Any], floats: str | None) -> None:
        self._feeds = {feed.name: feed for feed in feeds}
        self.floats = None if floats is None else self._feeds[floats]
        show, click = (paddle.cast(self._feeds[name], "float32") for name in ("show", "click"))
        self._entry = paddle.distributed.ShowClickEntry(show.name, click.name)

    def sequence(self, slot: str, table: str, width: int) -> Any:
        """An embedding of each feasign, [feasigns, width]; Paddle's LoD says whose row each is."""
        return sparse_embedding(
            self._feeds[slot], [1_000_000, width], padding_idx=0, entry=self._entry,
            param_attr=paddle.ParamAttr(name=table),
        )  # fmt: skip

    def pooled(self, slots: Sequence[str], table: str, width: int) -> list[Any]:
        """The sum of each slot's embeddings, [rows, width] a slot."""
        return [sequence_pool(self.sequence(slot, table, width), "sum") for slot in slots]

    def label(self, name: str) -> Any:
        return self._feeds[name]


class Model:
    """What a StaticModel is made of; its subclass has predict(), and `labels` where it has more than one.

    hyper_parameters: slots, a list of names; optimizer.learning_rate; and where a model has them: emb_dim, the width of
    an embedding; floats, the width of the feed of floats, which is called floats; layer_sizes, of hidden layers;
    weight_std, the standard deviation of their first weights, by default 1 / sqrt(inputs).
    """

    labels: tuple[str, ...] = ("click",)

    def __init__(self, config: Any) -> None:
        self.slots = names(config, "slots")
        self.width = int(config.get("hyper_parameters.emb_dim", 9))
        self.float_count = int(config.get("hyper_parameters.floats", 0))
        self.layer_sizes = sizes(config, "layer_sizes")
        self.weight_std = config.get("hyper_parameters.weight_std")
        self._learning_rate = float(config.get("hyper_parameters.optimizer.learning_rate"))

    def predict(self, inputs: Inputs) -> dict[str, Any]:
        """Predicted rates by label, [rows, 1] each."""
        raise NotImplementedError

    def create_feeds(self, is_infer: bool = False) -> list[Any]:  # noqa: ARG002 - PaddleRec's signature
        """show, the labels, the floats, the slots."""
        feeds = [paddle.static.data(name, [None, 1], "int64", 1) for name in ("show", *self.labels)]
        if self.float_count:
            feeds.append(paddle.static.data("floats", [None, self.float_count], "float32"))
        return feeds + [paddle.static.data(slot, [None, 1], "int64", 1) for slot in self.slots]

    def net(self, feeds: list[Any], is_infer: bool = False) -> dict[str, Any]:
        inputs = Inputs(feeds, "floats" if self.float_count else None)
        rates = self.predict(inputs)
        self.inference_target_var = dict(rates)
        self.all_vars = self.infer_dump_fields = list(rates.values())
        self.metric_list: list[Any] = []
        self.thread_stat_var_names: list[str] = []
        losses = []
        for name, rate in rates.items():
            label = inputs.label(name)
            number = paddle.cast(label, "float32")
            _, _, auc = paddle.static.auc(paddle.concat([1 - rate, rate], axis=1), label, slide_steps=0)
            sums = paddle.static.ctr_metric_bundle(rate, number)
            self.metric_list += [*auc, *sums]
            self.thread_stat_var_names += [v.name for v in (auc[2], auc[3], *sums)]
            losses.append(paddle.mean(log_loss(rate, number)))
        if is_infer:
            return {}
        self._cost = paddle.add_n(losses)
        return {"cost": self._cost}

    def create_optimizer(self, strategy: Any = None) -> None:
        optimizer = paddle.optimizer.Adam(learning_rate=self._learning_rate, lazy_mode=True)
        if strategy is not None:
            from paddle.distributed import fleet

            optimizer = fleet.distributed_optimizer(optimizer, strategy)
        optimizer.minimize(self._cost)

    def infer_net(self, feeds: list[Any]) -> dict[str, Any]:
        return self.net(feeds, is_infer=True)


def layers(x: Any, hidden: Sequence[int], name: str, std: float | None = None, activation: str = "relu") -> Any:
    """Fully connected layers of these sizes over [rows, inputs], called `name`_0 and so on."""
    for number, size in enumerate(hidden):
        x = linear(x, size, f"{name}_{number}", std, activation)
    return x


def linear(x: Any, size: int, name: str, std: float | None = None, activation: str | None = None) -> Any:
    """One layer: its parameters are called `name`.w and `name`.b."""
    first = paddle.nn.initializer.Normal(std=std or 1.0 / int(x.shape[-1]) ** 0.5)
    return fc(
        x, size, activation=activation, weight_attr=paddle.ParamAttr(name=f"{name}.w", initializer=first),
        bias_attr=paddle.ParamAttr(name=f"{name}.b"),
    )  # fmt: skip


def rate_of(logit: Any) -> Any:
    """A probability, [rows, 1]."""
    return sigmoid(paddle.clip(logit, min=-_BOUND, max=_BOUND))


def joined(parts: Sequence[Any], floats: Any = None) -> Any:
    """[rows, all their widths]."""
    return paddle.concat([*parts, *([] if floats is None else [floats])], axis=1)


def names(config: Mapping[str, Any], key: str) -> list[str]:
    """hyper_parameters.`key`, a list of slots."""
    return _list(config, key, str)


def sizes(config: Mapping[str, Any], key: str) -> list[int]:
    """hyper_parameters.`key`, a list of the sizes of hidden layers; none when it is absent."""
    return _list(config, key, int)


def _list(config: Mapping[str, Any], key: str, kind: type) -> list[Any]:
    """Empty when the key is absent."""
    value = config.get(f"hyper_parameters.{key}")
    found = [] if value is None else value
    if not isinstance(found, list) or not all(type(item) is kind for item in found):
        raise TypeError(f"hyper_parameters.{key}: a list of {kind.__name__} is wanted, found {value!r}")
    return found
