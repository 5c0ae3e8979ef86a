"""Builds a job's model in a process of its own, without servers, and says what is wrong with it.

    python .../dry_build.py CONFIG REPORT     REPORT: where to write a BuildReport as JSON

A model's code may do anything, end its process too, so it runs in no other one. The variables of role_environment()
must be set. Imports Paddle: seconds.
"""

from __future__ import annotations

import sys
from pathlib import Path

if __name__ == "__main__":
    # A script's folder comes first in sys.path, and its module names must not hide others.
    sys.path[0] = str(Path(__file__).resolve().parents[2])

import faulthandler
import importlib
import os
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING

import orjson

from streamtrain.config import JobConfig, load_config
from streamtrain.contracts.network import Network
from streamtrain.engine.environment import engine_environment
from streamtrain.errors import StreamtrainError
from streamtrain.user_code import described

if TYPE_CHECKING:
    from streamtrain.engine.engine import Engine

#: Addresses that nobody listens on: a build joins no server.
_NOBODY = "127.0.0.1"


@dataclass(frozen=True)
class BuildReport:
    """problems: (what is wrong, what to do); the rest is empty when the model does not build. width: numbers of an
    embedding in the first table. network: its feeds and tables. notes: what is not
    exact about it. dense: the shape of each dense parameter, by name. own_parameters: those of them that no server
    has."""

    problems: list[tuple[str, str]]
    slots: int = 0
    width: int = 0
    dense: dict[str, tuple[int, ...]] = field(default_factory=dict)
    network: Network | None = None
    notes: tuple[str, ...] = ()
    own_parameters: tuple[str, ...] = ()


def role_environment() -> dict[str, str]:
    """Of a worker, the only one, of one server."""
    return {
        **engine_environment(),
        "PADDLE_WITH_GLOO": "0",
        "PYTHONDONTWRITEBYTECODE": "1",
        "PADDLE_PSERVERS_IP_PORT_LIST": f"{_NOBODY}:1",
        "PADDLE_TRAINER_ENDPOINTS": f"{_NOBODY}:2",
        "PADDLE_PORT": "2",
        "PADDLE_ROLE": "TRAINER",
        "TRAINING_ROLE": "TRAINER",
        "PADDLE_TRAINER_ID": "0",
        "PADDLE_TRAINERS_NUM": "1",
        "POD_IP": _NOBODY,
    }


def build(config: JobConfig) -> BuildReport:
    """Everything that a worker asks of the model before it joins the servers."""
    from streamtrain.engine.engine import Engine

    faulthandler.disable()  # else enable() does nothing: Paddle's import has taken its handlers away
    faulthandler.enable()
    importlib.import_module("paddle.distributed.fleet.utils.http_server")  # makes http.log in the working directory
    os.chdir(config.path.parent)  # where roles run
    try:
        engine = Engine.of_job(config, exact_delta=config.stream.exact_delta)
    except StreamtrainError as error:
        return BuildReport([(error.message, error.remedy)])
    except Exception as error:  # of Paddle, for values in the config that no key's type tells
        return BuildReport([(f"the model does not build: {described(error, config.model_dir)}", "")])
    problems = []
    for check in _checks(config, engine):
        try:
            check()
        except StreamtrainError as error:
            problems.append((error.message, error.remedy))
    return BuildReport(
        problems, len(engine.slots), engine.state.table.width, engine.dense_shapes(), engine.network, engine.notes,
        engine.state.own_parameters,
    )  # fmt: skip


def _checks(config: JobConfig, engine: Engine) -> Iterator[Callable[[], object]]:
    from streamtrain.engine.counters import grouped_predictions, refuse_unknown
    from streamtrain.engine.model_checks import no_dump_fields, predict_dump_fields, refuse_other_slots

    def dump_fields(name: str) -> None:
        if not engine.variables(f"{name}_dump_fields"):
            raise no_dump_fields(f"runner.need_{name}_dump", f"{name}_dump_fields")

    named = bool(config.stream.features)
    yield lambda: refuse_other_slots(engine.slots, config.slots, config.model_dir, any_order=named)
    yield engine.compute_once
    if config.stream.gate is not None:
        bounded = list(config.stream.gate.labels)
        yield lambda: refuse_unknown(bounded, engine.labels)
    if config.group_slot is not None:
        yield lambda: grouped_predictions(
            engine.predictions,
            list(config.stream.labels),
            predict_dump_fields(engine.variables) if config.stream.predict_dump_dir else (),
        )
    if config.stream.predict_dump_dir:
        yield lambda: predict_dump_fields(engine.variables)
    if config.runner.need_infer_dump:
        yield lambda: dump_fields("infer")
    if config.runner.need_train_dump:
        yield lambda: dump_fields("train")
        yield lambda: engine.variables("train_dump_params", params=True)
    if config.stream.consistency_rows:
        yield lambda: engine.variables("all_vars")
    if config.stream.inference_model != "none":
        yield engine.serving_network


def main() -> int:
    faulthandler.enable()
    config, report = sys.argv[1:3]
    Path(report).write_bytes(orjson.dumps(asdict(build(load_config(config)))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
