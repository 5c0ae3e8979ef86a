"""The counters of networks' metrics, found in the programs that Paddle makes of them."""

import json
import subprocess
import sys
from typing import Any

import pytest

from streamtrain.engine.counters import Counters, by_job_labels, grouped_predictions, refuse_unknown
from streamtrain.errors import ConfigError
from tests.support.paths import ROOT

pytestmark = pytest.mark.paddle


@pytest.fixture(scope="module")
def found() -> dict[str, Any]:
    command = [sys.executable, "-m", "tests.support.counters_role"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout.splitlines()[-1]))


def test_one_label(found: dict[str, Any]) -> None:
    names = found["slot_dnn"]["metrics"]
    assert found["slot_dnn"]["counters"] == [["click", names[2], names[3], names[4:8], True]]


def test_each_auc_has_its_label_and_its_own_sums(found: dict[str, Any]) -> None:
    names = found["two_labels"]["metrics"]
    assert found["two_labels"]["counters"] == [
        ["click", names[2], names[3], [], True],
        ["buy", names[6], names[7], names[8:12], True],
        ["click_2", names[16], names[17], [], True],
    ]


def test_sums_of_another_prediction_are_not_taken(found: dict[str, Any]) -> None:
    names = found["one_bundle_of_another_prediction"]["metrics"]
    assert found["one_bundle_of_another_prediction"]["counters"] == [["click", names[2], names[3], [], True]]


def test_a_label_that_is_no_feed_has_its_variable_s_name(found: dict[str, Any]) -> None:
    [[label, pos, neg, sums, predicted]] = found["computed_label"]["counters"]
    assert [pos, neg, sums, predicted] == [*found["computed_label"]["metrics"][2:4], [], False]
    assert label.startswith("cast_")


def test_names_are_the_job_s() -> None:
    click, buy, other = (Counters(name, "p", "n") for name in ("click", "buy", "cast_0"))
    assert [c.label for c in by_job_labels([click], ["love"])] == ["love"]
    assert by_job_labels([other, click, buy], ["buy", "click"]) == [buy, click, other]
    assert by_job_labels([other, click], []) == [other, click]


def test_what_a_config_asks_of_labels_that_there_are_not() -> None:
    refuse_unknown(["buy"], ["click", "buy"])
    with pytest.raises(ConfigError, match=r"stream\.gate\.labels\.bye: .* has those of click, buy"):
        refuse_unknown(["buy", "bye"], ["click", "buy"])
    predictions = {"click": "sigmoid_0.tmp_0", "cast_0": "x"}
    assert grouped_predictions(predictions, ["click", "buy"], ()) == {"click": "sigmoid_0.tmp_0"}
    assert grouped_predictions(predictions, ["click"], ["sigmoid_0.tmp_0"])
    with pytest.raises(ConfigError, match=r"predict_dump_fields lacks sigmoid_0\.tmp_0"):
        grouped_predictions(predictions, ["click"], ["fc_0"])
    with pytest.raises(ConfigError, match="no AUC of buy or long whose prediction is known"):
        grouped_predictions(predictions, ["buy", "long"], ())
