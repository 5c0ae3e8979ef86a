"""All roles of a job on one machine, started and ended together.

Paddle's launcher is not needed for it: it imports Paddle before it starts them, writes its environment into files,
chooses ports that another process may take, and says little: after a worker's crash it can end with exit code 0, and
after a server's death it waits without end (measured).
"""

from __future__ import annotations

import socket
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Literal

from streamtrain.errors import DiskError, TrainingError
from streamtrain.files import refusals
from streamtrain.processes import end_family
from streamtrain.runtime import child_state, launcher_files
from streamtrain.runtime.launch import HERE, Child, Place, start_role

_KINDS: tuple[Literal["server", "worker"], ...] = ("server", "worker")


@dataclass(frozen=True)
class Roles:
    """children: by name, such as "server 0". ports: bound, until all have ended, so that no other process gets them."""

    children: dict[str, Child]
    ports: list[socket.socket]

    def ended(self) -> dict[str, int]:
        """Exit codes of those whose process has ended, by name."""
        codes = {name: child.poll() for name, child in self.children.items()}
        return {name: code for name, code in codes.items() if code is not None}


def start_roles(
    script: Path,
    arguments: Sequence[str],
    *,
    servers: int,
    workers: int,
    run_dir: Path,
    log_dir: Path,
    cwd: Path,
    variables: Mapping[str, str] | None = None,
) -> Roles:
    """Starts `script` in every role, in `cwd`; end_roles() ends them all.

    What they print is appended to log_dir's serverlog.N and workerlog.N. variables: more for their environment. Raises
    DiskError when log_dir cannot be written, TrainingError for what the system refuses.
    """
    roles = Roles({}, [])
    round_name = uuid.uuid4().hex
    try:
        roles.ports.extend(_held_port() for _ in range(servers + workers + 1))
        launcher_files.close_off_in(log_dir)
        *at, gloo = [f"{HERE}:{port.getsockname()[1]}" for port in roles.ports]
        for kind, count in zip(_KINDS, (servers, workers), strict=True):
            for index in range(count):
                place = Place(kind, index, at[:servers], at[servers:], gloo, round_name)
                with _log(log_dir, f"{kind}log.{index}") as output:
                    roles.children[f"{kind} {index}"] = start_role(
                        script, arguments, place, run_dir, variables, output=output, cwd=cwd
                    )
    except BaseException as error:
        end_roles(roles, run_dir)
        if not isinstance(error, OSError):
            raise
        raise TrainingError(
            f"the roles cannot be started: {error.strerror or error}", remedy="See the limits of processes and memory."
        ) from error
    return roles


def _log(log_dir: Path, name: str) -> IO[bytes]:
    with refusals(DiskError, log_dir, "cannot be written", remedy="Check the folder.", full="Make room there."):
        log_dir.mkdir(parents=True, exist_ok=True)
        return (log_dir / name).open("ab")


def end_roles(roles: Roles, run_dir: Path) -> None:
    """Ends them and whatever they started, orphans too; waits until they are gone."""
    try:
        end_family(list(roles.children.values()), child_state.RUN_DIR, str(run_dir))
    finally:
        for port in roles.ports:
            port.close()


def _held_port() -> socket.socket:
    """A free port of HERE that nobody gets who asks for any: Paddle, whose sockets have SO_REUSEADDR, may listen there
    all the same (Linux). The option is set after the bind: with it, two sockets might get one port."""
    held = socket.socket()
    held.bind((HERE, 0))
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    return held
