"""A model directory in PaddleRec's form: static_model.py with StaticModel(config), beside it net.py."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from streamtrain.contracts.paths import plain_path
from streamtrain.errors import ConfigError
from streamtrain.masking import mask_value
from streamtrain.user_code import user_code

#: Ends of the names, in lower case, of the types that Paddle dumps.
_DUMPED = ("float32", "fp32", "float64", "fp64", "int64")


class DottedConfig(dict[str, Any]):
    """The config as models see it: `config.get("hyper_parameters.optimizer.learning_rate", default)`.

    A section as a mapping: `config["hyper_parameters"]`. last_read: the key that get() was asked for last.
    """

    def __init__(self, raw: Mapping[str, Any]) -> None:
        super().__init__(raw)
        for key, value in raw.items():
            self.update(flatten(value, key))
        self.last_read = ""

    def get(self, key: str, default: Any = None) -> Any:
        self.last_read = key
        return super().get(key, default)


def flatten(value: Any, prefix: str) -> dict[str, Any]:
    """Nested mappings as one, with dotted keys below `prefix`; the leaves only."""
    if not isinstance(value, Mapping):
        return {prefix: value}
    flat: dict[str, Any] = {}
    for key, inner in value.items():
        flat.update(flatten(inner, f"{prefix}.{key}"))
    return flat


@dataclass(frozen=True)
class Model:
    """A built model: its StaticModel, its feeds in order, its slots (the feeds after show and click)."""

    static: Any
    feeds: list[Any]
    slots: tuple[int, ...]
    stat_pos: Any
    stat_neg: Any
    metrics: list[Any]
    file: Path

    def variables(self, attribute: str, *, params: bool = False) -> tuple[str, ...]:
        """Names of what the StaticModel's `attribute` lists, variables or names; none when it lacks the attribute.

        Raises ConfigError for one that Paddle cannot dump: a variable must be [rows, n] of float32, float64 or
        int64, a parameter (params) a dense one.
        """
        block = self.feeds[0].block
        names = []
        for item in getattr(self.static, attribute, None) or []:
            name = item if isinstance(item, str) else str(item.name)
            where = f"{self.file}: {attribute} names {name}"
            if not block.has_var(name):
                raise ConfigError(f"{where}, which the network lacks", remedy="Remove it from the list.")
            variable = block.var(name)
            if params and not variable.persistable:
                raise ConfigError(f"{where}, which is not a parameter", remedy="Remove it from the list.")
            kind = str(variable.dtype).lower()
            if not params and (len(variable.shape) != 2 or not kind.endswith(_DUMPED)):
                raise ConfigError(
                    f"{where}, which is {kind} of shape {list(variable.shape)}",
                    remedy="Paddle dumps float32, float64 or int64 of shape [rows, n]: remove it from the list.",
                )
            names.append(name)
        return tuple(names)


def load_model(model_dir: Path, config: DottedConfig, table: str, width: int) -> Model:
    """Imports static_model.py and builds its network in the default program.

    table: the name that the config gives to the sparse table; width: numbers of an embedding, embed_w and embedx.
    Raises ConfigError naming the file, and the line of the user's code or what it lacks.
    """
    file = model_dir / "static_model.py"
    if not file.is_file():
        raise ConfigError(f"{file} does not exist", remedy="Run from the model's directory, or set runner.model_dir.")
    sys.path.insert(0, str(model_dir))
    with user_code(model_dir, "the model cannot be imported"):
        module = importlib.import_module("static_model")
    if not hasattr(module, "StaticModel"):
        raise ConfigError(f"{file} has no class StaticModel")
    static = _static_model(module, config, model_dir)
    with user_code(model_dir, "the model does not build"):
        feeds = list(static.create_feeds())
        slots = tuple(_slots(feeds, file))
        static.net(feeds)
        _name_slots(feeds)
        _check_table(feeds, file, table, width)
        for name in ("metric_list", "thread_stat_var_names", "inference_feed_vars", "inference_target_var"):
            if not hasattr(static, name):
                raise ConfigError(f"{file}: StaticModel.net() does not set the attribute {name}")
        counters = [v for v in static.metric_list if v.name in set(static.thread_stat_var_names)]
        # paddle.static.auc gives batch_stat_pos, batch_stat_neg, stat_pos, stat_neg; only the last two are counters
        auc = [v for v in counters if "int64" in str(v.dtype).lower()]
        if len(auc) < 2:
            raise ConfigError(f"{file}: thread_stat_var_names lacks stat_pos and stat_neg of paddle.static.auc")
        return Model(static, feeds, slots, auc[0], auc[1], list(static.metric_list), file)


def _static_model(module: Any, config: DottedConfig, model_dir: Path) -> Any:
    """Its constructor reads the config: where it fails, the key that it has read last is what is wrong."""
    config.last_read = ""
    try:
        with user_code(model_dir, "the model does not build"):
            return module.StaticModel(config)
    except ConfigError as error:
        if not (key := config.last_read):
            raise
        value = mask_value(config.get(key, "not given"), key)
        raise ConfigError(f"{error.message} (it has just read {key}: {value})", remedy=error.remedy) from error


def create_optimizer(model: Model, strategy: Any) -> None:
    """The StaticModel's own. Raises ConfigError with the line of the user's code."""
    with user_code(model.file.parent, "the model's optimizer cannot be made"):
        model.static.create_optimizer(strategy)


def refuse_other_slots(model: tuple[int, ...], config: tuple[int, ...], model_dir: Path) -> None:
    """Raises ConfigError unless the model's slots are the config's, in this order."""
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


def no_table() -> ConfigError:
    """For a config without a sparse table."""
    return ConfigError(
        "table_parameters: required, not given",
        remedy="Name the embedding's table as sparse_embedding's param_attr does.",
    )


def no_dump_fields(name: str) -> ConfigError:
    """For a dump that is on, of a model that lists nothing for it. name: infer or train."""
    return ConfigError(
        f"runner.need_{name}_dump is on, but the model's StaticModel has no {name}_dump_fields",
        remedy="List the variables to dump there, or set it to false.",
    )


def _check_table(feeds: list[Any], file: Path, table: str, width: int) -> None:
    """The network's one sparse table has the config's name and width: Paddle would train another one in silence."""
    block = feeds[0].block.program.global_block()
    names = {feed.name for feed in feeds[2:]}
    found = {op.input("W")[0] for op in block.ops if op.type == "lookup_table" and op.input("Ids")[0] in names}
    if len(found) != 1:
        given = ", ".join(sorted(found)) or "none"
        raise ConfigError(
            f"{file}: the slots' embeddings have {len(found)} tables, {given}; one is wanted",
            remedy="Give every sparse_embedding the same param_attr name.",
        )
    if (name := found.pop()) != table:
        raise ConfigError(
            f"table_parameters.{table}: the network's table is {name}", remedy=f"Write table_parameters.{name}."
        )
    if (size := int(block.var(name).shape[1])) != width:
        raise ConfigError(
            f"table_parameters.{table}.accessor.embedx_dim: {width - 1}, which gives embeddings of {width} numbers "
            f"(embed_w and embedx); the network's have {size}",
            remedy=f"Set embedx_dim to {size - 1} and fea_dim to {size + 2}, or the model's emb_dim to {width}.",
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


def _name_slots(feeds: list[Any]) -> None:
    """Sets each key's slot for the table's text: Paddle 3.0.0 drops sparse_embedding's own argument for it."""
    names = {feed.name for feed in feeds[2:]}
    for op in feeds[0].block.program.global_block().ops:
        if op.type == "lookup_table" and op.input("Ids")[0] in names:
            op._set_attr("slot", int(op.input("Ids")[0]))


def _slots(feeds: list[Any], file: Path) -> Iterator[int]:
    if len(feeds) < 3:
        raise ConfigError(f"{file}: create_feeds() must give show, click and the slots, it gives {len(feeds)}")
    for feed in feeds[2:]:
        if not feed.name.isdigit():
            raise ConfigError(f"{file}: feed {feed.name!r} is not a slot: a slot's name is its number")
        yield int(feed.name)
