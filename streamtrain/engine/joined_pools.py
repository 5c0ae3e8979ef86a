"""The sums of many slots' embeddings by one operator in place of one for each slot.

Most click-through-rate networks pool every slot's embeddings by row (sequence_pool), and concatenate the pools. With
hundreds of slots the small operators and their gradients take as long as the layers above. Here the embeddings are
concatenated first, [feasigns of all slots, width], with the lengths of all their rows; one sequence_pool gives [slots *
rows, width], which is turned to [rows, slots * width]: the same numbers, summed in the same order.

The tables' own operators stay as they are: their feeds, their slots' numbers, what they push.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from streamtrain.engine.trace import Trace
from streamtrain.errors import ConfigError

#: Fewer slots gain nothing over the two copies that joining them takes.
_FEWEST = 4
_POOL = "sequence_pool"


@dataclass(frozen=True)
class JoinedPools:
    """joined: how many pools are computed together. apart: why others are not, a sentence each; none where a network
    has no pools to join. gone: variables of pools that nothing computes any more."""

    joined: int = 0
    apart: tuple[str, ...] = ()
    gone: frozenset[str] = frozenset()


def join_pools(block: Any, embeddings: Collection[str], dumped: Collection[str] = ()) -> JoinedPools:
    """Before the optimizer is made. embeddings: variables of the look-ups of slots with lod_level 1. dumped: variables
    that stay for dumps: a pool among them is computed once more, apart, for nobody but the dump."""
    trace = Trace(block)
    found, apart = list[tuple[Any, list[list[str]]]](), list[str]()
    for concat in block.ops:
        if concat.type == "concat" and not concat.input("AxisTensor") and _is_of_columns(concat, block):
            runs = _runs(list(concat.input("X")), trace, block, embeddings, apart)
            if long := [run for run in runs if len(run) >= _FEWEST]:
                found.append((concat, long))
    for concat, runs in found:  # from here on operators go, and those of the trace among them must not be looked at
        _join(block, trace, concat, runs, dumped)
    joined = [name for _, runs in found for run in runs for name in run]
    return JoinedPools(len(joined), tuple(dict.fromkeys(apart)), frozenset(joined).difference(dumped))


def refuse_lost(program: Any, pools: JoinedPools, file: Path) -> None:
    """After the optimizer was made. Raises ConfigError where create_optimizer() has read a pool that is gone."""
    for op in program.global_block().ops:
        if lost := pools.gone.intersection(op.input_arg_names):
            raise ConfigError(
                f"{file}: create_optimizer() reads {min(lost)}, a pool that is computed together with others",
                remedy="Set stream.fast_paths: {pool: false}, or add to the loss in net().",
            )


def _is_of_columns(concat: Any, block: Any) -> bool:
    """Whether it puts [rows, n] side by side."""
    return concat.attr("axis") in (1, -1) and len(block.var(concat.output("Out")[0]).shape) == 2


def _runs(
    names: Sequence[str], trace: Trace, block: Any, embeddings: Collection[str], apart: list[str]
) -> list[list[str]]:
    """Pools of one kind that are next to each other."""
    runs: list[list[str]] = []
    before = None
    for name in names:
        kind = _kind(name, trace, block, embeddings)
        if kind is not None and block.var(name).stop_gradient:
            apart.append(f"{name} has stop_gradient")
            kind = None
        if kind is not None and (others := [op.type for op in trace.readers(name) if op.type != "concat"]):
            apart.append(f"{name} is read by {others[0]} too")
            kind = None
        if kind is not None and len(trace.readers(name)) > 1:
            apart.append(f"{name} is concatenated more than once")
            kind = None
        if kind is None or kind != before:
            runs.append([])
        if kind is not None:
            runs[-1].append(name)
        before = kind
    return runs


def _kind(name: str, trace: Trace, block: Any, embeddings: Collection[str]) -> tuple[Any, ...] | None:
    """What pools that are joined have in common; None for what is no pool of a slot's embeddings."""
    pool = trace.maker(name)
    if pool is None or pool.type != _POOL or (embedding := pool.input("X")[0]) not in embeddings:
        return None
    return pool.attr("pooltype"), pool.attr("pad_value"), int(block.var(embedding).shape[-1])


def _join(block: Any, trace: Trace, concat: Any, runs: Sequence[list[str]], dumped: Collection[str]) -> None:
    out = concat.output("Out")[0]
    parts, first = list(concat.input("X")), {run[0]: run for run in runs}
    members = {name for run in runs for name in run}
    parts = [name for name in parts if name not in members or name in first]
    made: list[dict[str, Any]] = []
    for number, name in enumerate(parts):
        if (run := first.get(name)) is not None:
            whole = len(parts) == 1
            parts[number] = out if whole else f"{out}.joined_{number}"
            made += _operators(block, [trace.maker(pool) for pool in run], parts[number])
    if len(parts) > 1:
        attributes = {"axis": concat.attr("axis")}
        made.append({"type": "concat", "inputs": {"X": parts}, "outputs": {"Out": [out]}, "attrs": attributes})
    stack = concat.attr("op_callstack")
    gone = [concat, *(trace.maker(name) for name in members if name not in dumped)]
    at = next(index for index, op in enumerate(block.ops) if op is concat)
    for index in reversed(range(len(block.ops))):
        if any(block.ops[index] is op for op in gone):
            block._remove_op(index, sync=False)
            at -= index < at
    for operator in reversed(made):
        # where the user's code concatenates: what an error of it names
        block._insert_op_without_sync(at, **operator)._set_attr("op_callstack", stack)
    block._sync_with_cpp()


def _operators(block: Any, pools: Sequence[Any], out: str) -> list[dict[str, Any]]:
    """That make `out`, [rows, slots * width], of what the pools read."""
    embeddings = [pool.input("X")[0] for pool in pools]
    slots, width = len(embeddings), int(block.var(embeddings[0]).shape[-1])
    kind = block.var(embeddings[0]).dtype

    def variable(name: str, shape: Sequence[int], dtype: Any = kind, lod_level: int = 0) -> str:
        full = f"{out}.{name}"
        block.create_var(name=full, shape=list(shape), dtype=dtype, lod_level=lod_level, stop_gradient=False)
        return full

    if not block.has_var(out):
        block.create_var(name=out, shape=[-1, slots * width], dtype=kind, stop_gradient=False)
    rows = variable("embeddings", [-1, width], lod_level=1)
    pooled, by_slot = variable("pools", [-1, width]), variable("by_slot", [slots, -1, width])
    by_row = variable("by_row", [-1, slots, width])
    pool = pools[0]
    attributes = {"pooltype": pool.attr("pooltype"), "pad_value": pool.attr("pad_value"), "is_test": False}
    largest = variable("largest", [-1, width], "int32")
    shapes = [variable("shape_1", [0, -1, width]), variable("shape_2", [0, slots, -1, width]),
              variable("shape_3", [0, -1, slots, width])]  # fmt: skip
    steps = [
        ("concat", embeddings, {"Out": [rows]}, {"axis": 0}),
        (_POOL, [rows], {"Out": [pooled], "MaxIndex": [largest]}, attributes),
        ("reshape2", [pooled], {"Out": [by_slot], "XShape": [shapes[0]]}, {"shape": [slots, -1, width]}),
        ("transpose2", [by_slot], {"Out": [by_row], "XShape": [shapes[1]]}, {"axis": [1, 0, 2]}),
        ("reshape2", [by_row], {"Out": [out], "XShape": [shapes[2]]}, {"shape": [-1, slots * width]}),
    ]
    return [{"type": t, "inputs": {"X": x}, "outputs": o, "attrs": a} for t, x, o, a in steps]
