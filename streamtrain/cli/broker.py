"""streamtrain broker"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from streamtrain.cli.options import stop_on_signals


def command(
    config: Annotated[Path | None, typer.Option("-m", "--config", help="The job's config_online.yaml.")] = None,
    directory: Annotated[Path | None, typer.Option("--dir", help="Folder that keeps the data.")] = None,
    port: Annotated[int | None, typer.Option("--port", min=1, max=65535, help="Port on 127.0.0.1.")] = None,
) -> None:
    """Run the embedded Apache Kafka (KRaft, one node) in the foreground until SIGTERM or Ctrl-C."""
    from streamtrain.config import load_config
    from streamtrain.errors import ConfigError, KafkaError
    from streamtrain.kafka.embedded import EmbeddedBroker, find_running

    if config is None and directory is None:
        raise ConfigError("broker: neither -m CONFIG nor --dir DIR was given", remedy="Give one of them.")
    folder = directory if directory is not None else load_config(config or Path()).broker_dir
    stop = stop_on_signals()
    running = find_running(folder)
    if running is not None:
        raise KafkaError(f"a Kafka runs already in {folder}, at {running}", remedy="Use it, or end it first.")
    with EmbeddedBroker(folder, port, stop=stop) as broker:
        typer.echo(f"Kafka is up: bootstrap.servers {broker.bootstrap}, data in {folder}")
        while not stop.wait(0.5):
            if not broker.alive():
                raise KafkaError("the broker ended by itself", remedy=f"Read {folder}/log/server.log.")
