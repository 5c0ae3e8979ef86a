"""docker/: the compose file holds together; the whole demo only when it is asked for, since it builds an image."""

import os
import shutil
import subprocess
import sys

import pytest

from tests.support.paths import COMPOSE_FILE, ROOT


def docker_answers() -> bool:
    if shutil.which("docker") is None:
        return False
    return subprocess.run(["docker", "compose", "version"], capture_output=True, check=False).returncode == 0


needs_docker = pytest.mark.skipif(not docker_answers(), reason="there is no docker with compose here")


def services(**environment: str) -> subprocess.CompletedProcess[str]:
    inherited = {name: value for name, value in os.environ.items() if name != "STREAMTRAIN_SECRET"}
    return subprocess.run(
        ["docker", "compose", "-f", str(COMPOSE_FILE), "config", "--services"],
        capture_output=True,
        text=True,
        check=False,
        env={**inherited, **environment},
    )


@needs_docker
def test_without_a_secret_nothing_is_started() -> None:
    done = services()
    assert done.returncode != 0 and "STREAMTRAIN_SECRET" in done.stderr and "share a secret" in done.stderr


@needs_docker
def test_the_compose_file_is_valid() -> None:
    done = services(STREAMTRAIN_SECRET="0123456789abcdef")
    assert done.returncode == 0, done.stderr
    assert set(done.stdout.split()) == {"kafka", "bridge", "server-0", "server-1", "worker-0", "worker-1", "serve"}


@needs_docker
@pytest.mark.timeout(1800)
@pytest.mark.skipif(
    "STREAMTRAIN_COMPOSE" not in os.environ, reason="only with STREAMTRAIN_COMPOSE=1: make compose-demo"
)
def test_the_demo() -> None:
    subprocess.run([sys.executable, "-m", "tests.faults.compose_demo"], check=True, cwd=ROOT)
