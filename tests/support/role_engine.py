"""The engine of a role without Kafka: on fresh servers, for what a job's days do to them."""

from __future__ import annotations

import os
import sys
from typing import NoReturn

from streamtrain.config import JobConfig, load_config
from streamtrain.engine.engine import Engine


def connected(config_path: str, *, compares: bool = False) -> tuple[JobConfig, Engine]:
    """A worker's, connected to the servers; a server serves here until it is ended. compares: see Engine.of_job()."""
    config = load_config(config_path)
    engine = Engine.of_job(config, compares=compares)
    if engine.is_server:
        engine.serve()
    engine.connect()
    return config, engine


def leave() -> NoReturn:
    """Paddle's threads do not end by themselves."""
    sys.stdout.flush()
    os._exit(0)
