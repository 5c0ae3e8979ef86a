"""Options and helpers that several commands share."""

from __future__ import annotations

import signal
import sys
import threading
import types
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from streamtrain.locations import Location
    from streamtrain.schedule import PassId

ConfigOption = Annotated[Path, typer.Option("-m", "--config", metavar="CONFIG", help="The job's config_online.yaml.")]
OptionalConfigOption = Annotated[
    Path | None, typer.Option("-m", "--config", metavar="CONFIG", help="The job's config_online.yaml.")
]
ModelOption = Annotated[
    str | None,
    typer.Option("--model", metavar="DIR_OR_URL", help="A model_save_path, or one full inference model's directory."),
]
ProfileOption = Annotated[
    bool,
    typer.Option(
        "--profile", help="Count where each pass's time goes: into the log and passes.jsonl. Costs a tenth and more."
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="One JSON document, for machines.")]


def stop_on_signals() -> threading.Event:
    """An event that SIGTERM and SIGINT set."""
    stop = threading.Event()

    def handler(_number: int, _frame: types.FrameType | None) -> None:
        stop.set()

    signal.signal(signal.SIGTERM, handler)
    signal.signal(signal.SIGINT, handler)
    return stop


def model_source(config: Path | None, model: str | None) -> str | Location:
    """Where inference models are read: a directory or a location. Raises ConfigError unless one of both is given."""
    from streamtrain.errors import ConfigError
    from streamtrain.locations import is_remote, location

    if (config is None) == (model is None):
        raise ConfigError("give either -m CONFIG or --model DIR_OR_URL")
    if model is not None:
        if Path(model).is_file():
            raise ConfigError(f"--model: {model} is a file", remedy="Give the directory that it lies in, or a URL.")
        return location("--model", model) if is_remote(model) else model
    from streamtrain.config import load_config

    assert config is not None
    job = load_config(config)
    return job.models or str(job.model_save_path)


def pass_id_of(option: str, text: str) -> PassId:
    """A pass as it is typed, DAY/PASS_ID. Raises ConfigError, naming the option."""
    import re

    from streamtrain.errors import ConfigError
    from streamtrain.schedule import PassId

    if not re.fullmatch(r"[0-9]{8}/[1-9][0-9]{0,9}", text):
        raise ConfigError(f"{option} {text}: it is not a pass", remedy="Name one as DAY/PASS_ID, 20240131/2.")
    day, _, number = text.partition("/")
    return PassId(day, int(number))


def print_json(value: Any) -> None:
    import orjson

    sys.stdout.write(orjson.dumps(_encodable(value), option=orjson.OPT_INDENT_2, default=str).decode() + "\n")


def _encodable(value: Any) -> Any:
    """Names of files may be no text."""
    from streamtrain.masking import printable

    if isinstance(value, str):
        return printable(value)
    if isinstance(value, dict):
        return {_encodable(key): _encodable(inner) for key, inner in value.items()}
    return [_encodable(inner) for inner in value] if isinstance(value, list | tuple) else value


def number(value: float | None, digits: int = 4) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def share(done: int, total: int, what: str) -> str:
    """How many of all splits, or passes, of the schedule; those of a later end_day, which was moved back, beside it."""
    if done <= total:
        return f"{done} of {total} {what}"
    return f"{total} of {total} {what}, and {done - total} after end_day"
