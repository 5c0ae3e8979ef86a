"""The demo's config is the model's own, with the changes that its data need."""

from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from streamtrain.config import load_config
from streamtrain.demo.run import CHANGES, merged
from tests.support.paths import MODEL, ROOT

values = st.recursive(st.integers() | st.lists(st.integers()), lambda inner: st.dictionaries(st.text("ab"), inner))
mappings = st.dictionaries(st.text("ab"), values)


@given(mappings, mappings)
def test_merging_changes_nothing_else(base: dict[str, object], changes: dict[str, object]) -> None:
    result = merged(base, changes)
    assert merged(base, {}) == base and merged({}, changes) == changes and merged(result, changes) == result
    assert {k: v for k, v in result.items() if k not in changes} == {k: v for k, v in base.items() if k not in changes}
    assert all(result[k] == v for k, v in changes.items() if not isinstance(v, dict))


def test_the_demo_trains_as_it_was_measured() -> None:
    """The settings of docs/decisions.md, 17."""
    base = yaml.safe_load((MODEL / "config_online.yaml").read_text())
    config = merged(base, CHANGES)
    assert config["runner"]["train_batch_size"] == 4
    assert config["hyper_parameters"] == {
        "optimizer": {"class": "Adam", "learning_rate": 0.001, "strategy": "async"},
        "dict_dim": 1000000,
        "emb_dim": 9,
        "layer_sizes": [],
        "weight_std": 0.3,
        "slot_num": 300,
    }
    accessor = config["table_parameters"]["embedding"]["accessor"]
    assert accessor["embedx_threshold"] == 0 and accessor["ctr_accessor_param"]["show_click_decay_rate"] == 1.0
    for key in ("embed_sgd_param", "embedx_sgd_param"):
        adagrad = accessor[key]["adagrad"]
        assert (adagrad["learning_rate"], adagrad["initial_g2sum"], adagrad["initial_range"]) == (0.2, 0.03, 0.001)


def test_the_secured_clusters_section_fits_into_a_config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KAFKA_PASSWORD", "hush")
    base = yaml.safe_load((MODEL / "config_online.yaml").read_text())
    section = yaml.safe_load((ROOT / "configs" / "secured_cluster.yaml").read_text())
    assert list(section) == ["kafka"]
    path = tmp_path / "config_online.yaml"
    path.write_text(yaml.safe_dump({**base, **section}))
    assert load_config(path).kafka()["sasl.password"] == "hush"
