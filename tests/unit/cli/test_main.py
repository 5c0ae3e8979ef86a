"""The command as its users meet it: fast help, exit codes, one line an error, never a traceback."""

import json
import re
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from streamtrain.config import NO_EFFECT, RunnerConfig, StreamConfig
from streamtrain.kafka.embedded import EmbeddedBroker, find_running
from tests.support.jobs import rows, write_config, write_split
from tests.support.paths import ROOT


def run(*arguments: str, seconds: float = 60) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-m", "streamtrain.cli.main", *arguments],
        capture_output=True, text=True, timeout=seconds, check=False, cwd=ROOT,
    )  # fmt: skip
    assert "Traceback" not in done.stderr
    return done


def test_help_imports_neither_paddle_nor_kafka() -> None:
    code = (
        "import sys, streamtrain.cli.main\n"
        "print([m for m in ('paddle', 'confluent_kafka', 'numpy', 'pydantic', 'matplotlib') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "[]"
    assert "recount" in run("--help").stdout


@pytest.mark.parametrize("text", ["runner:\n\tx: 1\n", "runner: {}\n", "- 1\n", "a: 1\na: 2\n", "\x00"])
def test_a_bad_config_is_exit_code_2(tmp_path: Path, text: str) -> None:
    path = tmp_path / "config_online.yaml"
    path.write_text(text)
    for command in (["config", "check"], ["run"], ["bridge"], ["train"], ["status"], ["recount"]):
        done = run(*command, "-m", str(path))
        assert done.returncode == 2 and done.stderr.startswith("error: ") and str(path) in done.stderr


def test_config_check_shows_it_masked(tmp_path: Path) -> None:
    config = write_config(tmp_path, "j", {"bootstrap.servers": "h:1", "sasl.password": "hush"})
    done = run("config", "check", "-m", str(config.path), "--json")
    assert json.loads(done.stdout)["kafka"]["sasl.password"] == "********" and "hush" not in done.stdout


def test_recount_without_a_checkpoint(tmp_path: Path) -> None:
    config = write_config(tmp_path, "j", {"bootstrap.servers": "127.0.0.1:1"})
    done = run("recount", "-m", str(config.path))
    assert done.returncode == 5 and "has no checkpoint" in done.stderr


def test_status_when_the_broker_is_away(tmp_path: Path) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        config = write_config(tmp_path, "j", {"bootstrap.servers": f"127.0.0.1:{unused.getsockname()[1]}"})
        done = run("status", "-m", str(config.path))
    assert done.returncode == 4 and "127.0.0.1" in done.stderr


def test_the_embedded_kafka_must_run_for_train(tmp_path: Path) -> None:
    config = write_config(tmp_path, "j", {})
    done = run("train", "-m", str(config.path))
    assert done.returncode == 4 and "streamtrain broker -m" in done.stderr


@pytest.mark.kafka
def test_a_port_in_use_is_refused(tmp_path: Path, broker: EmbeddedBroker) -> None:
    port = broker.bootstrap.rpartition(":")[2]
    done = run("broker", "--dir", str(tmp_path / "other"), "--port", port)
    assert done.returncode == 4 and f"port {port} of 127.0.0.1 is in use" in done.stderr


@pytest.mark.kafka
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


def test_every_key_is_documented() -> None:
    text = (ROOT / "docs" / "config.md").read_text()
    for key in (*RunnerConfig.model_fields, *StreamConfig.model_fields, *NO_EFFECT):
        assert f"`{key}`" in text


def test_the_readmes_commands_exist() -> None:
    """Every `streamtrain ...` and `make ...` in the docs is a command that there is."""
    help_text = run("--help").stdout
    targets = (ROOT / "Makefile").read_text()
    for page in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))):
        text = page.read_text()
        for command in re.findall(r"`?streamtrain ([a-z]+)", text):
            assert re.search(rf"\b{command}\b", help_text), f"{page.name}: streamtrain {command}"
        for target in re.findall(r"^(?:\| )?`?make ([a-z-]+)", text, re.MULTILINE):
            assert f"\n{target}:" in targets, f"{page.name}: make {target}"
