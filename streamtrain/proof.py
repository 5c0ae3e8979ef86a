"""recount() with what a config says: the one place where the two meet."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path

from streamtrain.config import JobConfig
from streamtrain.errors import ConfigError
from streamtrain.recount import ParseFunction, Recount, recount


def recount_job(config: JobConfig, progress: Callable[[int, int], None] = lambda _done, _of: None) -> Recount:
    """Recounts a job. Raises ConfigError for a data tree that is not local, and what recount() raises."""
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
        progress=progress,
    )


def _function(name: str) -> ParseFunction:
    module, _, attribute = name.replace(":", ".").rpartition(".")
    found: ParseFunction = getattr(importlib.import_module(module), attribute)
    return found
