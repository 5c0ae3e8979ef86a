"""Roles as on several machines, each with its own agent, and strangers at the port where they meet."""

import asyncio
import contextlib
import os
import secrets
from pathlib import Path

import pytest

from streamtrain.errors import ConfigError
from streamtrain.runtime import part_state
from tests.faults.cases.hosts import Hosts
from tests.support.cli import run
from tests.support.scene import SPLITS, Scene

pytestmark = [pytest.mark.kafka, pytest.mark.paddle]
LINES = [b'{"kind":"failed","exit_code":2,"message":"x"}\n', b"\x00" * 1000 + b"\n", b"GET / HTTP/1.0\r\n\r\n", b""]


async def disturb(port: int) -> list[bytes]:
    """A stranger a line, and more silent ones than are held; what the first ones were told."""
    told = []
    for line in LINES:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        if line:
            writer.write(line)
            with contextlib.suppress(ConnectionError):
                told.append(await asyncio.wait_for(reader.read(), 10))
    for _ in range(40):
        await asyncio.open_connection("127.0.0.1", port)
    return told


def test_strangers_change_nothing(
    tmp_path: Path, kafka: dict[str, str], job: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STREAMTRAIN_SECRET", secrets.token_hex(32))
    scene = Scene(tmp_path, kafka, job)
    scene.hold(*SPLITS[1:])
    hosts = Hosts(scene, 1, 1)
    at = hosts.start_one("worker", 0)
    port = int(hosts.workers_at.rpartition(":")[2])
    at.wait_for(lambda: "the roles meet at 127.0.0.1" in at.output)
    told = asyncio.run(disturb(port))
    assert job.encode() not in b"".join(told) and str(port).encode() not in b"".join(told)

    environment = {**os.environ, "STREAMTRAIN_SECRET": "of another job altogether"}
    arguments = ["train", "--role", "server", "--servers-at", hosts.servers_at, "--workers-at", hosts.workers_at]
    refused = run(*arguments, "-m", str(scene.config.path), environment=environment)
    assert refused.returncode == ConfigError.exit_code, refused.stderr
    assert "has another STREAMTRAIN_SECRET than this role" in refused.stderr

    bridge = scene.start("bridge")
    hosts.start_all()
    hosts.run_until(lambda: scene.passes() >= 1)
    for part in ("server", "worker"):
        asked = run("health", "-m", str(scene.config.path), "--part", part)
        assert asked.stdout == "healthy\n", asked.stdout + asked.stderr
    assert part_state.read(scene.config.state_dir)
    asyncio.run(disturb(port))
    scene.release(*SPLITS[1:])
    hosts.run_until(hosts.all_done)
    bridge.finish()
    asked = run("health", "-m", str(scene.config.path), "--part", "worker")
    assert asked.returncode == 1 and "has ended" in asked.stdout
    assert at.process.returncode == 0, at.output
    assert "a connection from 127.0.0.1 was refused" in at.output
    assert at.output.count("was refused") == 1
    scene.close()
    scene.recount()


def test_other_addresses_than_loopback_need_the_secret(tmp_path: Path, kafka: dict[str, str], job: str) -> None:
    scene = Scene(tmp_path, kafka, job)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("STREAMTRAIN_SECRET")}
    done = run(
        "train", "--role", "worker", "--servers-at", "192.0.2.1:7000", "--workers-at", "127.0.0.1:7100",
        "-m", str(scene.config.path), environment=environment,
    )  # fmt: skip
    assert done.returncode == ConfigError.exit_code
    assert "STREAMTRAIN_SECRET is not set, and 192.0.2.1 is not a loopback address" in done.stderr
