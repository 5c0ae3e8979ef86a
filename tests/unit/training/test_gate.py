"""The AUC gate."""

import math

from hypothesis import given
from hypothesis import strategies as st

from streamtrain.config import GateConfig
from streamtrain.training.gate import Gate


def test_bounds_and_their_mean() -> None:
    gate = Gate(GateConfig(min_auc=0.6, max_drop=0.05, passes=2, min_rows=10))
    assert gate.judge(0.70, 100) is None and gate.judge(0.72, 100) is None
    assert "stream.gate.max_drop, 0.05, below 0.7100" in (gate.judge(0.65, 100) or "")
    assert gate.judge(0.67, 100) is None  # a pass out of bounds does not lower the mean
    assert gate.judge(0.65, 100) is None  # mean of the last two, 0.695
    assert "below stream.gate.min_auc, 0.6" in (gate.judge(0.59, 100) or "")
    assert gate.judge(0.1, 9) is None and gate.judge(math.nan, 9) is None
    assert "min_auc" in (gate.last or "")  # a pass that is not judged ends no withholding
    assert gate.judge(0.66, 100) is None and gate.last is None
    assert "not a number" in (gate.judge(math.nan, 100) or "") and "not a number" in (gate.last or "")
    assert gate.judge(0.66, 100) is None  # it does not count for the mean


@given(st.lists(st.tuples(st.floats(0, 1) | st.just(math.nan), st.integers(0, 300)), max_size=30), st.integers(0, 30))
def test_a_restart_judges_alike(passes: list[tuple[float, int]], at: int) -> None:
    config = GateConfig(min_auc=0.4, max_drop=0.1, passes=3)
    one, two = Gate(config), Gate(config)
    verdicts = [one.judge(*p) for p in passes]
    journal = [(None if math.isnan(p[0]) else p[0], p[1], v or "") for p, v in zip(passes, verdicts, strict=True)]
    two.recall(reversed(journal[:at]))
    assert [two.judge(*p) for p in passes[at:]] == verdicts[at:]
