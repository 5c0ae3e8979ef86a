"""recount() for a config: the one place where the two meet."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import fields
from pathlib import Path

from streamtrain.config import JobConfig
from streamtrain.errors import ConfigError
from streamtrain.proof.days import ShrinkRule
from streamtrain.proof.recount import Recount, recount
from streamtrain.proof.rows import ParseFunction


def recount_job(config: JobConfig, progress: Callable[[int, int], None] = lambda _done, _of: None) -> Recount:
    """Compares each key's `show` and `click` in the newest checkpoint with its occurrences in the source files.

    progress(splits read, splits in all) after each split. Reads all source files up to the checkpoint's pass, and needs
    neither Kafka nor Paddle; memory grows with the number of keys. `ok` of the result: nothing is lost or duplicated.
    Raises ConfigError for a data tree that is not local or a parameter that the recount cannot follow, CheckpointError
    when there is no readable checkpoint, DataError for a file that cannot be read and for late rows where it matters on
    which day they were trained.
    """
    if "://" in config.data_dir:
        raise ConfigError(f"recount reads local files only, train_data_dir is {config.data_dir}")
    name = config.stream.format
    return recount(
        Path(config.data_dir),
        config.model_save_path,
        split_interval=config.runner.split_interval,
        split_per_pass=config.runner.split_per_pass,
        start_day=config.runner.start_day,
        slots=config.slots,
        line_format=name,
        donefile=config.runner.data_donefile,
        parse=None if name in ("feasign_slot", "multislot") else _function(name),
        reject_unknown=config.stream.unknown_slot == "reject",
        rule=shrink_rule(config),
        progress=progress,
    )


def shrink_rule(config: JobConfig) -> ShrinkRule:
    """The sparse table's ctr_accessor_param. Raises ConfigError naming a value that recount cannot follow."""
    given: object = config.raw.get("table_parameters")
    path = "table_parameters"
    table = next(iter(given), "") if isinstance(given, Mapping) else ""
    for key in (table, "accessor", "ctr_accessor_param"):
        path = f"{path}.{key}"
        given = given.get(key) if isinstance(given, Mapping) else None
    values = {}
    for name in (f.name for f in fields(ShrinkRule)):
        if isinstance(given, Mapping) and name in given:
            value = given[name]
            most = 1 if name == "show_click_decay_rate" else float("inf")
            least = 0 if name.endswith(("coeff", "rate")) else float("-inf")
            if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
                raise ConfigError(f"{path}.{name}: recount takes a number from {least} to {most}, not {value!r}")
            values[name] = float(value)
    return ShrinkRule(**values)


def _function(name: str) -> ParseFunction:
    module, _, attribute = name.replace(":", ".").rpartition(".")
    function: ParseFunction = getattr(importlib.import_module(module), attribute)
    return function
