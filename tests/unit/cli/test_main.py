"""The command as its users meet it: fast help, exit codes, one line an error, never a traceback."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from streamtrain.config import NO_EFFECT, RunnerConfig, StreamConfig
from tests.support.cli import run, run_here
from tests.support.jobs import write_config
from tests.support.paths import ROOT


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
        done = run_here(*command, "-m", str(path))
        assert done.returncode == 2 and done.stderr.startswith("error: ") and str(path) in done.stderr


def test_config_check_shows_it_masked(tmp_path: Path) -> None:
    config = write_config(tmp_path, "j", {"bootstrap.servers": "h:1", "sasl.password": "hush"})
    done = run_here("config", "check", "-m", str(config.path), "--json")
    assert json.loads(done.stdout)["kafka"]["sasl.password"] == "********" and "hush" not in done.stdout


def test_recount_without_a_checkpoint(tmp_path: Path) -> None:
    config = write_config(tmp_path, "j", {"bootstrap.servers": "127.0.0.1:1"})
    done = run_here("recount", "-m", str(config.path))
    assert done.returncode == 5 and "has no checkpoint" in done.stderr


def test_the_embedded_kafka_must_run_for_train(tmp_path: Path) -> None:
    config = write_config(tmp_path, "j", {})
    done = run_here("train", "-m", str(config.path))
    assert done.returncode == 4 and "streamtrain broker -m" in done.stderr


def test_every_key_is_documented() -> None:
    text = (ROOT / "docs" / "config.md").read_text()
    for key in (*RunnerConfig.model_fields, *StreamConfig.model_fields, *NO_EFFECT):
        assert f"`{key}`" in text


def test_the_readmes_commands_exist() -> None:
    """Every `streamtrain ...` and `make ...` in the docs is a command that there is."""
    help_text = run_here("--help").stdout
    targets = (ROOT / "Makefile").read_text()
    for page in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))):
        text = page.read_text()
        for command in re.findall(r"(?<!from )streamtrain ([a-z]+)", text):
            assert re.search(rf"\b{command}\b", help_text), f"{page.name}: streamtrain {command}"
        for target in re.findall(r"^(?:\| )?`?make ([a-z-]+)", text, re.MULTILINE):
            assert f"\n{target}:" in targets, f"{page.name}: make {target}"
