"""streamtrain health"""

from __future__ import annotations

from enum import Enum
from typing import Annotated

import typer

from streamtrain.cli.options import ConfigOption


class Part(str, Enum):
    """What is asked."""

    bridge = "bridge"
    server = "server"
    worker = "worker"


def command(
    config: ConfigOption,
    part: Annotated[Part, typer.Option(envvar="STREAMTRAIN_ROLE", help="The bridge, or a role of several machines.")],
    index: Annotated[int, typer.Option(envvar="STREAMTRAIN_INDEX", min=0, help="The role's number.")] = 0,
    within: Annotated[
        float | None, typer.Option(min=0, help="Seconds without a sign of life that are allowed: 30, the bridge 150.")
    ] = None,
) -> None:
    """Whether a part on this machine is alive and gets on: exit code 1, and the reason, if not."""
    from streamtrain.config import load_config
    from streamtrain.runtime.health import BRIDGE_S, ROLE_S, problem

    job = load_config(config)
    bridge = part is Part.bridge
    limit = within if within is not None else BRIDGE_S + job.runner.data_sleep_second if bridge else ROLE_S
    reason = problem(job.state_dir, "bridge" if bridge else f"{part.value}-{index}", limit)
    if reason is not None:
        typer.echo(reason)
        raise typer.Exit(1)
    typer.echo("healthy")
