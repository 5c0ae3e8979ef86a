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


@needs_docker
def test_the_compose_file_is_valid() -> None:
    done = subprocess.run(
        ["docker", "compose", "-f", str(COMPOSE_FILE), "config", "--services"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert set(done.stdout.split()) == {"kafka", "bridge", "server-0", "server-1", "worker-0", "worker-1", "serve"}


@needs_docker
@pytest.mark.timeout(1800)
@pytest.mark.skipif(
    "STREAMTRAIN_COMPOSE" not in os.environ, reason="only with STREAMTRAIN_COMPOSE=1: make compose-demo"
)
def test_the_demo() -> None:
    subprocess.run([sys.executable, "-m", "tests.faults.compose_demo"], check=True, cwd=ROOT)
