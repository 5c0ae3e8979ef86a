"""The network that serving runs: from the slots' embeddings to the prediction, pruned out of the trainer's program.

model/__model__      the Program, serialized
dense/<var_name>     a parameter, binary
dense/__params__     all of them in one file, in the order of their names: paddle.inference reads it with __model__
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import paddle

from streamtrain.contracts.inference_models import PARAMS, PROGRAM
from streamtrain.engine.model import Model
from streamtrain.engine.operators import NotAllowedOperator
from streamtrain.engine.program import parse
from streamtrain.engine.tables import link
from streamtrain.errors import CheckpointError, ConfigError
from streamtrain.user_code import user_code


@dataclass(frozen=True)
class ServingNetwork:
    """program: normalized, feeds to target. feeds: (slot, variable) in the order of the model's slots. variables:
    those of the model's all_vars that the program computes. parameters: names."""

    program: Any
    feeds: tuple[tuple[int, str], ...]
    target: str
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
                    link(values[name], dense / name)
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

    Raises ConfigError when inference_feed_vars are not the embeddings of the model's slots, or the network has an
    operator that serving refuses.
    """
    feeds = list(model.static.inference_feed_vars)
    target = model.static.inference_target_var
    by_slot = {}
    for feed in feeds:
        slot = _slot_of(program, feed.name)
        if slot is None or slot not in model.slots or slot in by_slot:
            raise ConfigError(
                f"static_model.py: inference_feed_vars has {feed.name}, which is not the embedding of one slot",
                remedy="List the outputs of sparse_embedding, one a slot, or set stream.inference_model: none.",
            )
        by_slot[slot] = feed
    if missing := [slot for slot in model.slots if slot not in by_slot]:
        raise ConfigError(
            f"static_model.py: inference_feed_vars lacks the embedding of slot {missing[0]}",
            remedy="List all of them, or set stream.inference_model: none.",
        )
    block = program.global_block()
    named = [v if isinstance(v, str) else v.name for v in getattr(model.static, "all_vars", [])]
    ordered = [block.var(by_slot[slot].name) for slot in model.slots]
    with user_code(model.file.parent, "the network of inference models cannot be cut out"):
        pruned = paddle.static.normalize_program(program, ordered, [block.var(target.name)])
    try:
        parse(pruned.desc.serialize_to_string())
    except NotAllowedOperator as error:
        raise ConfigError(
            f"static_model.py: the network from inference_feed_vars to inference_target_var: {error}",
            remedy="Compute it with the operators of streamtrain/engine/operators.py, or set "
            "stream.inference_model: none.",
        ) from error
    inner = pruned.global_block()
    computed = {name for op in inner.ops for name in op.output_arg_names}
    return ServingNetwork(
        program=pruned,
        feeds=tuple((slot, by_slot[slot].name) for slot in model.slots),
        target=target.name,
        variables=tuple(n for n in dict.fromkeys(named) if n in computed and inner.has_var(n)),
        parameters=tuple(
            sorted(v.name for v in inner.vars.values() if v.persistable and v.name not in ("feed", "fetch"))
        ),
    )


def _slot_of(program: Any, variable: str) -> int | None:
    """The slot whose ids the operator that makes `variable` looks up."""
    for op in program.global_block().ops:
        if "Ids" not in op.input_names or variable not in op.output_arg_names:
            continue
        outputs = next(op.output(name) for name in op.output_names if variable in op.output(name))
        ids = op.input("Ids")[outputs.index(variable)]
        return int(ids) if ids.isdigit() else None
    return None
