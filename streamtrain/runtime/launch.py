"""How child processes are started: their commands, their environment, their output. The one place for it.

Every child dies with the parent that started it (Linux); its environment names the process at the head of its family,
by which children of children see that their parent ended while they were starting. It has a session of its own, so that
a terminal's Ctrl-C reaches the parent alone, and finds the run's folder in its environment, for its state file: see
child_state. No child gets the secret by which agents know each other. Whatever proxies the environment names, children
do not ask each other through them.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Literal, TypeAlias

from streamtrain.engine import round_check
from streamtrain.engine.environment import engine_environment
from streamtrain.processes import HEAD, tie_to
from streamtrain.runtime import child_state
from streamtrain.runtime.secret import SECRET, SECRET_FILE

PACKAGE = Path(__file__).resolve().parents[1]
#: What runs in each server and each worker of a job.
ROLE_SCRIPT = PACKAGE / "online_trainer.py"
#: Where the roles of one machine listen.
HERE = "127.0.0.1"

Child: TypeAlias = "subprocess.Popen[bytes]"


@dataclass(frozen=True)
class Place:
    """Which role of a job a child is, and where the others are.

    servers, workers: host:port of each, numeric. gloo: host:port of the workers' own rendezvous. round: its name, by
    which roles of one round know each other, see engine/round_check.py; '': nothing is checked.
    """

    kind: Literal["server", "worker"]
    index: int
    servers: Sequence[str]
    workers: Sequence[str]
    gloo: str
    round: str = ""


def start_role(
    script: Path,
    arguments: Sequence[str],
    place: Place,
    run_dir: Path,
    variables: Mapping[str, str] | None = None,
    *,
    output: IO[bytes] | None = None,
    cwd: Path | None = None,
) -> Child:
    """Starts one role, with the variables that Paddle's launcher gives to it, and `variables`. output: where what it
    prints goes; None: where this process's does."""
    host, _, port = (place.servers if place.kind == "server" else place.workers)[place.index].rpartition(":")
    role = "PSERVER" if place.kind == "server" else "TRAINER"
    hosts = [entry.rpartition(":")[0] for entry in (*place.servers, *place.workers)]
    environment = {
        **_environment(run_dir, hosts),
        **engine_environment(),
        child_state.KEPT: "1",
        "PADDLE_PSERVERS_IP_PORT_LIST": ",".join(place.servers),
        "PADDLE_TRAINER_ENDPOINTS": ",".join(place.workers),
        "PADDLE_PORT": port,
        "PADDLE_ROLE": role,
        "TRAINING_ROLE": role,
        "PADDLE_TRAINER_ID": str(place.index if place.kind == "worker" else 0),
        "PADDLE_TRAINERS_NUM": str(len(place.workers)),
        "POD_IP": host,
        "PADDLE_GLOO_RENDEZVOUS": "3",
        "PADDLE_GLOO_FS_PATH": str(run_dir / "gloo"),
        "PADDLE_GLOO_HTTP_ENDPOINT": place.gloo,
        round_check.NAME: place.round,
        **(variables or {}),
    }
    return _start(
        [sys.executable, *round_check.interpreter_options(place.round), "-u", str(script), *arguments],
        environment,
        output,
        cwd=cwd,
    )


def start_build(arguments: Sequence[str], variables: Mapping[str, str], *, run_dir: Path, output: Path) -> Child:
    """Starts engine/dry_build.py in `run_dir` and a role's environment; what it prints goes to `output`."""
    with output.open("wb") as out:
        command = [sys.executable, "-u", str(PACKAGE / "engine" / "dry_build.py"), *arguments]
        return _start(command, {**_environment(run_dir), **variables}, out, cwd=run_dir)


def start_module(module: str, arguments: Sequence[str], *, run_dir: Path, output: Path) -> Child:
    """Starts `python -m module`; what it prints is appended to `output`."""
    output.parent.mkdir(parents=True, exist_ok=True)
    with output.open("ab") as out:
        return _start([sys.executable, "-m", module, *arguments], _environment(run_dir), out)


def _environment(run_dir: Path, hosts: Sequence[str] = ()) -> dict[str, str]:
    """A child imports the same code as this process, wherever it starts, and asks `hosts` without proxy."""
    path = os.pathsep.join(filter(None, [str(PACKAGE.parent), os.environ.get("PYTHONPATH", "")]))
    not_theirs = (SECRET, SECRET_FILE, round_check.NAME)
    inherited = {name: value for name, value in os.environ.items() if name not in not_theirs}
    return {
        **inherited, **_without_proxy(inherited, hosts), child_state.RUN_DIR: str(run_dir), "PYTHONPATH": path,
        "PYTHONUNBUFFERED": "1",
    }  # fmt: skip


def _without_proxy(environment: Mapping[str, str], hosts: Sequence[str]) -> dict[str, str]:
    """no_proxy with this host and `hosts` added, where proxies are set; both spellings, as libraries read one or the
    other."""
    if not any(name.lower().endswith("_proxy") for name in environment):
        return {}
    before = environment.get("no_proxy") or environment.get("NO_PROXY") or ""
    entries = dict.fromkeys(filter(None, [*before.split(","), "localhost", HERE, *hosts]))
    return dict.fromkeys(("no_proxy", "NO_PROXY"), ",".join(entries))


def _start(
    command: Sequence[str], environment: Mapping[str, str], output: IO[bytes] | None = None, *, cwd: Path | None = None
) -> Child:
    return subprocess.Popen(
        command,
        env={**environment, HEAD: str(os.getpid())},
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT if output is not None else None,
        start_new_session=True,
        preexec_fn=tie_to(os.getpid()),
    )
