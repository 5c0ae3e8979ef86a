"""The gate."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from streamtrain.config import GateConfig, LabelBounds
from streamtrain.contracts.metrics import Metrics
from streamtrain.errors import ConfigError
from streamtrain.training.gate import Gate


def of(auc: float | None, copc: float | None = 1.0) -> dict[str, Metrics]:
    return {"click": Metrics(rows=1, auc=auc, copc=copc)}


def test_bounds_and_their_mean() -> None:
    gate = Gate(GateConfig(min_auc=0.6, max_drop=0.05, passes=2, min_rows=10), ["click"])
    assert gate.judge(of(0.70), 100) is None and gate.judge(of(0.72), 100) is None
    assert "stream.gate.max_drop, 0.05, below 0.7100" in (gate.judge(of(0.65), 100) or "")
    assert gate.judge(of(0.67), 100) is None  # a pass out of bounds does not lower the mean
    assert gate.judge(of(0.65), 100) is None  # mean of the last two, 0.695
    assert "below stream.gate.min_auc, 0.6" in (gate.judge(of(0.59), 100) or "")
    assert gate.judge(of(0.1), 9) is None and gate.judge(of(None), 9) is None
    assert "min_auc" in (gate.last or "")  # a pass that is not judged ends no withholding
    assert gate.judge(of(0.66), 100) is None and gate.last is None
    assert "not a number" in (gate.judge(of(None), 100) or "") and "not a number" in (gate.last or "")
    assert gate.judge(of(0.66), 100) is None  # it does not count for the mean


def test_copc() -> None:
    gate = Gate(GateConfig(copc=[0.8, 1.25]), ["click"])
    assert [gate.judge(of(0.5, copc), 100) is None for copc in (0.79, 0.8, 1.0, 1.25, 1.26, None)] == [
        False, True, True, True, False, False,
    ]  # fmt: skip
    assert gate.judge(of(0.5, 1.5), 100) == "predict COPC 1.5000 is not within stream.gate.copc, 0.8 to 1.25"
    assert "COPC is not a number" in (gate.judge(of(0.5, None), 100) or "")


def test_other_labels_have_bounds_of_their_own() -> None:
    gate = Gate(GateConfig(min_auc=0.6, labels={"buy": LabelBounds(max_drop=0.1)}, passes=2), ["click", "buy"])

    def judge(click: float | None, buy: float | None) -> str | None:
        return gate.judge({"click": Metrics(rows=1, auc=click), "buy": Metrics(rows=1, auc=buy)}, 100)

    assert judge(0.61, 0.5) is None and judge(0.61, 0.52) is None
    assert judge(0.61, 0.4) == (
        "predict AUC of buy 0.4000 is more than stream.gate.labels.buy.max_drop, 0.1, below 0.5100, the mean of the "
        "last 2 passes"
    )
    assert "AUC of buy is not a number" in (judge(0.61, None) or "")
    both = judge(0.5, 0.1) or ""
    assert "stream.gate.min_auc" in both and "stream.gate.labels.buy" in both
    free = Gate(GateConfig(), ["click", "buy"])  # a label without bounds may have no AUC
    assert free.judge({"click": Metrics(rows=1, auc=0.1), "buy": Metrics(rows=1)}, 100) is None


def test_bounds_of_a_label_that_there_is_not_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"stream\.gate\.labels\.bye: the network has no AUC of bye, .*click, buy"):
        Gate(GateConfig(labels={"bye": LabelBounds(min_auc=0.5)}), ["click", "buy"])


@pytest.mark.parametrize("copc", [[0.8], [1.2, 0.8], [1, 1], [-1, 2], [0.8, 1, 1.2], ["low", "high"]])
def test_copc_is_a_range(copc: list[float]) -> None:
    with pytest.raises(ValidationError):
        GateConfig(copc=copc)


AUCS = st.floats(0, 1) | st.none()


@given(st.lists(st.tuples(AUCS, AUCS, st.integers(0, 300)), max_size=30), st.integers(0, 30))
def test_a_restart_judges_alike(passes: list[tuple[float | None, float | None, int]], at: int) -> None:
    labels = ["click", "buy"]
    config = GateConfig(min_auc=0.4, max_drop=0.1, passes=3, labels={"buy": LabelBounds(max_drop=0.2)})
    judged = [({"click": Metrics(rows=1, auc=a), "buy": Metrics(rows=1, auc=b)}, rows) for a, b, rows in passes]
    one, two = Gate(config, labels), Gate(config, labels)
    verdicts = [one.judge(*p) for p in judged]
    journal = [
        ([(name, m.auc) for name, m in metrics.items()], rows, verdict or "")
        for (metrics, rows), verdict in zip(judged, verdicts, strict=True)
    ]
    two.recall(reversed(journal[:at]))
    assert [two.judge(*p) for p in judged[at:]] == verdicts[at:]


@given(st.lists(st.tuples(AUCS, st.integers(0, 300)), max_size=20))
def test_records_before_labels_had_names(passes: list[tuple[float | None, int]]) -> None:
    config = GateConfig(max_drop=0.1, passes=3)
    one, two = Gate(config, ["click"]), Gate(config, ["click"])
    verdicts = [one.judge(of(auc), rows) for auc, rows in passes]
    two.recall(reversed([([("", a)], rows, v or "") for (a, rows), v in zip(passes, verdicts, strict=True)]))
    assert two.last == one.last
    assert [two.judge(of(auc), 100) for auc in itertools.repeat(0.45, 4)] == [
        one.judge(of(auc), 100) for auc in itertools.repeat(0.45, 4)
    ]
