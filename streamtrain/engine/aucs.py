"""The AUCs of a network: the variables that they sum over a pass, and what they are of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from streamtrain.engine.trace import Trace


@dataclass(frozen=True)
class Counter:
    """Of one paddle.static.auc: its sums since they were cleared, each [buckets]. feed: the feed that its label is, or
    the variable that it is computed as; '' without one. others: what it keeps besides."""

    feed: str
    stat_pos: Any
    stat_neg: Any
    others: tuple[Any, ...]


def find(block: Any, trace: Trace) -> list[Counter]:
    """In the order of the program. paddle.static.auc makes two operators: of the last batches, then of all."""
    found: list[Counter] = []
    others: tuple[Any, ...] = ()
    for number, op in enumerate(op for op in block.ops if op.type == "auc"):
        pos, neg = (block.var(op.input(key)[0]) for key in ("StatPos", "StatNeg"))
        if number % 2:
            label = trace.origin(op.input("Label")[0])
            found.append(Counter("" if trace.constant(label) is not None else label, pos, neg, others))
        others = (pos, neg)
    return found


def add_row_counter(target: Any) -> None:
    """For a network without paddle.static.auc, which rows are counted by: one of the target without a label, which
    refuses a target that is not a number as well. target: [rows, 1]."""
    import paddle

    predicted = paddle.nn.functional.sigmoid(paddle.reshape(target, [-1, 1]))
    nothing = paddle.full_like(predicted, 0, "int64")
    paddle.static.auc(paddle.concat([1 - predicted, predicted], axis=1), nothing, slide_steps=0)


def predictions(block: Any, trace: Trace) -> dict[str, str]:
    """The variables that AUCs are of, where they are known, with what their labels are."""
    found: dict[str, str] = {}
    for op in block.ops:
        if op.type == "auc" and (predicted := trace.probability(op.input("Predict")[0])):
            found.setdefault(predicted, trace.origin(op.input("Label")[0]))
    return found


def take_columns(block: Any, trace: Trace) -> None:
    """The second column of what an AUC is of where the network has it in no variable: of a softmax, as an example."""
    import paddle

    wanted = {op.input("Predict")[0] for op in block.ops if op.type == "auc"}
    for name in sorted(wanted):
        if not trace.probability(name) and list(block.var(name).shape[1:]) == [2]:
            paddle.slice(block.var(name), axes=[1], starts=[1], ends=[2])


def is_auc(name: str, trace: Trace) -> bool:
    """Whether it is the value that paddle.static.auc gives: PaddleRec's models have it as inference_target_var."""
    maker = trace.maker(trace.origin(name))
    return maker is not None and maker.type == "auc"


def metrics(static: Any, counters: Sequence[Counter]) -> list[Any]:
    """All that is cleared after a pass: what metric_list has, and the AUCs' own."""
    found = {v.name: v for v in getattr(static, "metric_list", None) or ()}
    for counter in counters:
        found.update({v.name: v for v in (counter.stat_pos, counter.stat_neg, *counter.others)})
    return list(found.values())


def summed(static: Any, counters: Sequence[Counter]) -> list[str]:
    """Names of what Paddle sums over its threads: thread_stat_var_names, and the AUCs' counters."""
    names = [str(name) for name in getattr(static, "thread_stat_var_names", None) or ()]
    names += [v.name for counter in counters for v in (counter.stat_pos, counter.stat_neg)]
    return list(dict.fromkeys(names))
