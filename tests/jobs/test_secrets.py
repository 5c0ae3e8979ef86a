"""What the environment holds: secrets stay in memory, proxies are not asked for the job's own roles."""

import secrets
import sys
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import psutil
import pytest

from tests.support.paths import ROLE_SCRIPT
from tests.support.proxy import counting_proxy
from tests.support.scene import SPLITS, Scene

pytestmark = [pytest.mark.kafka, pytest.mark.paddle]


def holding(value: str, folders: Iterable[Path]) -> list[Path]:
    """Files below the folders that hold the value."""
    files = (path for folder in folders for path in folder.rglob("*") if path.is_file())
    return [path for path in files if value.encode() in path.read_bytes()]


@pytest.fixture
def variables(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Secrets: one that the config names, one that it does not; STREAMTRAIN_ and PADDLE_ are no exceptions."""
    values = {name: secrets.token_hex(16) for name in ("STREAMTRAIN_KEY", "PADDLE_TOKEN", "AWS_SECRET_ACCESS_KEY")}
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    return values


@pytest.fixture
def scratch() -> Iterator[Path]:
    """A folder with a short path, as TMPDIR must be."""
    with tempfile.TemporaryDirectory(prefix="st-") as folder:
        yield Path(folder)


def test_secrets_are_in_no_file_and_proxies_are_not_asked(
    tmp_path: Path,
    kafka: dict[str, str],
    job: str,
    monkeypatch: pytest.MonkeyPatch,
    variables: dict[str, str],
    scratch: Path,
) -> None:
    monkeypatch.setenv("TMPDIR", str(scratch))
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    password = secrets.token_hex(16)
    with counting_proxy() as (port, asked):
        for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
            monkeypatch.setenv(name, f"http://user:{password}@127.0.0.1:{port}")
        properties = {**kafka, "ssl.key.password": "${STREAMTRAIN_KEY}"}
        scene = Scene(tmp_path / "job", properties, job, 1, 2)
        scene.hold(*SPLITS[1:])
        run = scene.run_to_pass(1)
        for value in (*variables.values(), password):
            assert not holding(value, [tmp_path, scratch])
        servers = [c for s in scene.roles("server") for c in s.net_connections("tcp") if c.status == psutil.CONN_LISTEN]
        assert {c.laddr.ip for c in servers} == {"127.0.0.1"}
        scene.release(*SPLITS[1:])
        run.finish()
        assert asked == []
    for value in (*variables.values(), password):
        assert not holding(value, [tmp_path, scratch])
    scene.close()
    scene.recount()


def test_under_paddles_own_launcher_the_environment_works_and_what_it_writes_is_the_users_alone(
    tmp_path: Path, kafka: dict[str, str], job: str, variables: dict[str, str]
) -> None:
    """`python -m paddle.distributed.launch`; fleetrun, which writes no environment, is in test_job."""
    scene = Scene(tmp_path, {**kafka, "ssl.key.password": "${STREAMTRAIN_KEY}"}, job)
    scene.start("bridge").finish()
    launcher = [sys.executable, "-m", "paddle.distributed.launch", "--run_mode", "ps", "--server_num", "1"]
    launcher += ["--trainer_num", "1", "--log_dir", "fleetlog", str(ROLE_SCRIPT), "-m", str(scene.config.path)]
    scene.spawn(launcher, name="launcher").end()
    assert "all done" in (tmp_path / "fleetlog" / "workerlog.0").read_text()
    written = holding(variables["STREAMTRAIN_KEY"], [tmp_path])
    assert written and {path.stat().st_mode & 0o777 for path in written} == {0o600}
    scene.close()
    scene.recount()
