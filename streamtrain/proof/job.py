"""recount() for a config: the one place where the two meet."""

from __future__ import annotations

import importlib
import json
import socket
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from streamtrain.config import JobConfig
from streamtrain.errors import ConfigError, DataError, Unreadable
from streamtrain.proof import markers
from streamtrain.proof.days import ShrinkRule
from streamtrain.proof.line_rules import ParseFunction, Rules
from streamtrain.proof.logs import Logs
from streamtrain.proof.markers import Log
from streamtrain.proof.newest import newest
from streamtrain.proof.recount import Recount, recount
from streamtrain.proof.rows import DEFAULT_IGNORE
from streamtrain.proof.stored_logs import StoredLogs
from streamtrain.stopping import StopWatch

_BUILT_IN = ("feasign_slot", "multislot", "name_value", "csv", "tsv", "json")


def recount_job(
    config: JobConfig,
    progress: Callable[[int, int], None] = lambda _done, _of: None,
    *,
    root: Path | None = None,
) -> Recount:
    """Compares each key's `show` and `click` in the newest checkpoint with its occurrences in the source files.

    root: where the newest checkpoint and passes.jsonl are; the config's model_save_path by default.
    progress(splits read, splits in all) after each split. Reads all source files up to the checkpoint's pass; memory
    grows with the number of keys. Needs no Paddle. Where Kafka answers, the marker log says which files the checkpoint
    was made of; where it does not, `unknown` of the result says what is not known. `ok` of the result: proven, nothing
    is lost or duplicated.
    Logs on a store are copied to the local disk, a split at a time.
    Raises ConfigError for a store that cannot be opened, a function that cannot be imported or a parameter that the
    recount cannot follow, CheckpointError when there is no readable checkpoint, DataError for a file that cannot be
    unpacked, Unreadable for one that cannot be read.
    """
    root = root or config.model_save_path
    newest(root)  # before Kafka is waited for
    if isinstance(config.data, Path):
        return _recount(config, config.data, root, progress)
    with tempfile.TemporaryDirectory(prefix="streamtrain-recount-") as copies:
        logs = StoredLogs(config.data, Path(copies))
        try:
            found = _recount(config, logs, root, progress)
        except (DataError, Unreadable) as error:
            raise type(error)(logs.named(error.message), remedy=error.remedy) from error
    for listed in (found.uneven, found.pending, found.not_recountable):
        listed[:] = [replace(place, why=logs.named(place.why)) for place in listed]
    return found


def _recount(config: JobConfig, logs: Path | Logs, root: Path, progress: Callable[[int, int], None]) -> Recount:
    return recount(
        logs,
        root,
        split_interval=config.runner.split_interval,
        split_per_pass=config.runner.split_per_pass,
        start_day=config.runner.start_day,
        slots=config.slots,
        rules=rules_of(config),
        donefile=config.runner.data_donefile,
        rule=shrink_rules(config),
        progress=progress,
        ignore=getattr(config.stream, "ignore_files", DEFAULT_IGNORE),
        changed_split=config.stream.changed_split,
        end_day=config.runner.end_day,
        log=_marker_log(config),
    )


def _marker_log(config: JobConfig) -> Log:
    """The job's markers, or why they cannot be read: the recount goes on without them."""
    try:
        properties = config.kafka()
        if config.embedded:
            state = json.loads((config.broker_dir / "broker.json").read_bytes())
            address = ("127.0.0.1", int(state["port"]))
            with socket.create_connection(address, timeout=2):
                properties = {"bootstrap.servers": f"{address[0]}:{address[1]}"}
    except (OSError, ValueError, KeyError, TypeError, OverflowError):
        return Log(None, f"no embedded Kafka runs in {config.broker_dir} (streamtrain broker -m {config.path})")
    except ConfigError as error:
        return Log(None, f"Kafka cannot be asked: {error}")
    return StopWatch().call(markers.read, properties, config.stream.job)  # in a thread: Ctrl-C ends the wait for it


def rules_of(config: JobConfig) -> Rules:
    """How the job's lines are read. Raises ConfigError for a function that cannot be imported."""
    stream = config.stream
    return Rules(
        config.slots,
        stream.format,
        None if stream.format in _BUILT_IN else _function(stream.format),
        stream.unknown_slot == "reject",
        names=dict(stream.features or {}),
        labels=tuple(stream.labels.items()),
        dense=tuple(stream.dense.items()),
        weight=stream.weight,
        order=tuple(stream.feed_order or ()),
        columns={} if stream.columns is None else stream.columns.model_dump(by_alias=True),
        header=None if isinstance(stream.header, str) else tuple(stream.header),
    )


def shrink_rules(config: JobConfig) -> dict[str, ShrinkRule]:
    """Of each table of table_parameters; '' stands for those that it lacks. Raises ConfigError as shrink_rule()."""
    given = config.raw.get("table_parameters")
    names = list(given) if isinstance(given, Mapping) else []
    return {**{str(name): shrink_rule(config, str(name)) for name in names}, "": ShrinkRule()}


def shrink_rule(config: JobConfig, table: str = "") -> ShrinkRule:
    """A sparse table's ctr_accessor_param, by default the only one's. Raises ConfigError naming a value that recount
    cannot follow."""
    given: object = config.raw.get("table_parameters")
    path = "table_parameters"
    table = table or (next(iter(given), "") if isinstance(given, Mapping) else "")
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
    """Raises ConfigError when it cannot be imported."""
    module, colon, attribute = name.partition(":")
    if not colon:
        module, _, attribute = name.rpartition(".")
    try:
        found: Any = importlib.import_module(module)
        for part in attribute.split("."):
            found = getattr(found, part)
    except (Exception, SystemExit) as error:  # the module's own code runs
        raise ConfigError(
            f"stream.format: {name!r} cannot be imported: {error!r}",
            remedy="Give module:function, with the module on PYTHONPATH.",
        ) from error
    if not callable(found):
        raise ConfigError(f"stream.format: {name!r} is not a function", remedy="Give module:function.")
    function: ParseFunction = found
    return function
