"""Builds a job's model in a process of its own, without servers, and says what is wrong with it.

    python -m streamtrain.engine.dry_build CONFIG REPORT     REPORT: where to write a BuildReport as JSON

The variables of role_environment() must be set. Imports Paddle: seconds.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import orjson

from streamtrain.config import JobConfig, load_config
from streamtrain.engine.environment import engine_environment
from streamtrain.errors import ConfigError

if TYPE_CHECKING:
    from streamtrain.engine.engine import Engine

#: Addresses that nobody listens on: a build joins no server.
_NOBODY = "127.0.0.1"


@dataclass(frozen=True)
class BuildReport:
    """problems: what is wrong; the rest is 0 when the model does not build. width: numbers of an embedding."""

    problems: list[str]
    slots: int = 0
    width: int = 0
    dense_parameters: int = 0


def role_environment() -> dict[str, str]:
    """Of a worker, the only one, of one server."""
    return {
        **engine_environment(),
        "PADDLE_WITH_GLOO": "0",
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
    from streamtrain.engine.model import refuse_other_slots

    stream = config.stream
    try:
        exact = stream.inference_model != "none" and stream.inference_keys == "touched"
        engine = Engine(config.model_dir, config.raw, exact_delta=exact)
    except ConfigError as error:
        return BuildReport([str(error)])
    checks: list[Callable[[], object]] = [lambda: refuse_other_slots(engine.slots, config.slots, config.model_dir)]
    if config.runner.need_infer_dump:
        checks.append(lambda: _dump_fields(engine, "infer"))
    if config.runner.need_train_dump:
        checks.append(lambda: _dump_fields(engine, "train"))
        checks.append(lambda: engine.variables("train_dump_params", params=True))
    if stream.consistency_rows:
        checks.append(lambda: engine.variables("all_vars"))
    if stream.inference_model != "none":
        checks.append(engine.serving_network)
    problems = []
    for check in checks:
        try:
            check()
        except ConfigError as error:
            problems.append(str(error))
    return BuildReport(problems, len(engine.slots), 1 + engine.table.columns.embedx_dim, len(engine.dense_shapes()))


def _dump_fields(engine: Engine, name: str) -> None:
    from streamtrain.engine.model import no_dump_fields

    if not engine.variables(f"{name}_dump_fields"):
        raise no_dump_fields(name)


def main() -> int:
    config, report = sys.argv[1:3]
    Path(report).write_bytes(orjson.dumps(asdict(build(load_config(config)))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
