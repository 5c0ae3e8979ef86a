"""What must agree between keys of a config. Pure: nothing is read from a disk."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from streamtrain.config.sections import RunnerConfig, StreamConfig
from streamtrain.locations import is_remote

#: Characters that a shell does not treat as part of a word.
_SHELL = re.compile(r"[^\w./+,:@%=-]")
_MINUTES_A_DAY = 1440


def not_finite(value: Any, name: str) -> Iterator[str]:
    """Numbers below the key `name` that are .inf or .nan."""
    inner: list[tuple[Any, Any]] = []
    if isinstance(value, Mapping):
        inner = list(value.items())
    elif isinstance(value, list):
        inner = list(enumerate(value))
    elif isinstance(value, float) and not math.isfinite(value):
        yield f"{name}: a finite number is wanted, found {value}"
    for key, part in inner:
        yield from not_finite(part, f"{name}.{key}")


def schedule(runner: RunnerConfig) -> Iterator[str]:
    """Splits must make whole days, passes too."""
    splits = _MINUTES_A_DAY // runner.split_interval
    if _MINUTES_A_DAY % runner.split_interval:
        yield f"runner.split_interval: {runner.split_interval} minutes do not divide a day of 1440 minutes"
    elif splits % runner.split_per_pass:
        yield f"runner.split_per_pass: {runner.split_per_pass} does not divide the {splits} splits of a day"
    if runner.end_day < runner.start_day:
        yield f"runner.end_day: {runner.end_day} is before runner.start_day, {runner.start_day}"


def stream(values: StreamConfig) -> Iterator[str]:
    """Keys of `stream:` that contradict each other."""
    if values.worker_count > values.partitions:
        yield (
            f"stream.workers: {values.workers} workers need as many partitions; "
            f"stream.partitions is {values.partitions}"
        )
    taken: dict[str, str] = {"show": "the feed that each row counts in"}
    for key in ("labels", "dense", "features", "weight"):
        given = getattr(values, key) or {}
        for name in [given] if isinstance(given, str) else given:
            if name in taken:
                yield f"stream.{key}: the name {name} is {taken[name]} already"
            taken[name] = f"in stream.{key}"
    if values.slots is not None and (extra := set((values.features or {}).values()) - set(values.slots)):
        yield f"stream.features: slot {min(extra)} is not in stream.slots"
    if values.consistency_rows and values.inference_keys == "thresholds":
        yield (
            "stream.consistency_rows: the trainer computes with all keys, stream.inference_keys: thresholds leaves "
            "some out of inference models, so the two differ; remove one of them"
        )


def paths(runner: RunnerConfig, values: StreamConfig, resolve: Callable[[str], Path]) -> Iterator[str]:
    """Paths that Paddle cannot take, or that two parts would share. resolve: makes a path of the config absolute."""
    yield from _shell_problems(runner, values, resolve)
    yield from _dump_problems(runner, values, resolve)


def _shell_problems(runner: RunnerConfig, values: StreamConfig, resolve: Callable[[str], Path]) -> Iterator[str]:
    """Paddle passes these paths to a shell unquoted: blanks and the shell's own characters would break saves and
    loads, or run as commands."""
    saved = {"runner.model_save_path": runner.model_save_path}
    if is_remote(runner.model_save_path):
        saved = {"stream.checkpoint_dir": values.checkpoint_dir}
    for key, value in {**saved, "stream.spool_dir": values.spool_dir, **dump_dirs(runner, values)}.items():
        path = str(resolve(value))
        if character := _SHELL.search(path):
            yield f"{key}: {path} has the character {character[0]!r}, which Paddle's saving cannot handle"


def _dump_problems(runner: RunnerConfig, values: StreamConfig, resolve: Callable[[str], Path]) -> Iterator[str]:
    """A dump replaces the directory of its name: that must not be another part's."""
    taken = {
        resolve(value): key
        for key, value in (("runner.model_save_path", runner.model_save_path),
                           ("stream.checkpoint_dir", values.checkpoint_dir),
                           ("runner.train_data_dir", runner.train_data_dir))
    }  # fmt: skip
    for key, value in dump_dirs(runner, values).items():
        path = resolve(value)
        if path in taken:
            yield f"{key}: {path} is {taken[path]} already"
        taken[path] = key
    yield from _infer_problems(runner, values, resolve)


def _infer_problems(runner: RunnerConfig, values: StreamConfig, resolve: Callable[[str], Path]) -> Iterator[str]:
    """A data set that is missing, or that would have the dumps among its rows."""
    if not runner.need_infer_dump:
        return
    if not runner.infer_data_dir:
        yield (
            "runner.need_infer_dump: it predicts runner.infer_data_dir after each pass, which is not set; for the "
            "predictions of each pass before it is trained, as before 0.4.0, set it to false, and "
            f"stream.predict_dump_dir: {runner.infer_dump_fields_dir}"
        )
    elif "://" not in runner.infer_data_dir:
        data = resolve(runner.infer_data_dir)
        for key, value in dump_dirs(runner, values).items():
            if data in (resolve(value), *resolve(value).parents):
                yield f"{key}: {resolve(value)} is in runner.infer_data_dir, {data}: its dumps would be read as rows"


def dump_dirs(runner: RunnerConfig, values: StreamConfig) -> dict[str, str]:
    """The folders of the dumps that are on, by key."""
    folders = {}
    if runner.need_train_dump:
        folders["runner.train_dump_fields_dir"] = runner.train_dump_fields_dir
    if runner.need_infer_dump:
        folders["runner.infer_dump_fields_dir"] = runner.infer_dump_fields_dir
    if values.predict_dump_dir:
        folders["stream.predict_dump_dir"] = values.predict_dump_dir
    return folders
