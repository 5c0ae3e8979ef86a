"""The demo's config is the model's own, with the changes that its data need."""

from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from streamtrain.checkpoint.journal import PassRecord, pack
from streamtrain.config import load_config
from streamtrain.contracts.metrics import LabelMetrics, Metrics
from streamtrain.demo.run import CHANGES, SLOT_DNN_CHANGES, merged, summarize
from streamtrain.proof.recount import Recount
from tests.support.paths import MODEL, ROOT

NAMES = st.text("ab", max_size=3)
values = st.recursive(
    st.integers() | st.lists(st.integers()), lambda inner: st.dictionaries(NAMES, inner), max_leaves=6
)
mappings = st.dictionaries(NAMES, values, max_size=4)


@given(mappings, mappings)
def test_merging_changes_nothing_else(base: dict[str, object], changes: dict[str, object]) -> None:
    result = merged(base, changes)
    assert merged(base, {}) == base and merged({}, changes) == changes and merged(result, changes) == result
    assert {k: v for k, v in result.items() if k not in changes} == {k: v for k, v in base.items() if k not in changes}
    assert all(result[k] == v for k, v in changes.items() if not isinstance(v, dict))


def test_the_demo_trains_as_it_was_measured() -> None:
    """The settings of docs/decisions.md, 17."""
    base = yaml.safe_load((MODEL / "config_online.yaml").read_text())
    config = merged(merged(base, CHANGES), SLOT_DNN_CHANGES)
    assert config["runner"]["train_batch_size"] == 4
    assert config["hyper_parameters"] == {
        "optimizer": {"class": "Adam", "learning_rate": 0.001, "strategy": "async"},
        "dict_dim": 1000000,
        "emb_dim": 9,
        "layer_sizes": [],
        "weight_std": 0.3,
        "slot_num": 14,
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


def record(number: int, rows: int, click: tuple[list[int], list[int]], love: tuple[list[int], list[int]]) -> PassRecord:
    """click, love: rows by bucket of their prediction, with the label and without it; bucket i predicts i / 4."""
    labels = {}
    for name, (pos, neg) in (("click", click), ("love", love)):
        predicted = sum(i / 4 * (a + b) for i, (a, b) in enumerate(zip(pos, neg, strict=True)))
        metrics = Metrics(rows=rows, actual_ctr=sum(pos) / rows, predicted_ctr=predicted / rows)
        labels[name] = LabelMetrics(metrics)
    first, other = (pack(np.array(pos), np.array(neg)) for pos, neg in (click, love))
    return PassRecord(
        "20240101", number, rows, 0.5, 0.5, 1.0, 1.0, 1.0, 1.0, labels=labels, predict_histogram=first,
        histograms={"love": other},
    )  # fmt: skip


def test_the_summary_has_auc_and_copc_by_label() -> None:
    """Over all passes, and over those that half of the rows come before."""
    never = ([0, 0, 0, 0], [0, 4, 0, 0])
    records = [
        record(1, 4, ([0, 0, 0, 2], [2, 0, 0, 0]), never),
        PassRecord("20240101", 2, 0, None, None, 0.0, 0.0, 0.0, 0.0),
        record(3, 4, ([2, 0, 0, 0], [0, 0, 0, 2]), ([0, 0, 2, 0], [0, 2, 0, 0])),
    ]
    found = summarize(records, Recount("c", "20240101", 3), 0, None)
    assert found["labels"] == {
        "click": {"all": {"auc": 0.5, "copc": 4 / 3}, "second_half": {"auc": 0.0, "copc": 4 / 3}},
        "love": {"all": {"auc": 1.0, "copc": pytest.approx(0.8)}, "second_half": {"auc": 1.0, "copc": 4 / 3}},
    }
    assert (found["auc_all"], found["auc_second_half"]) == (0.5, 0.0)
