"""Metrics out of counts, against those computed row by row."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamtrain.engine.stats import Counts, PassStats, Sums

Rows = list[tuple[int, float]]
ROWS = st.lists(st.tuples(st.integers(0, 1), st.floats(0, 1, width=32)), max_size=60)


def counts_of(rows: Rows, buckets: int = 4096, *, sums: bool = True) -> Counts:
    """As the network counts them."""
    pos, neg = np.zeros(buckets, np.int64), np.zeros(buckets, np.int64)
    for label, p in rows:
        (pos if label else neg)[math.floor(p * (buckets - 1))] += 1
    exact = Sums(
        sum((p - label) ** 2 for label, p in rows),
        sum(abs(p - label) for label, p in rows),
        sum(p for _, p in rows),
        sum(1 / (1 + math.exp(-p)) for _, p in rows),
    )
    return Counts(pos, neg, exact if sums else None)


def auc_of(rows: Rows, buckets: int) -> float | None:
    """How often a click is above another row; rows of one bucket are ties."""
    at = [(label, math.floor(p * (buckets - 1))) for label, p in rows]
    pairs = [(a > b) + (a == b) / 2 for is_click, a in at if is_click for other, b in at if not other]
    return sum(pairs) / len(pairs) if pairs else None


def bucket_error_of(rows: Rows, buckets: int) -> float | None:
    """Row by row: groups of rows whose buckets lie within 0.01 of their first one's, ended once they are known well."""
    by_bucket: dict[int, Rows] = {}
    for label, p in rows:
        by_bucket.setdefault(math.floor(p * (buckets - 1)), []).append((label, p))
    group: list[tuple[int, float]] = []
    start: float | None = None
    errors: list[tuple[float, int]] = []
    for bucket in range(buckets):
        rate = bucket / buckets
        if start is None or abs(rate - start) > 0.01:
            start, group = rate, []
        group += [(label, rate) for label, _ in by_bucket.get(bucket, [])]
        mean = np.mean([r for _, r in group]) if group else 0.0
        if mean > 0 and math.sqrt((1 - mean) / (mean * len(group))) < 0.05:
            actual = sum(label for label, _ in group) / len(group)
            errors.append((abs(actual / mean - 1), len(group)))
            start = None
    known = sum(n for _, n in errors)
    return sum(e * n for e, n in errors) / known if known else None


@settings(deadline=None)  # 4096 buckets, in plain Python
@given(ROWS, st.sampled_from([2, 101, 4096]))
def test_each_metric_is_that_of_the_rows(rows: Rows, buckets: int) -> None:
    metrics = counts_of(rows, buckets).metrics()
    assert metrics.rows == len(rows) and metrics.resolution == 0
    assert metrics.auc == pytest.approx(auc_of(rows, buckets))
    if not rows:
        assert metrics.mae is metrics.rmse is metrics.copc is metrics.actual_ctr is metrics.bucket_error is None
        return
    labels, p = np.array([r[0] for r in rows], float), np.array([r[1] for r in rows])
    assert metrics.mae == pytest.approx(np.abs(p - labels).mean())
    assert metrics.rmse == pytest.approx(np.sqrt(((p - labels) ** 2).mean()))
    assert (metrics.actual_ctr, metrics.predicted_ctr) == (pytest.approx(labels.mean()), pytest.approx(p.mean()))
    assert metrics.copc == (pytest.approx(labels.sum() / p.sum()) if p.sum() else None)


@given(st.lists(st.tuples(st.integers(0, 400), st.integers(0, 400), st.integers(0, 199)), min_size=1, max_size=40))
def test_the_bucket_error_is_that_of_the_rows(cells: list[tuple[int, int, int]]) -> None:
    rows = [(label, bucket / 199 + 1e-6) for pos, neg, bucket in cells for label, n in ((1, pos), (0, neg))
            for _ in range(n)]  # fmt: skip
    found, expected = counts_of(rows, 200).bucket_error, bucket_error_of(rows, 200)
    assert found == (pytest.approx(expected) if expected is not None else None)


def test_the_bucket_error_of_a_known_case() -> None:
    """2,000 rows at 0.5, half of them clicks, and 1,000 at 0.8 of which 600 are: 0 and 0.25, weighted 2 to 1."""
    pos, neg = np.zeros(11, np.int64), np.zeros(11, np.int64)
    pos[5] = 1000 * 10 // 11  # the bucket's rate is 5 / 11
    neg[5] = 2000 - pos[5]
    pos[8], neg[8] = 600, 400
    at_8 = abs(0.6 / (8 / 11) - 1)
    at_5 = abs(pos[5] / 2000 / (5 / 11) - 1)
    assert Counts(pos, neg).bucket_error == pytest.approx((at_5 * 2000 + at_8 * 1000) / 3000)


@given(ROWS.filter(bool), st.sampled_from([11, 4096]))
def test_without_sums_they_are_known_to_a_resolution(rows: Rows, buckets: int) -> None:
    exact, metrics = counts_of(rows, buckets).metrics(), counts_of(rows, buckets, sums=False).metrics()
    assert metrics.resolution == 0.5 / (buckets - 1)
    for name in ("mae", "rmse", "predicted_ctr", "mean_q"):
        assert getattr(metrics, name) == pytest.approx(getattr(exact, name), abs=metrics.resolution + 1e-9)
    assert (metrics.auc, metrics.actual_ctr, metrics.bucket_error) == (exact.auc, exact.actual_ctr, exact.bucket_error)


@pytest.mark.parametrize("label", [0, 1])
def test_rows_of_one_label(label: int) -> None:
    metrics = counts_of([(label, 0.25)] * 8).metrics()
    assert metrics.auc is None and metrics.actual_ctr == label and metrics.copc == label / 0.25
    assert metrics.mae == metrics.rmse == abs(label - 0.25)


def test_numbers_that_are_none_are_not_recorded() -> None:
    counts = counts_of([(1, 0.5), (0, 0.25)])
    wrong = Counts(counts.pos, counts.neg, Sums(math.nan, math.inf, math.nan, math.nan)).metrics()
    assert wrong.mae is wrong.rmse is wrong.predicted_ctr is wrong.copc is None and wrong.rows == 2


@given(st.lists(ROWS, min_size=1, max_size=4), st.booleans())
def test_workers_add_up(parts: list[Rows], sums: bool) -> None:
    """The whole's counts are those of all rows, whatever worker had them; a label without sums beside one with."""
    stats = [PassStats({"click": counts_of(p, 64), "buy": counts_of(p[::2], 32, sums=sums)}) for p in parts]
    whole = stats[0].cleared().of_array(sum(s.to_array() for s in stats))
    rows = [row for part in parts for row in part]
    expected = counts_of(rows, 64)
    assert whole.rows == len(rows) and list(whole.labels) == ["click", "buy"]
    assert (whole.first.pos.tolist(), whole.first.neg.tolist()) == (expected.pos.tolist(), expected.neg.tolist())
    assert whole.first.sums is not None and expected.sums is not None
    assert whole.first.sums.to_array() == pytest.approx(expected.sums.to_array(), abs=1e-6)
    assert (whole.labels["buy"].sums is not None) == sums
    assert whole.labels["buy"].rows == sum(len(p[::2]) for p in parts)


@pytest.mark.parametrize("wrong", [math.nan, math.inf, 1e9])
def test_a_sum_that_is_none_is_none_over_all_workers(wrong: float) -> None:
    counts = counts_of([(1, 0.5), (0, 0.25)], 8)
    broken = PassStats({"click": Counts(counts.pos, counts.neg, Sums(wrong, 1, 1, 1)), "buy": counts})
    whole = broken.of_array(broken.to_array() + PassStats({"click": counts, "buy": counts}).to_array()).metrics()
    assert whole["click"].rows == 4 and whole["click"].rmse is whole["click"].copc is None
    assert whole["buy"].mae == pytest.approx(0.375)
