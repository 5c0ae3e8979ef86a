"""`config check` without the model: what it prints, as text and as JSON."""

import json
from pathlib import Path

from tests.support.cli import run_here
from tests.support.jobs import write_config

KAFKA = {"bootstrap.servers": "127.0.0.1:1"}


def check(config: Path, *options: str) -> tuple[int, str, str]:
    done = run_here("config", "check", "-m", str(config), "--no-model", *options)
    return done.returncode, done.stdout, done.stderr


def test_a_good_config_is_shown_as_understood(tmp_path: Path) -> None:
    config = write_config(tmp_path, "job", {**KAFKA, "sasl.password": "hush"}).path
    code, shown, errors = check(config)
    assert (code, errors) == (0, "") and "# 4 splits, 4 passes, 4 slots" in shown and "hush" not in shown
    code, shown, _ = check(config, "--json")
    document = json.loads(shown)
    assert (code, document["problems"], document["stream"]["job"]) == (0, [], "job") and "model" not in document


def test_problems_of_keys_and_of_kafka_come_together(tmp_path: Path) -> None:
    config = write_config(tmp_path, "job", KAFKA).path
    text = config.read_text().replace("split_interval: 720", "split_interval: 7")
    config.write_text(text.replace("bootstrap.servers", "bootstrap.server"))
    code, shown, errors = check(config)
    lines = errors.splitlines()
    assert (code, shown) == (2, "") and lines[0] == f"error: {config} has 3 problem(s):"
    assert [line.split(": ")[0].strip() for line in lines[1:4]] == [
        "kafka.bootstrap.servers", "runner.split_interval", "kafka.bootstrap.server",
    ]  # fmt: skip
    code, shown, _ = check(config, "--json")
    assert code == 2 and [line.strip() for line in lines[1:4]] == json.loads(shown)["problems"]


def test_a_property_that_is_no_text_is_one_problem(tmp_path: Path) -> None:
    config = write_config(tmp_path, "job", KAFKA).path
    config.write_text(config.read_text().replace("kafka:\n", "kafka:\n  client: {id: x}\n  sasl.password:\n"))
    _, _, errors = check(config)
    assert [line.split(": ")[0].strip() for line in errors.splitlines()[1:3]] == ["kafka.client", "kafka.sasl.password"]


def test_a_path_that_is_no_text(tmp_path: Path) -> None:
    folder = tmp_path / "f\udcff"
    folder.mkdir()
    config = folder / "config_online.yaml"
    config.write_text("runner: {}\n")
    for options in ((), ("--json",)):
        code, shown, errors = check(config, *options)
        assert code == 2 and "the path is not UTF-8" in (shown or errors)
        (shown + errors).encode()


def test_all_variables_that_are_not_set(tmp_path: Path) -> None:
    config = write_config(tmp_path, "job", {**KAFKA, "sasl.username": "${NIX_A}", "sasl.password": "${NIX_B}"}).path
    code, _, errors = check(config)
    assert code == 2 and "kafka.sasl.username: the environment has no NIX_A" in errors
    assert "kafka.sasl.password: the environment has no NIX_B" in errors
