"""A pass's metrics as text and in manifests."""

from dataclasses import asdict

import pytest

from streamtrain.contracts.metrics import LabelMetrics, Metrics, global_words, monitor_data, recorded_labels

FULL = Metrics(
    rows=454, auc=0.61, bucket_error=0.031235, mae=0.4, rmse=0.5, actual_ctr=0.25, predicted_ctr=0.2, copc=1.25,
    mean_q=0.55,
)  # fmt: skip
WORDS = (
    "AUC=0.610000 BUCKET_ERROR=0.031235 MAE=0.400000 RMSE=0.500000 Actural_CTR=0.250000 Predicted_CTR=0.200000 "
    "COPC=1.250000 MEAN Q_VALUE=0.550000 Ins number=454"
)


def test_the_words_are_paddlerecs() -> None:
    assert FULL.words == WORDS
    assert Metrics(rows=0).words == WORDS_OF_NOTHING
    assert global_words({"click": FULL}) == f" global {WORDS}"
    assert global_words({"click": FULL, "buy": FULL}) == f"click global {WORDS}; buy global {WORDS}"


WORDS_OF_NOTHING = (
    "AUC=nan BUCKET_ERROR=nan MAE=nan RMSE=nan Actural_CTR=nan Predicted_CTR=nan COPC=nan MEAN Q_VALUE=nan Ins number=0"
)


def test_monitor_data_is_of_the_training_where_there_was_one() -> None:
    labels = {"click": LabelMetrics(Metrics(rows=454), FULL)}
    assert monitor_data(labels) == f" global {WORDS}"
    assert monitor_data({"click": LabelMetrics(FULL)}) == f" global {WORDS}"
    assert monitor_data({}) == ""


def test_what_a_manifest_has_comes_back() -> None:
    labels = {"click": LabelMetrics(FULL, Metrics(rows=0)), "buy": LabelMetrics(FULL)}
    recorded = {name: asdict(label) for name, label in labels.items()}
    assert recorded_labels(recorded) == labels
    recorded["click"]["later"] = 1  # a key of a newer version
    recorded["click"]["predict"]["later"] = 1
    assert recorded_labels(recorded) == labels


@pytest.mark.parametrize("recorded", [None, [], "x", {"click": 1}, {"click": {"predict": {"auc": 0.5}}}])
def test_what_is_not_understood_is_none(recorded: object) -> None:
    """Serving answers all the same."""
    assert recorded_labels(recorded) == {}
