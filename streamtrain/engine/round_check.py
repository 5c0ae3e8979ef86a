"""Whose servers listen at a job's endpoints: those of its own round, or another job's.

A port is chosen before a server listens there, so that another job's server may get it first. Paddle asks no server
whose it is: a worker would pull from that job's tables and push into them. So the processes of a round share a name:

    STREAMTRAIN_ROUND=NAME                  of each role
    python -X streamtrain_round=NAME ..     of each server too

Paddle's servers also answer HTTP, and /vars (brpc's builtin services) has the process's command line. Roles that
Paddle's launcher (fleetrun) has started on one machine are named after its process. A round without a name is not
checked: roles on several machines without an agent, or started by a script of one's own, which may set
STREAMTRAIN_ROUND.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import re
from collections.abc import Iterator
from pathlib import Path

import psutil

from streamtrain.engine.server_http import ask
from streamtrain.errors import TrainingError

NAME = "STREAMTRAIN_ROUND"
_OPTION = "streamtrain_round"
_JOB = "SYS_JOB_ID"
_ASKED = "/vars/pid;process_cmdline?console=1"


def round_name() -> str:
    """Of the round that this process is a role of, and has been started for; '' when it has none."""
    if NAME in os.environ:
        return os.environ[NAME]
    endpoints = f"{os.environ.get('PADDLE_PSERVERS_IP_PORT_LIST', '')},{os.environ.get('PADDLE_TRAINER_ENDPOINTS', '')}"
    hosts = {endpoint.rpartition(":")[0] for endpoint in endpoints.split(",") if endpoint}
    return _of_launcher(os.getppid()) if len(hosts) == 1 else ""


def _of_launcher(process: int) -> str:
    """Of the roles that it has started; '' when it is no launcher of Paddle's, or one of several."""
    try:
        words = psutil.Process(process).cmdline()
        # seconds would differ by one from process to process: the kernel counts ticks (proc(5), starttime)
        ticks = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[19]
    except (psutil.Error, OSError):
        return ""
    launches = any(word == "paddle.distributed.launch" or Path(word).name == "fleetrun" for word in words)
    alone = not any(word.startswith(("--nnodes", "--master", "--ips")) for word in words)
    return f"of-launcher-{process}-{ticks}" if launches and alone else ""


def interpreter_options(name: str) -> list[str]:
    """Of a server's interpreter, which does nothing with them."""
    return ["-X", f"{_OPTION}={name}"] if name else []


@contextlib.contextmanager
def own_gloo() -> Iterator[None]:
    """Around fleet.init(): the workers' rendezvous (gloo) too is one of this round alone, whoever listens there.
    SYS_JOB_ID is Paddle's variable for it; where its user has set it, it stays."""
    name = round_name()
    if not name or _JOB in os.environ:
        yield
        return
    os.environ[_JOB] = name
    try:
        yield
    finally:
        del os.environ[_JOB]


def check_server(endpoint: str, timeout_s: float) -> None:
    """endpoint: host:port of a server that listens. Raises TrainingError when it is none of this process's round,
    OSError while it does not answer."""
    name = round_name()
    if not name:
        return
    variables = _variables(endpoint, timeout_s)
    if f"\n{_OPTION}={name}\n" in variables:
        return
    process = re.search(r"^pid : (\d+)\s*$", variables, re.MULTILINE)
    whose = f"process {process.group(1)} listens there, which is" if process else "what listens there is"
    raise TrainingError(
        f"server {endpoint}: {whose} no server of this job",
        remedy="Another program has taken the port while this job started: start it again. With --servers-at, give "
        "each job ports of its own.",
    )


def _variables(endpoint: str, timeout_s: float) -> str:
    """What the server says of its process; '' when it is none of Paddle's. Raises OSError."""
    try:
        return ask(endpoint, _ASKED, timeout_s=timeout_s)[1]
    except http.client.RemoteDisconnected:
        raise  # an OSError: it has ended, or is just ending
    except http.client.HTTPException:
        return ""
