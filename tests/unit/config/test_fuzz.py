"""Whatever the bytes: load_config gives a JobConfig, or a ConfigError."""

import contextlib
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from streamtrain.config import JobConfig, RunnerConfig, StreamConfig, load_config
from streamtrain.config.job import SECTIONS
from streamtrain.config.tables import TableParameters
from streamtrain.errors import ConfigError
from tests.unit.config.test_job import GOOD

KEYS = [*RunnerConfig.model_fields, *StreamConfig.model_fields, *TableParameters.model_fields, "bootstrap.servers",
        "embedding", "slot_num", "<<", ""]  # fmt: skip
scalar: Any = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.dates() | st.binary(max_size=3)
    | st.sampled_from(["20190720", "a b", "://", "s3://b/x", "/", "..", "\0", "UTC", "America", "1_0", "${X}", "*a"])
)  # fmt: skip
key: Any = st.sampled_from(KEYS) | scalar
value: Any = st.recursive(
    scalar,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(key, inner, max_size=3),
    max_leaves=10,
)
relaxed = settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def load(folder: Path, data: bytes) -> None:
    """What a JobConfig can be asked for is either there, or refused."""
    path = folder / "config_online.yaml"
    path.write_bytes(data)
    with contextlib.suppress(ConfigError):
        config = load_config(path)
        assert isinstance(config, JobConfig) and len(config.sha256) == 64
        yaml.safe_dump(config.masked())
        _ = config.data_dir, config.model_save_path, config.model_dir, config.no_effect
        config.schedule.ends_at(config.schedule.total_splits - 1)
        with contextlib.suppress(ConfigError):
            config.kafka()
        _ = config.slots


@relaxed
@given(data=st.binary(max_size=60), at=st.integers(0, len(GOOD)))
def test_bytes(data: bytes, at: int, tmp_path: Path) -> None:
    load(tmp_path, data)
    good = GOOD.encode()
    load(tmp_path, good[:at] + data + good[at:])


@relaxed
@given(text=st.text(st.sampled_from("abk:-[]{}&*!<>|\"'#%@`? \n\t0123.~,")), at=st.integers(0, len(GOOD)))
def test_the_characters_of_yaml(text: str, at: int, tmp_path: Path) -> None:
    load(tmp_path, text.encode())
    load(tmp_path, (GOOD[:at] + text + GOOD[at:]).encode())


@relaxed
@given(
    document=st.dictionaries(
        st.sampled_from(SECTIONS) | key, st.dictionaries(key, value, max_size=4) | value, max_size=5
    )
)
def test_documents(document: Any, tmp_path: Path) -> None:
    load(tmp_path, yaml.dump(document).encode())


@relaxed
@given(section=st.sampled_from(SECTIONS), name=key, new=value)
def test_a_good_config_with_one_key_changed(section: str, name: Any, new: Any, tmp_path: Path) -> None:
    document = yaml.safe_load(GOOD)
    document.setdefault(section, {})[name] = new
    load(tmp_path, yaml.dump(document).encode())


@pytest.mark.parametrize("key", ["hyper_parameters", "table_parameters", "runner", "kafka", "stream"])
@pytest.mark.parametrize("text", ["[1]", "x", "1", "true", "{1: x}", "{null: x}", "~"])
def test_a_section_of_another_kind(key: str, text: str, tmp_path: Path) -> None:
    document = {k: v for k, v in yaml.safe_load(GOOD).items() if k != key}
    load(tmp_path, (yaml.safe_dump(document) + f"{key}: {text}\n").encode())
