"""Whose servers listen at a job's endpoints: those of its own round, or another job's.

A port is chosen before a server listens there, so that another job's server may get it first. Paddle asks no server
whose it is: a worker would pull from that job's tables and push into them. Paddle's servers also answer HTTP, and /vars
(brpc's builtin services) has the process's id, its parent's and its command line. The processes of a round share

    a name      in STREAMTRAIN_ROUND, and of a server in its command line too: `python -X streamtrain_round=NAME`
    a launcher  without a name, where one launcher has started all roles on this machine: their parent

A round of neither, whose roles several launchers have started, is not checked: nor is one whose name is empty.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import re
from collections.abc import Iterator

from streamtrain.errors import TrainingError

NAME = "STREAMTRAIN_ROUND"
#: Of an interpreter that does nothing with it.
OPTION = "streamtrain_round"
_JOB = "SYS_JOB_ID"
_ASKED = "/vars/pid;ppid;process_cmdline?console=1"
_NUMBER = r"^{} : (\d+)\s*$"


@contextlib.contextmanager
def own_gloo() -> Iterator[None]:
    """Around fleet.init(): the workers' rendezvous (gloo) too is one of this round alone, whoever listens there.
    SYS_JOB_ID is Paddle's variable for it; where its user has set it, it stays."""
    mark = _name() or _launcher()
    if not mark or _JOB in os.environ:
        yield
        return
    os.environ[_JOB] = mark
    try:
        yield
    finally:
        del os.environ[_JOB]


def check_server(endpoint: str, timeout_s: float) -> None:
    """endpoint: host:port of a server that listens, of this round as the environment has it.

    Raises TrainingError when it is another one, OSError while it does not answer.
    """
    name, launcher = _name(), _launcher()
    if not name and not launcher:
        return
    variables = _variables(endpoint, timeout_s)
    ours = f"{OPTION}={name}\n" in variables if name else _number(variables, "ppid") == launcher
    if not ours:
        process = _number(variables, "pid")
        whose = f"process {process} listens there, which is" if process else "what listens there is"
        raise TrainingError(
            f"server {endpoint}: {whose} no server of this job",
            remedy="Another program has taken the port while this job started: start it again. With --servers-at, give "
            "each job ports of its own.",
        )


def _name() -> str:
    return os.environ.get(NAME, "")


def _launcher() -> str:
    """The process that has started all roles, which are on one machine; '' when there may be several."""
    if NAME in os.environ:
        return ""
    endpoints = f"{os.environ.get('PADDLE_PSERVERS_IP_PORT_LIST', '')},{os.environ.get('PADDLE_TRAINER_ENDPOINTS', '')}"
    hosts = {endpoint.rpartition(":")[0] for endpoint in endpoints.split(",") if endpoint}
    return str(os.getppid()) if len(hosts) == 1 else ""


def _variables(endpoint: str, timeout_s: float) -> str:
    """What the server says of its process; '' when it is none of Paddle's. Raises OSError."""
    host, _, port = endpoint.rpartition(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=timeout_s)
    try:
        connection.request("GET", _ASKED)
        return connection.getresponse().read(1 << 16).decode("utf-8", "replace")
    except http.client.HTTPException:
        return ""
    finally:
        connection.close()


def _number(variables: str, name: str) -> str:
    found = re.search(_NUMBER.format(name), variables, re.MULTILINE)
    return found.group(1) if found else ""
