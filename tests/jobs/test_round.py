"""A job never trains into the servers of another one, whose port one of its own was to have."""

from pathlib import Path
from typing import Any

import orjson
import pytest

from streamtrain.processes import end_family
from streamtrain.runtime.child_state import RUN_DIR
from streamtrain.runtime.launch import Child, Place, start_role
from tests.support.jobs import write_config
from tests.support.paths import TESTS
from tests.support.ports import free_port
from tests.support.processes import until

pytestmark = pytest.mark.paddle


def at(port: int) -> str:
    return f"127.0.0.1:{port}"


def start(folder: Path, server: int, layers: list[int], go: Path) -> list[Child]:
    """Both roles of a job, whose server is to listen at the port."""
    folder.mkdir()
    config = write_config(
        folder, folder.name, {"bootstrap.servers": at(1)}, hyper_parameters={"slot_num": 8, "layer_sizes": layers}
    )
    gloo, worker = at(free_port()), at(free_port())
    arguments = [str(config.path), str(folder / "values.json"), str(go)]
    script = TESTS / "support" / "round_role.py"
    return [
        start_role(script, arguments, Place(kind, 0, [at(server)], [worker], gloo, folder.name), folder, cwd=folder)
        for kind in ("server", "worker")
    ]


def found(folder: Path) -> dict[str, Any]:
    path = folder / "values.json"
    until(lambda: path.exists() and path.stat().st_size > 0, 60)
    return dict(orjson.loads(path.read_bytes()))


def test_another_jobs_server_at_the_port(tmp_path: Path) -> None:
    """The second network has more parameters: without the check its first values are those of the first job, too."""
    port, go = free_port(), tmp_path / "go"
    roles = start(tmp_path / "first", port, [8], go)
    try:
        until((tmp_path / "first" / "values.json.joined").exists, 60)
        roles += start(tmp_path / "second", port, [64], go)
        error = found(tmp_path / "second")["error"]
        assert error == f"server {at(port)}: process {roles[0].pid} listens there, which is no server of this job"
        go.touch()
        values = found(tmp_path / "first")
        assert len(values["before"]["fc_0.b"]) == 8 and any(values["before"]["fc_0.w"])
        assert values["after"] == values["before"]
    finally:
        for name in ("first", "second"):
            end_family(roles, RUN_DIR, str(tmp_path / name))
