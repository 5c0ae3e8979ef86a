"""Builds networks, and prints what the engine finds of their metrics, a JSON object by network."""

import json
import os

os.environ.update({"FLAGS_enable_pir_api": "0"})

import paddle

from streamtrain.engine.counters import find_counters
from streamtrain.engine.trace import Trace

paddle.enable_static()


def auc(p: object, label: object) -> list[object]:
    return paddle.static.auc(paddle.concat([1 - p, p], axis=1), label, slide_steps=0)[2]


def feed(name: str, kind: str = "int64") -> object:
    return paddle.static.data(name, [None, 1], kind, 1 if kind == "int64" else 0)


def two_labels() -> list[object]:
    """ESMM's: an AUC of each label, a bundle of the second alone, which is of a product; a third AUC of the first."""
    click, buy = feed("click"), feed("buy", "float32")
    p = paddle.nn.functional.sigmoid(paddle.static.nn.fc(feed("x", "float32"), 1))
    q = p * p
    first, second = auc(p, click), auc(q, paddle.cast(paddle.reshape(buy, [-1, 1]), "int64"))
    bundle = paddle.static.ctr_metric_bundle(q, buy)
    again = auc(paddle.clip(p, 0.1, 0.9), click)
    return [*first, *second, *bundle, *again]


def one_bundle_of_another_prediction() -> list[object]:
    """Its sums are not of the AUC's prediction."""
    click = feed("click")
    p = paddle.nn.functional.sigmoid(paddle.static.nn.fc(feed("x", "float32"), 1))
    return [*auc(p, click), *paddle.static.ctr_metric_bundle(p * 0.5, paddle.cast(click, "float32"))]


def computed_label() -> list[object]:
    """The label is none of the feeds; the prediction is given as two columns."""
    watch = feed("watch", "float32")
    both = paddle.nn.functional.softmax(paddle.static.nn.fc(feed("x", "float32"), 2))
    long = paddle.cast(watch > 3.0, "int64")
    return list(paddle.static.auc(both, long, slide_steps=0)[2])


def slot_dnn() -> list[object]:
    click = feed("click")
    p = paddle.nn.functional.sigmoid(paddle.static.nn.fc(feed("x", "float32"), 1))
    return [*auc(p, click), *paddle.static.ctr_metric_bundle(p, paddle.cast(click, "float32"))]


found = {}
for build in (two_labels, one_bundle_of_another_prediction, computed_label, slot_dnn):
    program = paddle.static.Program()
    with paddle.static.program_guard(program, paddle.static.Program()):
        metrics = [v.name for v in build()]
    feeds = {v.name for v in program.list_vars() if v.is_data}
    trace = Trace(program.global_block())
    counters = find_counters(program.global_block(), trace, feeds, set(metrics))
    none = find_counters(program.global_block(), trace, feeds, set())
    assert none == []
    found[build.__name__] = {
        "metrics": metrics,
        "counters": [[c.label, c.pos, c.neg, list(c.sums), bool(c.predicted)] for c in counters],
    }
print(json.dumps(found))
