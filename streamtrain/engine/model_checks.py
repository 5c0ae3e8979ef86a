"""What a built model may not be for a job, and what is not exact about it. Needs no Paddle."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from streamtrain.config import JobConfig
from streamtrain.contracts.network import UNKNOWN, Network
from streamtrain.contracts.paths import plain_path
from streamtrain.contracts.table_text import CVM_ACCESSOR
from streamtrain.engine.lookups import Lookup
from streamtrain.engine.tables import TableFormat
from streamtrain.errors import ConfigError
from streamtrain.user_code import place_in


def no_table() -> ConfigError:
    """For a config without a sparse table."""
    return ConfigError(
        "table_parameters: required, not given",
        remedy="Name the embedding's table as sparse_embedding's param_attr does; a network needs one.",
    )


def no_dump_fields(key: str, attribute: str) -> ConfigError:
    """For a dump that is on, of a model that lists nothing for it. key: turns it on. attribute: of StaticModel."""
    return ConfigError(
        f"{key} is on, but the model's StaticModel has no {attribute}",
        remedy="List the variables to dump there, or take the key out.",
    )


def predict_dump_fields(variables: Callable[[str], tuple[str, ...]]) -> tuple[str, ...]:
    """What stream.predict_dump_dir gets: predict_dump_fields of the StaticModel, infer_dump_fields where it has none.
    variables: Engine.variables. Raises ConfigError."""
    fields = variables("predict_dump_fields") or variables("infer_dump_fields")
    if not fields:
        raise no_dump_fields("stream.predict_dump_dir", "predict_dump_fields, and no infer_dump_fields")
    return fields


def dumped_lists(config: JobConfig, *, compares: bool = False) -> tuple[str, ...]:
    """The StaticModel's lists of variables that the job dumps. compares: a consistency check dumps too."""
    stream, runner = config.stream, config.runner
    of_predict = ("predict_dump_fields", "infer_dump_fields") if stream.predict_dump_dir else ()
    of_infer = ("infer_dump_fields",) if runner.need_infer_dump else ()
    of_train = ("train_dump_fields",) if runner.need_train_dump else ()
    of_check = ("all_vars",) if compares or stream.consistency_rows else ()
    return (*of_predict, *of_infer, *of_train, *of_check)


def refuse_other_slots(
    model: tuple[int, ...], config: tuple[int, ...], model_dir: Path, *, any_order: bool = False
) -> None:
    """Raises ConfigError unless the model's slots are the config's, in this order. any_order: slots with names, whose
    numbers say nothing of an order."""
    if any_order:
        model, config = tuple(sorted(model)), tuple(sorted(config))
    if model == config:
        return
    if len(model) != len(config):
        what = f"has {len(model)} slots, the config says {len(config)}"
    else:
        number = next(i for i, (a, b) in enumerate(zip(model, config, strict=True)) if a != b)
        what = f"has slot {model[number]} as its number {number + 1}, the config says slot {config[number]}"
    raise ConfigError(
        f"the model in {model_dir} {what}",
        remedy="Set stream.slots, or hyper_parameters.slot_num, to the model's slots.",
    )


def check_tables(lookups: Sequence[Lookup], block: Any, tables: Mapping[str, TableFormat]) -> None:
    """The network's sparse tables have the config's names and widths: Paddle would train others in silence."""
    found = {lookup.table: lookup for lookup in lookups}
    lost, unused = sorted(found.keys() - tables.keys()), sorted(tables.keys() - found.keys())
    if len(found) == 1 == len(tables) and lost:
        raise ConfigError(
            f"table_parameters.{unused[0]}: the network's table is {lost[0]}",
            remedy=f"Write table_parameters.{lost[0]}.",
        )
    if lost:
        raise ConfigError(
            f"table_parameters lacks {lost[0]}, which {found[lost[0]].place} looks up",
            remedy="Each table, by the name of sparse_embedding's param_attr, needs a section of its own.",
        )
    if unused:
        raise ConfigError(
            f"table_parameters.{unused[0]}: the network has no such table, it has {', '.join(sorted(found)) or 'none'}",
            remedy="Remove it, or correct its name.",
        )
    for name, table in tables.items():
        size, dim = int(block.var(name).shape[1]), table.columns.embedx_dim
        if size != table.width:
            what = "embed_w and embedx" if table.width == dim + 1 else "show, click, embed_w and embedx"
            own = table.width - dim
            cvm = (
                f"If it goes through continuous_value_model, write accessor_class: {CVM_ACCESSOR}. Else: "
                if own == 1 and size == dim + 3
                else ""
            )
            raise ConfigError(
                f"table_parameters.{name}.accessor.embedx_dim: {dim}, which gives embeddings of {table.width} numbers "
                f"({what}); the network's have {size} ({found[name].place})",
                remedy=cvm + f"Set embedx_dim to {size - own} and fea_dim to {size - own + 3}, or the model's size to "
                f"{table.width}.",
            )


def check_names(program: Any, file: Path) -> None:
    """Raises ConfigError for a parameter whose name cannot be that of a checkpoint's file."""
    for parameter in program.all_parameters():
        try:
            plain_path(parameter.name)
        except ValueError as error:
            raise ConfigError(
                f"{file}: a parameter's name is the name of its file in a checkpoint: {error}",
                remedy="Give it another one (paddle.ParamAttr(name=..)).",
            ) from error


def forgotten(block: Any, file: Path) -> Iterator[str]:
    """What an operator keeps in the worker alone, where no server has it. Raises ConfigError for
    data_norm, whose sums are a table of their own."""
    for op in block.ops:
        if op.type not in ("batch_norm", "data_norm"):
            continue
        place = place_in(op.attr("op_callstack") if op.has_attr("op_callstack") else (), file.parent)
        if op.type == "data_norm":
            raise ConfigError(
                f"{place}: data_norm keeps its sums in a table of their own, which is not saved here",
                remedy="Use paddle.static.nn.layer_norm, or scale the floats in the rows.",
            )
        yield (
            f"{place}: batch_norm keeps its mean and variance in each worker, of its own rows: checkpoints and "
            "inference models have worker 0's; while it trains, predictions are computed with each batch's own, those "
            "that are served are not; layer_norm has none"
        )


def unproven(network: Network) -> Iterator[str]:
    """What a recount cannot tell of the network's tables, a sentence each."""
    for table in network.tables:
        if not table.show:
            yield (
                f"table {table.name}: its show does not count the rows, so a recount cannot prove it; give its "
                "sparse_embedding a ShowClickEntry whose show is 1 for each row, or leave the entry out"
            )
        elif table.click == UNKNOWN:
            yield (
                f"table {table.name}: its click is computed from labels, so a recount compares show alone; give its "
                "ShowClickEntry a label to compare click too"
            )
