"""A job's warm start, decided: runner.warmup_model_path against the config and the network.

It counts for a job that has no checkpoint yet. The parent decides it before anything runs, from the shapes that the
model's build gives; worker 0 decides it once more before it loads.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from streamtrain.checkpoint.warm_files import check_columns, dense_of_paddlerec
from streamtrain.checkpoint.warm_source import Source, open_source
from streamtrain.checkpoint.warm_store import open_stored
from streamtrain.config import JobConfig
from streamtrain.contracts.table_text import DEFAULT_ACCESSOR, DEFAULT_SHARDS, TableColumns, rule_of
from streamtrain.contracts.warm_plan import STATISTICS, Plan, TableShape, plan_dense, plan_tables
from streamtrain.contracts.warmup import KEY, Part, WarmStart
from streamtrain.errors import ConfigError
from streamtrain.locations import Location


@dataclass(frozen=True)
class Decided:
    """A source and what is taken of it. start: as it is kept, without counts of keys."""

    source: Source
    plan: Plan
    start: WarmStart

    def with_keys(self, keys: Mapping[str, int]) -> WarmStart:
        parts = [
            replace(part, keys=keys.get(part.name, 0)) if part.kind == "table" else part for part in self.start.parts
        ]
        return replace(self.start, parts=tuple(parts))


def wanted(config: JobConfig) -> bool:
    return bool(config.runner.warmup_model_path)


def shard_num(config: JobConfig, table: str) -> int:
    return int((config.raw.get("table_parameters") or {})[table].get("shard_num", DEFAULT_SHARDS))


def tables_wanted(config: JobConfig) -> dict[str, TableShape]:
    """The config's tables, in the order of their names."""
    found = {}
    for name, table in sorted((config.raw.get("table_parameters") or {}).items()):
        accessor = table.get("accessor") or {}
        columns = TableColumns.of_accessor(accessor)
        rules = (rule_of(accessor, "embed_sgd_param"), rule_of(accessor, "embedx_sgd_param"))
        fresh = tuple(
            _fresh(accessor.get(key) or {}, rule, len(state))
            for key, rule, state in zip(
                ("embed_sgd_param", "embedx_sgd_param"), rules, (columns.embed_state, columns.embedx_state), strict=True
            )
        )
        accessor_class = str(accessor.get("accessor_class", DEFAULT_ACCESSOR))
        found[name] = TableShape.of(name, columns, accessor_class, rules, (fresh[0], fresh[1]))
    return found


def _fresh(parameter: Mapping[str, Any], rule: str, count: int) -> tuple[str, ...]:
    """What the rule's numbers begin as in Paddle: zeros, of Adam's two powers their rates."""
    if rule not in ("SparseAdamSGDRule", "SparseSharedAdamSGDRule"):
        return ("0",) * count
    adam = parameter.get("adam") or {}
    powers = (adam.get("beta1_decay_rate", 0.9), adam.get("beta2_decay_rate", 0.999))
    return (*("0",) * (count - 2), *(f"{float(power):g}" for power in powers))


def _is_own(place: Path | Location, config: JobConfig) -> bool:
    if isinstance(place, Path):
        return place == config.model_save_path
    return config.models is not None and place.url.rstrip("/") == config.models.url.rstrip("/")


@contextmanager
def decided(config: JobConfig, dense: Mapping[str, tuple[int, ...]], own: Collection[str] = ()) -> Iterator[Decided]:
    """The source, as long as its files are in use: of one on a store they are copies. dense: shapes of the network's
    dense parameters, by name. own: those of them that no optimizer changes, so that PaddleRec's dense table has none of
    them.

    Raises ConfigError when there is no source, or by each key whose tables differ; CheckpointError when it is damaged,
    UnknownFormat, Unreadable.
    """
    place = config.warmup
    if _is_own(place, config):
        raise ConfigError(f"{KEY} is the job's own model_save_path", remedy="Name another job's, or leave the key out.")
    if config.runner.save_first_base and config.stream.inference_model != "none":
        raise ConfigError(
            f"runner.save_first_base: the first base is of an empty model, and {KEY} begins from another one",
            remedy="Leave one of the two out; the first pass publishes a full model.",
        )
    tables = tables_wanted(config)
    if isinstance(place, Path):
        source = open_source(place, tables)
    else:
        source = open_stored(place, config.model_save_path, tables)
    with source.in_use():
        yield _decide(config, source, tables, dense, own)


def _decide(
    config: JobConfig,
    source: Source,
    tables: Mapping[str, TableShape],
    dense: Mapping[str, tuple[int, ...]],
    own: Collection[str],
) -> Decided:
    options = config.stream.warmup
    plans, parts, problems = plan_tables(source.tables, tables, statistics=options.statistics)
    if problems:
        lines = "\n  ".join(problems)
        raise ConfigError(
            f"{KEY}: {source.where} is of a table that differs:\n  {lines}",
            remedy=f"Restore the keys, or take the embeddings without the optimizer's statistics: {STATISTICS}: false.",
        )
    if source.kind == "paddlerec":
        check_columns(source, plans)
    served = {name: shape for name, shape in dense.items() if name not in own}
    of_source, state = _dense_of(config, source, served) if options.dense else ({}, "")
    names, whole, of_dense = plan_dense(
        of_source, dense, wish=options.dense, statistics=options.statistics, state=state, own=own
    )  # fmt: skip
    every: tuple[Part, ...] = (*parts, *of_dense)
    plan = Plan(plans, names, whole, every)
    return Decided(source, plan, WarmStart(source.where, source.kind, source.digest, every))


def _dense_of(
    config: JobConfig, source: Source, wanted: Mapping[str, tuple[int, ...]]
) -> tuple[Mapping[str, tuple[int, ...]], str]:
    """The source's shapes, and why its optimizer's state cannot be taken, '' when it can."""
    hyper = config.raw.get("hyper_parameters") or {}
    optimizer = hyper.get("optimizer")
    d2sum = bool(hyper.get("adam_d2sum", True))
    if source.dense is None:
        _, columns = dense_of_paddlerec(source, wanted)
        own = DENSE_COLUMNS[d2sum]
        state = "" if columns == own else f"the source's dense lines have {columns} numbers, this job's have {own}"
        return wanted, state
    mine = (optimizer.get("class") if isinstance(optimizer, Mapping) else None, d2sum)
    differs = source.optimizer is not None and source.optimizer != mine
    if differs or not source.dense_files:
        return source.dense, "the optimizer of the dense parameters is another one"
    return source.dense, ""


#: Numbers in a line of Adam's dense table, by adam_d2sum: the value comes first. Measured.
DENSE_COLUMNS = {True: 5, False: 3}
