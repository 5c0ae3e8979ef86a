from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamtrain.config import JobConfig, _read_yaml, load_config
from streamtrain.errors import ConfigError
from tests.support.jobs import write_config

GOOD = """
runner:
  train_data_dir: data
  split_interval: 30
  split_per_pass: 2
  start_day: "20190720"
  end_day: 20190722
  checkpoint_per_pass: 1
  pipe_command: "python reader.py"
  train_thread_num: 3
hyper_parameters:
  optimizer: {class: Adam, learning_rate: 5e-6}
  slot_num: 3
table_parameters:
  embedding: {shard_num: 2}
"""


def load(tmp_path: Path, text: str) -> JobConfig:
    path = tmp_path / "config_online.yaml"
    path.write_text(text)
    return load_config(path)


def test_a_paddlerec_file_is_understood(tmp_path: Path) -> None:
    config = load(tmp_path, GOOD)
    assert config.slots == (2, 3, 4)
    assert config.runner.end_day == "20190722"
    assert config.no_effect == ["runner.pipe_command"]
    assert config.embedded
    assert config.data_dir == str(tmp_path / "data")


def test_environment_is_expanded_and_secrets_are_masked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KAFKA_PASSWORD", "hush")
    text = GOOD + "kafka:\n  bootstrap.servers: h:9092\n  sasl.password: ${KAFKA_PASSWORD}\n"
    config = load(tmp_path, text)
    assert config.kafka()["sasl.password"] == "hush"
    assert "hush" not in str(config.masked()) and config.masked()["kafka"]["sasl.password"] == "********"
    monkeypatch.delenv("KAFKA_PASSWORD")
    with pytest.raises(ConfigError, match=r"kafka\.sasl\.password.*KAFKA_PASSWORD"):
        config.kafka()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("split_interval: 30", "split_interval: 7"), r"runner\.split_interval: 7"),
        (("split_per_pass: 2", "split_per_pass: 5"), r"runner\.split_per_pass: 5"),
        (("end_day: 20190722", "end_day: 20190719"), r"runner\.end_day"),
        (('start_day: "20190720"', 'start_day: "20190732"'), r"runner\.start_day"),
        (("  split_per_pass: 2\n", ""), r"runner\.split_per_pass: required"),
        (("split_per_pass: 2", "split_per_pas: 2"), r"split_per_pas: unknown key; did you mean split_per_pass\?"),
        (("split_interval: 30", "split_interval: half"), r"runner\.split_interval: .*'half'"),
        (("hyper_parameters:", "hyper_parameter:"), r"hyper_parameter: unknown section; did you mean hyper_parameters"),
        (("  split_interval: 30", "\tsplit_interval: 30"), r"line 4.*[Tt]ab|line 4.*\\t"),
        (("  split_interval: 30", "  split_interval: 30\n  split_interval: 60"), r"line 5.*given twice"),
        (("hyper_parameters:", "stream: {changed_split: maybe}\nhyper_parameters:"), r"stream\.changed_split"),
        (
            ("hyper_parameters:", "stream: {ignore_files: ['a/*.tmp']}\nhyper_parameters:"),
            r"stream\.ignore_files.*a/\*",
        ),
        (("hyper_parameters:", "stream: {ignore_files: '*.tmp'}\nhyper_parameters:"), r"stream\.ignore_files"),
        (("hyper_parameters:", "stream: {settle_second: -1}\nhyper_parameters:"), r"stream\.settle_second"),
        (("hyper_parameters:", "stream: {workers: 9}\nhyper_parameters:"), r"stream\.workers"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, change: tuple[str, str], message: str) -> None:
    assert change[0] in GOOD
    with pytest.raises(ConfigError, match=message):
        load(tmp_path, GOOD.replace(*change))


def test_a_missing_file_and_binary_are_errors_of_ours(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        load_config(tmp_path / "none.yaml")
    path = tmp_path / "b.yaml"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="not UTF-8"):
        load_config(path)


@pytest.mark.parametrize("name", ["a b", "a;b", "a$(b)", "a'b"])
def test_a_path_that_a_shell_would_take_apart_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="model_save_path"):
        write_config(tmp_path, "job", {}, runner={"model_save_path": name})


def test_a_check_that_thresholds_would_always_turn_red_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"stream.consistency_rows: .* stream.inference_keys: thresholds"):
        write_config(tmp_path, "job", {}, stream={"consistency_rows": 5, "inference_keys": "thresholds"})


def number_in(tmp_path: Path, text: str) -> object:
    config = load(tmp_path, GOOD.replace("learning_rate: 5e-6", f"learning_rate: {text}"))
    value: object = config.raw["hyper_parameters"]["optimizer"]["learning_rate"]
    return value


@pytest.mark.parametrize(
    ("text", "value"),
    [("5e-6", 5e-6), ("1e-4", 1e-4), ("1e9", 1e9), ("98e-2", 0.98), ("5e3", 5e3), ("1.5e3", 1500.0), (".5e1", 5.0),
     ("-2E+3", -2000.0), ("1.e2", 100.0), ("0.1", 0.1)],
)  # fmt: skip
def test_numbers_with_an_exponent_are_numbers(tmp_path: Path, text: str, value: float) -> None:
    found = number_in(tmp_path, text)
    assert isinstance(found, float) and found == value


@pytest.mark.parametrize("text", ['"1e5"', "'5e-6'", "1e5x", "e5", "1e", "5e-", "x1e5", "1 e5", "1e5.0"])
def test_other_text_stays_text(tmp_path: Path, text: str) -> None:
    assert number_in(tmp_path, text) == text.strip("\"'")


@given(st.floats(allow_nan=False, allow_infinity=False), st.sampled_from(["e", "E"]))
def test_every_float_is_read_back(value: float, letter: str) -> None:
    """As Python prints it, and with an exponent always."""
    for text in (repr(value), f"{value:.17e}".replace("e", letter), f"{value:.17e}".replace("e+", "e")):
        found = _read_yaml(f"x: {text}")["x"]
        assert isinstance(found, float) and found == value


@pytest.mark.parametrize("text", ["12e5", "1e5", "5e-6", "1.50e3"])
def test_kafka_gets_such_text_as_written(tmp_path: Path, text: str) -> None:
    config = load(tmp_path, GOOD + f"kafka:\n  bootstrap.servers: h:9092\n  sasl.password: {text}\n")
    assert config.kafka()["sasl.password"] == text
