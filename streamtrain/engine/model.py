"""A model directory in PaddleRec's form: static_model.py with StaticModel(config), beside it net.py."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from streamtrain.contracts.network import Network
from streamtrain.contracts.row_layout import RowLayout
from streamtrain.engine import aucs
from streamtrain.engine.counters import Counters, by_job_labels, find_counters
from streamtrain.engine.feeds import FeedVariable, Said, recognise
from streamtrain.engine.lookups import Counting, Lookup, as_floats, counting, find_lookups, not_used, prepare, type_of
from streamtrain.engine.model_checks import check_tables, forgotten, unproven
from streamtrain.engine.quick_build import quick_passes
from streamtrain.engine.tables import TableFormat
from streamtrain.engine.trace import Trace
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
    """A built model.

    static: its StaticModel. feeds: Paddle's variables, in order. network: what they are, and what the tables count.
    lookups: of the sparse tables; counting: what these count. counters: of each AUC, by the job's name of its label, in
    the job's order; '' is one that counts rows alone. metrics: what is cleared after a pass. summed: names of the
    variables that are summed over a pass. targets: variables of the predictions; target_names: what they are called.
    notes: what is not exact about it, a sentence each.
    """

    static: Any
    feeds: list[Any]
    network: Network
    lookups: tuple[Lookup, ...]
    counting: dict[str, Counting]
    counters: tuple[Counters, ...]
    metrics: list[Any]
    summed: list[str]
    targets: tuple[str, ...]
    target_names: tuple[str, ...]
    notes: tuple[str, ...]
    file: Path

    @property
    def slots(self) -> tuple[int, ...]:
        """Numbers, in the order of the feeds."""
        return self.network.slots

    @property
    def slot_numbers(self) -> dict[str, int]:
        """By feed."""
        return {feed.name: feed.slot for feed in self.network.feeds if feed.kind == "slot"}

    @property
    def sequences(self) -> tuple[str, ...]:
        """The embeddings of slots with lod_level 1."""
        feeds = {feed.name for feed in self.network.feeds if feed.kind == "slot" and feed.sequence}
        return tuple(lookup.variable for lookup in self.lookups if lookup.feed in feeds)

    def listed(self, attribute: str) -> tuple[str, ...]:
        """Names of what the StaticModel's `attribute` lists, whatever it is; none when it lacks the attribute."""
        items = getattr(self.static, attribute, None) or ()
        return tuple(item if isinstance(item, str) else str(item.name) for item in items)

    def variables(self, attribute: str, *, params: bool = False) -> tuple[str, ...]:
        """Names of what the StaticModel's `attribute` lists, variables or names; none when it lacks the attribute.

        Raises ConfigError for one that Paddle cannot dump: a variable must be [rows, n] of float32, float64 or
        int64, a parameter (params) a dense one.
        """
        block = self.feeds[0].block
        names = []
        for name in self.listed(attribute):
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


def load_model(
    model_dir: Path, config: DottedConfig, layout: RowLayout | None, tables: Mapping[str, TableFormat]
) -> Model:
    """Imports static_model.py and builds its network in the default program.

    layout: what the job's rows have; None: see feeds.recognise(). tables: what the config says of each sparse table.
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
        if not feeds:
            raise ConfigError(f"{file}: create_feeds() gives no feeds")
        static.net(feeds)
    block = feeds[0].block.program.global_block()
    trace = Trace(block)
    targets = _targets(static, trace)
    if not targets:
        aucs.take_columns(block, trace)
        trace = Trace(block)
    of_aucs = aucs.predictions(block, trace)
    given, targets = bool(targets), targets or tuple(of_aucs)
    if not targets:
        raise ConfigError(
            f"{file}: StaticModel.net() does not set the attribute inference_target_var",
            remedy="Set it to the prediction, or to a list of them.",
        )
    if not aucs.find(block, trace):
        aucs.add_row_counter(block.var(targets[0]))
        trace = Trace(block)
    lookups = find_lookups(block, trace, [feed.name for feed in feeds], file)
    found = aucs.find(block, trace)
    weight = _names(static, "weight")
    names = {feed.name for feed in feeds}
    of_auc = tuple(counter.feed for counter in found if counter.feed in names)
    said = Said(_names(static, "labels"), weight[0] if weight else "", of_auc)
    known = recognise(file, [_described(feed, lookups) for feed in feeds], layout, said)
    check_tables(lookups, block, tables)
    prepare(lookups, {feed.name: feed.slot for feed in known if feed.kind == "slot"})
    accessors = {name: table.accessor for name, table in tables.items()}
    widths = {name: table.width for name, table in tables.items()}
    counted = as_floats(block, counting(lookups, Trace(block), known, layout, accessors, widths), lookups)
    network = Network(known, tuple(each.use for each in counted.values()))
    notes = tuple(dict.fromkeys((*unproven(network), *forgotten(block, file))))  # layers of one line say the same
    called = _target_names(static if given else None, targets, of_aucs)
    summed, cleared = aucs.summed(static, found), aucs.metrics(static, found)
    labels = [label.name for label in layout.labels] if layout is not None else []
    counters = by_job_labels(find_counters(block, trace, names, {*summed, *(v.name for v in cleared)}), labels)
    return Model(
        static, feeds, network, tuple(lookups), counted, tuple(counters), cleared, summed, targets, called, notes,
        file,
    )  # fmt: skip


def _names(static: Any, attribute: str) -> tuple[str, ...] | None:
    """Of a variable or a name, or a list of them; None when the StaticModel lacks the attribute."""
    given = getattr(static, attribute, None)
    if given is None:
        return None
    items = (
        list(given.values()) if isinstance(given, Mapping) else given if isinstance(given, list | tuple) else [given]
    )
    return tuple(item if isinstance(item, str) else str(item.name) for item in items)


def _targets(static: Any, trace: Trace) -> tuple[str, ...]:
    """What inference_target_var says; () without it, and where it is AUCs alone, as PaddleRec's models have it."""
    names = _names(static, "inference_target_var") or ()
    return () if all(aucs.is_auc(name, trace) for name in names) else names


def _target_names(static: Any, targets: Sequence[str], of_aucs: Mapping[str, str]) -> tuple[str, ...]:
    """By what the StaticModel's mapping calls them, else by the label that an AUC compares them with, else by their
    variables. static: None where it does not say what the targets are."""
    given = getattr(static, "inference_target_var", None)
    if isinstance(given, Mapping):
        return tuple(map(str, given))
    names = [of_aucs.get(target, target) for target in targets]
    return tuple(names if len(set(names)) == len(names) else targets)


def _described(feed: Any, lookups: Sequence[Lookup]) -> FeedVariable:
    looked_up = any(lookup.feed == feed.name for lookup in lookups)
    return FeedVariable(feed.name, type_of(feed), tuple(int(n) for n in feed.shape[1:]), int(feed.lod_level), looked_up)


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
    if not hasattr(model.static, "create_optimizer"):
        raise ConfigError(
            f"{model.file}: StaticModel has no create_optimizer(strategy)",
            remedy="Write it: it makes an optimizer, wraps it by fleet.distributed_optimizer(optimizer, strategy), and "
            "calls its minimize() with the loss.",
        )
    with user_code(model.file.parent, "the model's optimizer cannot be made"), quick_passes():
        try:
            model.static.create_optimizer(strategy)
        except KeyError as error:  # of Paddle, which looks for the gradient of each table
            if (table := str(error.args[0] if error.args else "")) not in model.counting:
                raise
            lookup = next(lookup for lookup in model.lookups if lookup.table == table)
            raise not_used(lookup) from error
