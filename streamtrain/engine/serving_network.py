"""The network that serving runs: from the slots' embeddings, and floats, to the predictions, pruned out of the
trainer's program.

model/__model__      the Program, serialized
dense/<var_name>     a parameter, binary
dense/__params__     all of them in one file, in the order of their names: paddle.inference reads it with __model__
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import paddle

from streamtrain.contracts.inference_models import PARAMS, PROGRAM
from streamtrain.contracts.network import NetworkFeed
from streamtrain.contracts.served_network import (
    Constant,
    DenseFeed,
    ServedNetwork,
    SlotFeed,
    TableShape,
    TargetVariable,
)
from streamtrain.contracts.table_text import CVM_ACCESSOR, DEFAULT_ACCESSOR, PULLED
from streamtrain.engine.lookups import Lookup
from streamtrain.engine.model import Model
from streamtrain.engine.operators import NotAllowedOperator
from streamtrain.engine.program import parse
from streamtrain.errors import CheckpointError, ConfigError
from streamtrain.files import link_or_copy
from streamtrain.user_code import user_code

#: Of every row.
SHOW = 1.0


@dataclass(frozen=True)
class ServingNetwork:
    """program: normalized, feeds to targets. served: its feeds, tables and targets. is_usual: numbered slots, each
    looked up once in one table, and one target: its manifest is of format 1. variables: those of the model's all_vars
    that the program computes. parameters: names."""

    program: Any
    served: ServedNetwork
    is_usual: bool
    variables: tuple[str, ...]
    parameters: tuple[str, ...]

    def write(self, directory: Path, values: Mapping[str, Path]) -> None:
        """model/ and dense/ below `directory`. values: the checkpoint's files by variable, to be linked.

        The parameters in this process's scope must be those of the servers. Raises CheckpointError.
        """
        try:
            program, params = directory / PROGRAM, directory / PARAMS
            program.parent.mkdir()
            program.write_bytes(self.program.desc.serialize_to_string())
            dense = params.parent
            dense.mkdir()
            block = self.program.global_block()
            for name in self.parameters:
                if name in values:
                    link_or_copy(values[name], dense / name)
                else:  # a parameter that the optimizer does not change is in no table
                    paddle.save(block.var(name).get_value(), str(dense / name), use_binary_format=True)
            # what paddle.static.save_vars writes, which makes a program each time that is never released
            with params.open("wb") as out:
                for name in self.parameters:
                    with (dense / name).open("rb") as file:
                        shutil.copyfileobj(file, out, 1 << 20)
        except (OSError, RuntimeError) as error:
            raise CheckpointError(
                f"{directory} cannot be written: {error}", remedy="Is the disk of runner.model_save_path full?"
            ) from error


def cut_out(model: Model, program: Any) -> ServingNetwork:
    """The serving part of the trainer's `program`, before it was made distributed.

    Raises ConfigError when inference_feed_vars are not what the targets are computed from, when these need what a row
    to predict does not have, or the network has an operator that serving refuses.
    """
    usual = _is_usual(model)
    served, program = _usual(model, program) if usual else _any(model, program)
    block = program.global_block()
    feeds = [block.var(name) for name in served.variables]
    targets = [block.var(target.variable) for target in served.targets]
    with user_code(model.file.parent, "the network of inference models cannot be cut out"):
        pruned = paddle.static.normalize_program(program, feeds, targets)
    try:
        parse(pruned.desc.serialize_to_string())
    except NotAllowedOperator as error:
        raise ConfigError(
            f"static_model.py: the network from inference_feed_vars to inference_target_var: {error}",
            remedy="Compute it with the operators of streamtrain/engine/operators.py, or set "
            "stream.inference_model: none.",
        ) from error
    inner = pruned.global_block()
    named = [v if isinstance(v, str) else v.name for v in getattr(model.static, "all_vars", [])]
    computed = {name for op in inner.ops for name in op.output_arg_names}
    return ServingNetwork(
        program=pruned,
        served=served,
        is_usual=usual,
        variables=tuple(n for n in dict.fromkeys(named) if n in computed and inner.has_var(n)),
        parameters=tuple(
            sorted(v.name for v in inner.vars.values() if v.persistable and v.name not in ("feed", "fetch"))
        ),
    )


def _is_usual(model: Model) -> bool:
    """Whether it is the form of PaddleRec's slot networks, as versions before 0.4.0 serve it."""
    numbered = all(feed.name == str(feed.slot) and feed.sequence for feed in _slots(model))
    once = sorted(lookup.feed for lookup in model.lookups) == sorted(feed.name for feed in _slots(model))
    cvm = any(each.cvm for each in model.counting.values())
    dense = any(feed.kind == "dense" for feed in model.network.feeds)
    return numbered and once and not cvm and not dense and len(model.counting) == 1 == len(model.targets)


def _usual(model: Model, program: Any) -> tuple[ServedNetwork, Any]:
    """All slots are fed, in the order of the model's."""
    given = getattr(model.static, "inference_feed_vars", None)
    feeds = [lookup.variable for lookup in model.lookups] if given is None else [_name(variable) for variable in given]
    by_slot: dict[int, str] = {}
    for name in feeds:
        slot = _slot_of(model, name)
        if slot is None or slot in by_slot:
            raise ConfigError(
                f"static_model.py: inference_feed_vars has {name}, which is not the embedding of one slot",
                remedy="List the outputs of sparse_embedding, one a slot, or set stream.inference_model: none.",
            )
        by_slot[slot] = name
    if missing := [slot for slot in model.slots if slot not in by_slot]:
        raise ConfigError(
            f"static_model.py: inference_feed_vars lacks the embedding of slot {missing[0]}",
            remedy="List all of them, or set stream.inference_model: none.",
        )
    (table,) = model.counting
    slots = tuple(SlotFeed(str(slot), slot, table, by_slot[slot]) for slot in model.slots)
    shapes = {table: _shape(model, table)}
    return ServedNetwork(slots, shapes, (TargetVariable(model.targets[0], model.targets[0]),)), program


def _any(model: Model, program: Any) -> tuple[ServedNetwork, Any]:
    """What the targets are computed from is fed. Returns the network, and a copy of the program to cut it out of."""
    program = program.clone()
    block = program.global_block()
    _check_targets(model, block)
    _replace_cvm_inputs(block)
    lookups = {lookup.variable: lookup for lookup in model.lookups}
    feeds = {feed.name: feed for feed in model.network.feeds}
    found = _sources(block, model.targets, {*lookups, *feeds})
    slots = tuple(_slot_feed(feeds[lookup.feed], lookup) for name, lookup in lookups.items() if name in found)
    dense, constants = [], []
    for feed in (feed for feed in model.network.feeds if feed.name in found):
        if feed.kind == "dense":
            dense.append(DenseFeed(feed.name, tuple(int(n) for n in block.var(feed.name).shape[1:]), feed.name))
        elif feed.kind == "show":
            constants.append(Constant(feed.name, SHOW, feed.integer))
        else:
            raise ConfigError(
                f"{model.file}: the prediction depends on the feed {feed.name} ({feed.kind}), which a model that "
                "serves does not get",
                remedy="Compute inference_target_var without it, or set stream.inference_model: none.",
            )
    if not slots:
        raise ConfigError(
            f"{model.file}: inference_target_var is computed from no embedding",
            remedy="Name the variable of the prediction, or set stream.inference_model: none.",
        )
    _check_given(model, [*lookups, *(feed.name for feed in dense)])
    tables = {name: _shape(model, name) for name in sorted({feed.table for feed in slots})}
    targets = tuple(TargetVariable(*pair) for pair in zip(model.target_names, model.targets, strict=True))
    try:
        return ServedNetwork(slots, tables, targets, tuple(dense), tuple(constants)), program
    except ValueError as error:
        raise ConfigError(
            f"{model.file}: no inference model can be made of the network: {error}",
            remedy="Correct it, or set stream.inference_model: none.",
        ) from error


def _sources(block: Any, targets: Sequence[str], ends: set[str]) -> set[str]:
    """Those of `ends` that the targets are computed from, directly."""
    makers: dict[str, list[Any]] = {}
    for op in block.ops:
        for name in op.output_arg_names:
            makers.setdefault(name, []).append(op)
    found, seen, left = set[str](), set(targets), list(targets)
    while left:
        name = left.pop()
        if name in ends:
            found.add(name)
            continue
        if block.has_var(name) and block.var(name).persistable:
            continue
        for before in (name for op in makers.get(name, ()) for name in op.input_arg_names):
            if before not in seen:
                seen.add(before)
                left.append(before)
    return found


def _replace_cvm_inputs(block: Any) -> None:
    """continuous_value_model computes from its first input alone; the second, the rows' show and click, is where its
    gradient comes from. A constant in its place, since no row to predict has a click."""
    for number in reversed(range(len(block.ops))):
        op = block.ops[number]
        if op.type != "cvm":
            continue
        name = f"{op.output('Y')[0]}.of_no_row"
        variable = block.create_var(name=name, shape=[1, 2], dtype="float32")
        attributes = {"shape": [1, 2], "dtype": variable.dtype, "value": 0.0}
        block._insert_op(number, type="fill_constant", outputs={"Out": variable}, attrs=attributes)
        op.desc.set_input("CVM", [name])


def _slot_feed(feed: NetworkFeed, lookup: Lookup) -> SlotFeed:
    length = 0 if feed.sequence else feed.width
    return SlotFeed(feed.name, feed.slot, lookup.table, lookup.variable, length)


def _check_targets(model: Model, block: Any) -> None:
    for name in model.targets:
        shape = [int(n) for n in block.var(name).shape] if block.has_var(name) else []
        if not shape or any(size != 1 for size in shape[1:]):
            raise ConfigError(
                f"{model.file}: inference_target_var names {name}, whose shape is {shape}",
                remedy="A prediction is one number a row, [rows, 1]: take a column of it (paddle.slice).",
            )


def _check_given(model: Model, known: Sequence[str]) -> None:
    """inference_feed_vars says nothing that is not known, but may say something else."""
    for variable in getattr(model.static, "inference_feed_vars", None) or ():
        if (name := _name(variable)) not in known:
            raise ConfigError(
                f"{model.file}: inference_feed_vars has {name}, which is neither the embedding of a slot nor "
                "floats of a row",
                remedy="Take it out: what the predictions are computed from is found without it.",
            )


def _shape(model: Model, table: str) -> TableShape:
    cvm = model.counting[table].cvm
    return TableShape(model.counting[table].use.width, PULLED[CVM_ACCESSOR if cvm else DEFAULT_ACCESSOR])


def _slots(model: Model) -> list[NetworkFeed]:
    return [feed for feed in model.network.feeds if feed.kind == "slot"]


def _slot_of(model: Model, variable: str) -> int | None:
    """The slot whose embedding it is."""
    feed = next((lookup.feed for lookup in model.lookups if lookup.variable == variable), "")
    return model.slot_numbers.get(feed)


def _name(variable: Any) -> str:
    return variable if isinstance(variable, str) else str(variable.name)
