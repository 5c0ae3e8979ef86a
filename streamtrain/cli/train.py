"""streamtrain train"""

from __future__ import annotations

import logging
import sys
import threading
from enum import Enum
from typing import TYPE_CHECKING, Annotated

import typer

from streamtrain.cli.options import ConfigOption, ProfileOption, stop_on_signals

if TYPE_CHECKING:
    from streamtrain.config import JobConfig

log = logging.getLogger("streamtrain.train")


class Role(str, Enum):
    """What this process is, of a job on several machines."""

    server = "server"
    worker = "worker"


def command(
    config: ConfigOption,
    servers: Annotated[int | None, typer.Option(min=1, help="Servers; stream.servers by default.")] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Workers; stream.workers by default.")] = None,
    role: Annotated[
        Role | None, typer.Option(envvar="STREAMTRAIN_ROLE", help="Run this one role; the others run elsewhere.")
    ] = None,
    index: Annotated[int, typer.Option(envvar="STREAMTRAIN_INDEX", min=0, help="Its number, from 0.")] = 0,
    servers_at: Annotated[
        str,
        typer.Option(
            envvar="STREAMTRAIN_SERVERS_AT",
            metavar="HOST:PORT,...",
            help="Every server's address; the first one's next port is used too.",
        ),
    ] = "",
    workers_at: Annotated[
        str,
        typer.Option(
            envvar="STREAMTRAIN_WORKERS_AT",
            metavar="HOST:PORT,...",
            help="Every worker's address; all roles meet at the first.",
        ),
    ] = "",
    listen: Annotated[
        str,
        typer.Option(
            envvar="STREAMTRAIN_LISTEN",
            metavar="ADDRESS",
            help="The address of this machine that worker 0 binds; the one of --workers-at by default.",
        ),
    ] = "",
    profile: ProfileOption = False,
) -> None:
    """Train: all servers and workers on this machine, watched; or, with --role, one of them."""
    stop = stop_on_signals()
    from streamtrain.config import load_config
    from streamtrain.engine import profiling
    from streamtrain.kafka.connect import properties_of

    job = load_config(config)
    profiling.ask_for(profile)
    properties = properties_of(job)
    if role is not None:
        _one_role(job, role, index, servers_at, workers_at, listen, stop)
        return
    from rich.console import Console

    from streamtrain.cli.live import PassPrinter
    from streamtrain.contracts import phases
    from streamtrain.kafka.waiting import report_waiting, wait_for_cluster
    from streamtrain.runtime import preflight
    from streamtrain.runtime.part_state import beginning
    from streamtrain.runtime.supervisor import Supervisor

    console = Console(highlight=False, markup=False, soft_wrap=True)
    with beginning(job.state_dir, "trainer") as report:
        preflight.refuse(job, bridge=False, stop=stop)
        wait_for_cluster(properties, None, report_waiting(log, report), stop)  # before seconds of importing Paddle
    printer = PassPrinter(job, console)
    supervisor = Supervisor(
        job, servers=servers, workers=workers, stop=stop, on_restart=printer.restarted, tick=printer.tick
    )
    with printer:
        supervisor.run()
    if stop.is_set():
        console.print(phases.STOPPED)


def _one_role(
    job: JobConfig, role: Role, index: int, servers_at: str, workers_at: str, listen: str, stop: threading.Event
) -> None:
    """Its log is this process's output, as of any container."""
    from streamtrain.masking import show_no_secrets
    from streamtrain.runtime.agent import Agent
    from streamtrain.runtime.rendezvous import Addresses

    addresses = Addresses.parse(servers_at, workers_at)
    logging.basicConfig(
        stream=sys.stdout,
        force=True,
        level=logging.INFO,
    )
    show_no_secrets()
    Agent(job, "server" if role is Role.server else "worker", index, addresses, listen, stop).run()
