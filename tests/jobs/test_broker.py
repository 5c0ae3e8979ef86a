"""`streamtrain broker`: a port in use, a starter that dies, data that stays."""

import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from streamtrain.kafka.embedded import EmbeddedBroker, find_running
from tests.support.cli import run
from tests.support.jobs import rows, write_config, write_split

pytestmark = pytest.mark.kafka


def test_a_port_in_use_is_refused(tmp_path: Path, broker: EmbeddedBroker) -> None:
    port = broker.bootstrap.rpartition(":")[2]
    done = run("broker", "--dir", str(tmp_path / "other"), "--port", port)
    assert done.returncode == 4 and f"port {port} of 127.0.0.1 is in use" in done.stderr


def test_a_broker_is_found_kept_and_dies_with_its_starter(tmp_path: Path) -> None:
    config = write_config(tmp_path, "shared", {}, runner={"end_day": "20240101"})
    for split in ("20240101/0000", "20240101/1200"):
        write_split(tmp_path / "data", split, rows(5))
    starter = subprocess.Popen([sys.executable, "-m", "streamtrain.cli.main", "broker", "-m", str(config.path)])
    try:
        deadline = time.monotonic() + 60
        while (found := find_running(config.broker_dir)) is None:
            assert starter.poll() is None and time.monotonic() < deadline
            time.sleep(0.1)
        assert "2 of 2 splits" in run("bridge", "-m", str(config.path)).stdout
        assert run("broker", "-m", str(config.path)).returncode == 4
    finally:
        starter.kill()
        starter.wait()
    while find_running(config.broker_dir) is not None:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    with EmbeddedBroker(config.broker_dir) as again:  # the data is still there
        assert again.bootstrap == found or again.alive()
        assert "2 of 2 splits" in run("bridge", "-m", str(config.path)).stdout


def test_status_when_the_broker_is_away(tmp_path: Path) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        config = write_config(tmp_path, "j", {"bootstrap.servers": f"127.0.0.1:{unused.getsockname()[1]}"})
        done = run("status", "-m", str(config.path))
    assert done.returncode == 4 and "127.0.0.1" in done.stderr
