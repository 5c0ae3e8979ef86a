"""Networks as serialized programs (protobuf), examined and rewritten before Paddle runs them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from google.protobuf.message import DecodeError
from paddle.base.proto import framework_pb2

from streamtrain.contracts.tensors import read_tensors
from streamtrain.engine import operators


@dataclass(frozen=True)
class Folded:
    """A network that takes the slots' sums, [rows, slots * width], as its one feed.

    order: the feeds' variables in the order of the sums.
    """

    program: bytes
    feed: str
    order: tuple[str, ...]


def parse(program: bytes) -> Any:
    """Raises ValueError when the bytes are not a program, of which Paddle would end the process, or have an operator
    that is not one of operators.ALLOWED. To be called before Paddle sees the program."""
    try:
        description = framework_pb2.ProgramDesc.FromString(program)
    except DecodeError as error:
        raise ValueError("it is not a serialized program") from error
    if not description.blocks or not description.blocks[0].ops:
        raise ValueError("it is an empty program")
    operators.check(description.blocks)
    return description


def check_parameters(program: bytes, params: bytes) -> None:
    """params: dense/__params__, the program's parameters in the order of their names. Raises ValueError when they are
    not exactly those, each a tensor of its parameter's shape. To be called before Paddle reads them."""
    expected = _parameters(program)
    try:
        found = [tensor.shape for tensor in read_tensors(params)]
    except ValueError as error:
        raise ValueError(f"dense/__params__: {error}") from error
    if len(found) != len(expected):
        raise ValueError(f"dense/__params__ has {len(found)} tensors, model/__model__ has {len(expected)} parameters")
    for (name, shape), actual in zip(expected, found, strict=True):
        if shape != actual:
            raise ValueError(f"dense/__params__ has {list(actual)} in place of {name}, whose shape is {list(shape)}")


@lru_cache(maxsize=2)  # as for fold()
def _parameters(program: bytes) -> tuple[tuple[str, tuple[int, ...]], ...]:
    """Names and shapes of the parameters, in the order of their names."""
    dense = framework_pb2.VarType.DENSE_TENSOR
    variables = [v for v in parse(program).blocks[0].vars if v.persistable and v.type.type == dense]
    return tuple(sorted((v.name, tuple(v.type.dense_tensor.tensor.dims)) for v in variables))


@lru_cache(maxsize=2)  # a job's models have one network: a reload need not hold the interpreter's lock for it again
def fold(program: bytes, feeds: tuple[str, ...]) -> Folded | None:
    """The network without its first step, when that is to sum every feed by row and concatenate the sums.

    Most click-through-rate models begin so. When rows are summed while they are gathered, one dense feed replaces
    hundreds with LoD; setting those alone costs more than the network does with a row or two. None when the network has
    another form: it is then fed as it is. Raises ValueError as parse() does.
    """
    description = parse(program)
    if len(description.blocks) != 1:
        return None
    block = description.blocks[0]
    readers: dict[str, list[Any]] = {}
    for op in block.ops:
        for name in _names(op.inputs):
            readers.setdefault(name, []).append(op)
    concat, sums = None, {}
    for feed in feeds:
        pool = _only(readers.get(feed), "sequence_pool")
        if pool is None or str(_attribute(pool, "pooltype")).upper() != "SUM":
            return None
        sum_ = _output(pool, "Out")
        if any(name in readers for name in _names(pool.outputs) if name != sum_):
            return None
        reader = _only(readers.get(sum_), "concat")
        if reader is None or (concat is not None and reader is not concat):
            return None
        concat = reader
        sums[sum_] = feed
    if concat is None or _attribute(concat, "axis") not in (1, -1):
        return None
    inputs = list(_names(concat.inputs))
    if len(inputs) != len(feeds) or set(inputs) != set(sums):  # an AxisTensor, or a sum that comes twice
        return None
    target = _output(concat, "Out")
    _replace_first_step(block, set(feeds), set(sums), target)
    return Folded(description.SerializeToString(), target, tuple(sums[name] for name in inputs))


def _replace_first_step(block: Any, feeds: set[str], sums: set[str], target: str) -> None:
    kept = []
    for op in block.ops:
        if op.type == "feed" and _output(op, "Out") in feeds:
            continue
        if op.type == "sequence_pool" and _output(op, "Out") in sums:
            continue
        if op.type == "concat" and _output(op, "Out") == target:
            continue
        kept.append(op)
    first = framework_pb2.OpDesc(type="feed")
    first.inputs.add(parameter="X", arguments=["feed"])
    first.outputs.add(parameter="Out", arguments=[target])
    first.attrs.add(name="col", type=framework_pb2.INT, i=0)
    ops = [first, *kept]
    del block.ops[:]
    block.ops.extend(ops)
    left = {name for op in ops for part in (op.inputs, op.outputs) for name in _names(part)}
    variables = [v for v in block.vars if v.name in left]
    del block.vars[:]
    block.vars.extend(variables)


def _names(parts: Any) -> list[str]:
    return [name for part in parts for name in part.arguments]


def _output(op: Any, parameter: str) -> str:
    return next((o.arguments[0] for o in op.outputs if o.parameter == parameter and o.arguments), "")


def _only(ops: list[Any] | None, kind: str) -> Any:
    """The reader, when there is exactly one and it is of this kind."""
    return ops[0] if ops and len(ops) == 1 and ops[0].type == kind else None


def _attribute(op: Any, name: str) -> Any:
    for attribute in op.attrs:
        if attribute.name == name:
            return attribute.s if attribute.type == framework_pb2.STRING else attribute.i
    return None
