"""streamtrain train"""

from __future__ import annotations

from typing import Annotated

import typer

from streamtrain.cli.options import ConfigOption, stop_on_signals


def command(
    config: ConfigOption,
    servers: Annotated[int | None, typer.Option(min=1, help="Servers; stream.servers by default.")] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Workers; stream.workers by default.")] = None,
) -> None:
    """Train: start servers and workers through Paddle's launcher and watch them."""
    from rich.console import Console

    from streamtrain.cli.live import PassPrinter
    from streamtrain.config import load_config
    from streamtrain.kafka.connect import properties_of
    from streamtrain.supervisor import Supervisor

    job = load_config(config)
    properties_of(job)
    printer = PassPrinter(job, Console(highlight=False, markup=False, soft_wrap=True))
    supervisor = Supervisor(
        job, servers=servers, workers=workers, stop=stop_on_signals(),
        on_restart=printer.restarted, tick=printer.tick,
    )  # fmt: skip
    with printer:
        supervisor.run()
