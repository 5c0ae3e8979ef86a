"""The counters of a network's metrics, found in its program: paddle.static.auc and paddle.static.ctr_metric_bundle.

Which label and which prediction each counts is read from the operators, so a model need not say it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from streamtrain.engine.trace import Trace
from streamtrain.errors import ConfigError


@dataclass(frozen=True)
class Counters:
    """Of one label, names of variables. label: '' in a network without one, whose rows alone are counted. sums: of
    squared errors, absolute errors, predictions and q; () when the network lacks ctr_metric_bundle for it. predicted:
    of the prediction, '' when it is not known."""

    label: str
    pos: str
    neg: str
    sums: tuple[str, ...] = ()
    predicted: str = ""


def find_counters(block: Any, trace: Trace, feeds: Collection[str], counted: Collection[str]) -> list[Counters]:
    """One for each AUC of the network whose counters are in `counted`, by label, in their order.

    feeds: names of the network's feeds: a label that is one of them has its name, another the name of its variable; the
    second AUC of a label NAME is NAME_2. counted: thread_stat_var_names, what Paddle adds up by thread.
    """
    bundles = list(_bundles(block.ops, counted))
    found: dict[tuple[str, str], Counters] = {}
    for op in block.ops:
        if op.type != "auc":
            continue
        pos, neg = op.output("StatPosOut")[0], op.output("StatNegOut")[0]
        if pos not in counted or neg not in counted:
            continue
        label = _name(op.input("Label")[0], trace, feeds)
        predicted = trace.probability(op.input("Predict")[0])
        # paddle.static.auc has two operators, the newest batches' and the one over all: the second one counts
        found[op.input("Label")[0], op.input("Predict")[0]] = Counters(label, pos, neg, predicted=predicted)
    counters: list[Counters] = []
    names: dict[str, int] = {}
    for item in found.values():
        names[item.label] = count = names.get(item.label, 0) + 1
        of_label = [b for b in bundles if _name(b.label, trace, feeds) == item.label]
        exact = [b for b in of_label if b.predicted == item.predicted]
        sums = exact[0].sums if exact else of_label[0].sums if len(of_label) == 1 and not item.predicted else ()
        counters.append(replace(item, label=item.label if count == 1 else f"{item.label}_{count}", sums=sums))
    return counters


def by_job_labels(counters: Sequence[Counters], labels: Sequence[str]) -> list[Counters]:
    """The same in the order of the job's labels, those of other names last. A job with one label and a network with one
    AUC go together whatever the network calls it."""
    if len(labels) == 1 and len(counters) == 1 and counters[0].label:
        return [replace(counters[0], label=labels[0])]
    order = {name: place for place, name in enumerate(labels)}
    return sorted(counters, key=lambda item: order.get(item.label, len(order)))


def refuse_unknown(bounded: Iterable[str], labels: Sequence[str]) -> None:
    """bounded: the labels of stream.gate.labels. Raises ConfigError for one that is none of the network's, and for a
    network that has none at all."""
    if not labels:
        raise ConfigError(
            "stream.gate: the network has no paddle.static.auc of a label, which the gate would judge",
            remedy="Call it in net(), or remove stream.gate.",
        )
    for name in bounded:
        if name not in labels:
            raise ConfigError(
                f"stream.gate.labels.{name}: the network has no AUC of {name}, it has those of {', '.join(labels)}",
                remedy="Correct the name, or add a paddle.static.auc of it to the network.",
            )


def grouped_predictions(
    predictions: Mapping[str, str], labels: Sequence[str], dumped: Collection[str]
) -> dict[str, str]:
    """The variables that stream.group_slot needs, by the job's labels. predictions: of all of the network's labels.

    dumped: what stream.predict_dump_dir gets, if it is set. Raises ConfigError when there are none, or the dump lacks
    one.
    """
    fields = {name: variable for name, variable in predictions.items() if name in labels}
    if not fields:
        raise ConfigError(
            f"stream.group_slot: the network has no AUC of {' or '.join(labels)} whose prediction is known",
            remedy="Give paddle.static.auc concat([1 - predicted, predicted], axis=1), or remove the key.",
        )
    if dumped and (lacking := sorted({*fields.values()} - {*dumped})):
        raise ConfigError(
            f"stream.group_slot: the model's predict_dump_fields lacks {lacking[0]}, the prediction of a label",
            remedy="Add it there (infer_dump_fields where it has none), or remove stream.predict_dump_dir or "
            "stream.group_slot.",
        )
    return fields


@dataclass(frozen=True)
class _Bundle:
    predicted: str
    label: str
    sums: tuple[str, ...]


def _bundles(ops: Sequence[Any], counted: Collection[str]) -> Iterator[_Bundle]:
    """A ctr_metric_bundle is a difference whose squares and absolute values are added up, and what goes with it."""
    for at, op in enumerate(ops):
        if op.type != "elementwise_sub":
            continue
        difference, predicted, label = op.output("Out")[0], op.input("X")[0], op.input("Y")[0]
        sums = (
            _total(ops, at, "squared_l2_norm", difference, counted),
            _total(ops, at, "l1_norm", difference, counted),
            _total(ops, at, "reduce_sum", predicted, counted),
            _total(ops, at, "reduce_sum", _of(ops, at, "sigmoid", predicted), counted),
        )
        if all(sums):
            yield _Bundle(predicted, label, sums)


def _of(ops: Sequence[Any], after: int, kind: str, value: str) -> str:
    """What the first operator of that kind makes of a variable; '' when there is none."""
    for op in ops[after:]:
        if op.type == kind and op.input("X") == [value]:
            return str(op.output("Out")[0])
    return ""


def _total(ops: Sequence[Any], after: int, kind: str, value: str, counted: Collection[str]) -> str:
    """The counter that a variable's sum or norm goes into; '' when there is none."""
    part = _of(ops, after, kind, value) if value else ""
    for op in ops[after:] if part else ():
        if op.type == "elementwise_mul" and op.input("X") == [part]:
            part = str(op.output("Out")[0])
        if op.type == "elementwise_add" and op.input("X") == [part] and op.output("Out")[0] in counted:
            return str(op.output("Out")[0])
    return ""


def _name(label: str, trace: Trace, feeds: Collection[str]) -> str:
    """The feed that a variable is another form of, else the variable itself; '' for a constant, which is no label."""
    origin = trace.origin(label)
    if trace.constant(origin) is not None:
        return ""
    return origin if origin in feeds else label
