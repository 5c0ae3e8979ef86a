"""What a child is started with; Paddle itself is started by the jobs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from streamtrain.runtime import child_state, launch
from streamtrain.runtime.launch import Place
from tests.support.processes import is_zombie, until

SHOW = """import json, os, sys
shown = {"arguments": sys.argv[1:], "environment": dict(os.environ), "session": os.getsid(0), "pid": os.getpid()}
print(json.dumps(shown))
"""


@pytest.fixture
def script(tmp_path: Path) -> Path:
    path = tmp_path / "show.py"
    path.write_text(SHOW)
    return path


def test_a_role_has_paddles_variables(script: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    servers, workers = ["10.0.0.1:7000", "10.0.0.2:7000"], ["10.0.0.3:7100", "10.0.0.4:7100"]
    cases = (("server", 1, "7000", "PSERVER", "0"), ("worker", 1, "7100", "TRAINER", "1"))
    for kind, index, port, role, trainer in cases:
        place = Place(kind, index, servers, workers, "10.0.0.1:7001")  # type: ignore[arg-type]
        assert launch.start_role(script, ["-m", "c.yaml"], place, tmp_path).wait(30) == 0
        shown = json.loads(capfd.readouterr().out)
        environment = shown["environment"]
        assert shown["arguments"] == ["-m", "c.yaml"] and shown["session"] == shown["pid"]
        assert environment["TRAINING_ROLE"] == environment["PADDLE_ROLE"] == role
        assert environment["PADDLE_PSERVERS_IP_PORT_LIST"] == ",".join(servers)
        assert environment["PADDLE_TRAINER_ENDPOINTS"] == ",".join(workers)
        assert (environment["PADDLE_PORT"], environment["PADDLE_TRAINER_ID"]) == (port, trainer)
        assert environment["POD_IP"] == (servers if kind == "server" else workers)[index].partition(":")[0]
        assert environment["PADDLE_GLOO_HTTP_ENDPOINT"] == "10.0.0.1:7001"
        assert environment[child_state.RUN_DIR] == str(tmp_path) and environment[child_state.KEPT] == "1"
        assert environment["FLAGS_enable_pir_api"] == "0"


def test_no_child_gets_the_roles_secret_or_asks_the_others_through_a_proxy(
    script: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("STREAMTRAIN_SECRET", "STREAMTRAIN_SECRET_FILE"):
        monkeypatch.setenv(name, "of the agents alone")
    place = Place("worker", 0, ["10.0.0.1:7000"], ["10.0.0.3:7100"], "10.0.0.1:7001")
    for proxy, expected in (("", None), ("http://proxy", "example.com,localhost,127.0.0.1,10.0.0.1,10.0.0.3")):
        for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "no_proxy", "NO_PROXY", "all_proxy"):
            monkeypatch.delenv(name, raising=False)
        if proxy:
            monkeypatch.setenv("HTTPS_PROXY", proxy)
            monkeypatch.setenv("no_proxy", "example.com")
        assert launch.start_role(script, [], place, tmp_path).wait(30) == 0
        environment = json.loads(capfd.readouterr().out)["environment"]
        assert "of the agents alone" not in environment.values()
        assert environment.get("no_proxy") == environment.get("NO_PROXY") == expected


def test_a_module_finds_the_package_and_its_run_folder(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    output = tmp_path / "log" / "output"
    child = launch.start_module("streamtrain.cli.main", ["--version"], run_dir=tmp_path, output=output)
    assert child.wait(30) == 0 and output.read_text().strip()


def test_children_die_with_their_parent(script: Path, tmp_path: Path) -> None:
    """The parent is killed; the child, which would sleep for ever, goes too."""
    script.write_text("import os, sys, time\nprint(os.getpid(), flush=True)\ntime.sleep(1000)\n")
    parent = (
        "import os, pathlib, signal, time\n"
        "from streamtrain.runtime.launch import Place, start_role\n"
        f"place = Place('worker', 0, ['h:1'], ['h:2'], 'h:3')\n"
        f"start_role(pathlib.Path({str(script)!r}), [], place, pathlib.Path({str(tmp_path)!r}))\n"
        "time.sleep(1000)\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(launch.PACKAGE.parent)}
    with subprocess.Popen([sys.executable, "-c", parent], stdout=subprocess.PIPE, env=environment) as running:
        assert running.stdout is not None
        pid = int(running.stdout.readline())
        running.kill()
        running.stdout.read()  # ends when the child, which holds it too, has ended
    until(lambda: is_zombie(pid))
