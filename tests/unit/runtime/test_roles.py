"""All roles of one machine: their ports, their output, their end."""

import socket
from pathlib import Path

import psutil
import pytest

from streamtrain.errors import DiskError, TrainingError
from streamtrain.runtime import roles as module
from streamtrain.runtime.roles import Roles, end_roles, start_roles
from tests.support.processes import until

#: Says which role it is and where, and waits.
ROLE = """import os, sys, time
e = os.environ
print(e["TRAINING_ROLE"], e["PADDLE_TRAINER_ID"], e["PADDLE_PORT"], *sys.argv[1:], flush=True)
print(*os.listdir("/proc/self/fd"), flush=True)
time.sleep(float(os.environ.get("SECONDS", 1000)))
sys.exit(3)
"""


def start(folder: Path, **variables: str) -> Roles:
    script = folder / "role.py"
    script.write_text(ROLE)
    return start_roles(
        script, ["-m", "c.yaml"], servers=2, workers=1, run_dir=folder, log_dir=folder / "log", cwd=folder,
        variables=variables,
    )  # fmt: skip


def said(folder: Path, name: str) -> list[str]:
    log = folder / "log" / name
    until(lambda: log.exists() and log.read_text().count("\n") >= 2, 30)
    return log.read_text().splitlines()


def test_they_are_started_and_ended_together(tmp_path: Path) -> None:
    roles = start(tmp_path)
    try:
        assert list(roles.children) == ["server 0", "server 1", "worker 0"]
        ports = [str(port.getsockname()[1]) for port in roles.ports]
        assert len(set(ports)) == 4  # the last one is gloo's
        lines = [said(tmp_path, name) for name in ("serverlog.0", "serverlog.1", "workerlog.0")]
        assert [line[0].split() for line in lines] == [
            [kind, "0", port, "-m", "c.yaml"]
            for kind, port in zip(("PSERVER", "PSERVER", "TRAINER"), ports, strict=False)
        ]
        held = {str(port.fileno()) for port in roles.ports}
        for _, open_files in lines:
            assert {link for link in open_files.split() if int(link) > 3} & held == set()
        assert roles.ended() == {}
    finally:
        end_roles(roles, tmp_path)
    assert set(roles.ended()) == set(roles.children)
    assert all(port.fileno() == -1 for port in roles.ports)


def test_a_role_that_ends_is_named(tmp_path: Path) -> None:
    roles = start(tmp_path, SECONDS="0")
    try:
        until(lambda: len(roles.ended()) == 3, 30)
        assert roles.ended() == dict.fromkeys(roles.children, 3)
    finally:
        end_roles(roles, tmp_path)


def test_nobody_who_asks_for_any_port_gets_one_that_is_held(tmp_path: Path) -> None:
    roles = start(tmp_path)
    try:
        host, port = roles.ports[0].getsockname()
        with socket.socket() as other, pytest.raises(OSError, match="in use"):
            other.bind((host, port))
        with socket.socket() as paddles:  # as brpc's and http.server's
            paddles.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            paddles.bind((host, port))
            paddles.listen()
            socket.create_connection((host, port), 5).close()
    finally:
        end_roles(roles, tmp_path)


def test_what_cannot_be_started_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "log").write_text("in the way")
    with pytest.raises(DiskError, match="log cannot be written: File exists"):
        start(tmp_path)
    (tmp_path / "log").unlink()
    start_role, started = module.start_role, []

    def second_fails(*arguments: object, **more: object) -> object:
        if started:
            raise BlockingIOError(11, "Resource temporarily unavailable")
        started.append(start_role(*arguments, **more))  # type: ignore[arg-type]
        return started[0]

    monkeypatch.setattr(module, "start_role", second_fails)
    with pytest.raises(TrainingError, match="the roles cannot be started: Resource temporarily unavailable"):
        start(tmp_path)
    assert started[0].returncode is not None and not psutil.pid_exists(started[0].pid)


def test_what_paddles_launcher_left_there_is_closed_off(tmp_path: Path) -> None:
    (tmp_path / "log").mkdir()
    left = tmp_path / "log" / "envlog.0"
    left.write_text("A=secret")
    left.chmod(0o644)
    end_roles(start(tmp_path), tmp_path)
    assert left.stat().st_mode & 0o777 == 0o600
