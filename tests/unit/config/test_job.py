from pathlib import Path

import pytest

from streamtrain.config import JobConfig, load_config
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
        (("hyper_parameters:", "stream: {workers: all}\nhyper_parameters:"), r"stream\.workers: .* or auto, .*'all'"),
        (("hyper_parameters:", "stream: {workers: 0}\nhyper_parameters:"), r"stream\.workers: a whole number"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, change: tuple[str, str], message: str) -> None:
    assert change[0] in GOOD
    with pytest.raises(ConfigError, match=message):
        load(tmp_path, GOOD.replace(*change))


@pytest.mark.parametrize(("cores", "workers"), [(1, 1), (2, 2), (64, 2)])
def test_a_worker_for_each_processor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cores: int, workers: int) -> None:
    monkeypatch.setattr("streamtrain.config.sections.processors", lambda: cores)
    assert load(tmp_path, GOOD).stream.worker_count == workers  # stream.partitions is 2
    fixed = GOOD.replace("hyper_parameters:", "stream: {workers: 1}\nhyper_parameters:")
    assert load(tmp_path, fixed).stream.worker_count == 1


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


KAFKA = "kafka:\n  bootstrap.servers: h:9092\n"


@pytest.mark.parametrize(
    "text", ["12e5", "5e-6", "1.50e3", "0123456", "1_234", "12:34:56", "on", "true", "False", "2024-01-01", "0x1F",
             "12345678901234567890123", "~", "null", "007", ".nan", "1e999"]
)  # fmt: skip
def test_kafka_gets_text_as_written(tmp_path: Path, text: str) -> None:
    config = load(tmp_path, f"{GOOD}{KAFKA}  sasl.password: {text}\n")
    assert config.kafka()["sasl.password"] == text


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("sasl.password:", r"kafka\.sasl\.password: empty"),
        ("sasl.password: [a, b]", r"kafka\.sasl\.password: a list"),
        ("sasl: {password: a}", r"kafka\.sasl: .* kafka\.sasl\.password as one key"),
        ("metadata.broker.list: []", r"kafka\.metadata\.broker\.list: empty"),
        ("metadata.broker.list: [a, [b]]", r"kafka\.metadata\.broker\.list: a list of host:port"),
        ("a: !!python/name:os.system x", r"line 18, .*!!python/name:os.system"),
    ],
)
def test_what_is_no_property_is_refused_by_key(tmp_path: Path, line: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load(tmp_path, f"{GOOD}{KAFKA}  {line}\n")


def test_a_list_of_brokers_is_joined(tmp_path: Path) -> None:
    config = load(tmp_path, GOOD + "kafka:\n  bootstrap.servers: [a:1, b:2]\n")
    assert config.kafka() == {"bootstrap.servers": "a:1,b:2"}
    for section in (
        "{bootstrap: {servers: a}}",
        "{client.id: x}",
        "{bootstrap.servers: ''}",
        "{bootstrap.servers: null}",
    ):
        with pytest.raises(ConfigError, match=r"kafka\.bootstrap"):
            load(tmp_path, f"{GOOD}kafka: {section}\n")


def test_text_keys_are_text_as_written(tmp_path: Path) -> None:
    text = GOOD.replace("train_data_dir: data", "train_data_dir: 0123\n  data_donefile:")
    config = load(tmp_path, text + "stream: {job: 007, broker_dir: 1e3}\n")
    assert config.data_dir == str(tmp_path / "0123") and config.runner.data_donefile == ""
    assert (config.stream.job, config.stream.broker_dir) == ("007", "1e3")


@pytest.mark.parametrize("text", ["1_0", "true", "on", ".inf", ".nan", "'1_0'", "0:30", "1.5", "[30]", "99999999999"])
def test_a_number_is_wanted(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError, match=r"runner\.split_interval: "):
        load(tmp_path, GOOD.replace("split_interval: 30", f"split_interval: {text}"))


@pytest.mark.parametrize("text", ["060", "'60'", "0o74", "0x3C", "6e1"])
def test_numbers_are_those_of_yaml_1_2(tmp_path: Path, text: str) -> None:
    assert load(tmp_path, GOOD.replace("split_interval: 30", f"split_interval: {text}")).runner.split_interval == 60


def test_numbers_that_are_not_finite_are_refused_by_key(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"hyper_parameters\.optimizer\.learning_rate: a finite number"):
        load(tmp_path, GOOD.replace("5e-6", ".nan"))
    with pytest.raises(ConfigError, match=r"stream\.max_reject_ratio"):
        load(tmp_path, GOOD + "stream: {max_reject_ratio: .inf}\n")


@pytest.mark.parametrize("change", [("\n", "\r\n"), ("\nrunner", "\ufeff\nrunner")])
def test_windows_line_ends_and_a_byte_order_mark_are_taken(tmp_path: Path, change: tuple[str, str]) -> None:
    path = tmp_path / "config_online.yaml"
    path.write_bytes(GOOD.replace(*change).encode())
    assert load_config(path).slots == (2, 3, 4)


def test_utf_16_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "config_online.yaml"
    path.write_bytes(GOOD.encode("utf-16"))
    with pytest.raises(ConfigError, match=r"UTF-16 .*Save it as UTF-8"):
        load_config(path)


def test_paths_that_are_no_file(tmp_path: Path) -> None:
    for path, message in ((tmp_path, "is not a file"), (Path("/dev/zero"), "is not a file"), ("a\0b", "is not a path")):
        with pytest.raises(ConfigError, match=message):
            load_config(path)


@pytest.mark.parametrize(
    ("stream", "message"),
    [("{timezone: America}", "America"), ("{timezone: Nowhere/Else}", "Nowhere"), ("{timezone: +08:00}", r"\+08:00"),
     ("{timezone: ../../etc/passwd}", "passwd"), ("{timezone: ''}", "timezone"), ("{job: a b}", r"stream\.job")],
)  # fmt: skip
def test_streams_keys_are_checked(tmp_path: Path, stream: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load(tmp_path, f"{GOOD}stream: {stream}\n")


def test_the_zone_is_the_schedules(tmp_path: Path) -> None:
    config = load(tmp_path, GOOD + "stream: {timezone: Asia/Shanghai}\n")
    assert config.schedule.ends_at(0) == "2019-07-20T00:30:00+08:00"


@pytest.mark.parametrize("count", ["0", "true", "1.5", "x", "65535", "'3'", "10000000000000"])
def test_slot_num_is_a_number_of_slots(tmp_path: Path, count: str) -> None:
    config = load(tmp_path, GOOD.replace("slot_num: 3", f"slot_num: {count}"))
    with pytest.raises(ConfigError, match=r"hyper_parameters\.slot_num"):
        _ = config.slots
