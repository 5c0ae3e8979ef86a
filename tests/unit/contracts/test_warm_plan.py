"""What of a source a network takes: each table and parameter is named once, and lines keep what they should."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamtrain.contracts.table_text import RULES, TableColumns
from streamtrain.contracts.warm_plan import TablePlan, TableShape, plan_dense, plan_tables
from streamtrain.contracts.warmup import COUNT, Part, WarmStart, encode_counts

rules = st.sampled_from(sorted(RULES))
dims = st.integers(1, 6)
shapes = st.dictionaries(st.sampled_from(["a.w", "b.w", "c.b", "d"]), st.tuples(st.integers(1, 3), st.integers(1, 3)))


def table(name: str, rule: str, dim: int, accessor: str = "SparseAccessor") -> TableShape:
    given_rules = {key: {"name": rule} for key in ("embed_sgd_param", "embedx_sgd_param")}
    columns = TableColumns.of_accessor({"embedx_dim": dim, **given_rules})
    fresh = (("0",) * len(columns.embed_state), ("0",) * len(columns.embedx_state))
    return TableShape.of(name, columns, accessor, (rule, rule), fresh)


def line_of(shape: TableShape, *, embedx: bool) -> bytes:
    count = len(shape.columns) if embedx else shape.embedx[0]
    return b" ".join(str(n + 1).encode() for n in range(count))


@given(rules, rules, dims, dims, st.booleans(), st.booleans())
def test_a_table_is_taken_whole_or_refused_by_name(
    old_rule: str, new_rule: str, old_dim: int, new_dim: int, statistics: bool, embedx: bool
) -> None:
    old, new = table("embedding", old_rule, old_dim), table("embedding", new_rule, new_dim)
    plans, parts, problems = plan_tables({"embedding": old}, {"embedding": new}, statistics=statistics)
    same = (old_rule, old_dim) == (new_rule, new_dim)
    assert bool(problems) == (statistics and not same)
    if problems:
        assert not plans and all(line.startswith("table_parameters.embedding.accessor.") for line in problems)
        assert any("embedx_dim" in line for line in problems) == (old_dim != new_dim)
        return
    (part,) = parts
    assert part.taken == ("all" if statistics else "values") and bool(part.why) == (not statistics)
    line = line_of(old, embedx=embedx)
    text, values = plans["embedding"].line(line)
    assert values == line.split()
    if statistics:
        assert text == line
        return
    found = text.split()
    keeps = embedx and old_dim == new_dim
    assert len(found) == (len(new.columns) if keeps else new.embedx[0])
    assert found[:7] == values[:7] and set(found[7 : new.embedx[0]]) <= {b"0"}
    if keeps:
        assert found[slice(*new.embedx)] == values[slice(*old.embedx)]
        assert set(found[new.embedx[1] :]) <= {b"0"}


@given(rules, dims, st.integers(0, 40))
def test_a_line_of_other_columns_is_an_error(rule: str, dim: int, count: int) -> None:
    shape = table("t", rule, dim)
    plan = TablePlan(shape, shape, True)
    line = b" ".join([b"1"] * count)
    if count in (shape.embedx[0], len(shape.columns)):
        assert plan.line(line)[0] == line
    else:
        with pytest.raises(ValueError, match=f"{count} columns"):
            plan.line(line)


def test_tables_that_one_side_lacks() -> None:
    both = table("both", "SparseAdaGradSGDRule", 2)
    source, wanted = {"both": both, "gone": both}, {"both": both, "new": both}
    plans, parts, problems = plan_tables(source, wanted, statistics=True)
    assert list(plans) == ["both"] and not problems
    assert [(part.name, part.taken) for part in parts] == [("both", "all"), ("gone", "no"), ("new", "no")]
    assert "starts empty" in parts[2].why and "no such table" in parts[1].why


def test_another_accessor_is_named() -> None:
    old, new = (table("t", "SparseAdaGradSGDRule", 2, name) for name in ("SparseAccessor", "CtrCommonAccessor"))
    assert "accessor_class: SparseAccessor" in plan_tables({"t": old}, {"t": new}, statistics=True)[2][0]
    assert plan_tables({"t": old}, {"t": new}, statistics=False)[2] == []


@given(shapes, shapes, st.booleans(), st.sampled_from(["", "another optimizer"]))
def test_dense_parameters_by_name_and_shape(
    source: dict[str, tuple[int, ...]], wanted: dict[str, tuple[int, ...]], statistics: bool, state: str
) -> None:
    taken, whole, parts = plan_dense(source, wanted, wish=True, statistics=statistics, state=state)
    assert [part.name for part in parts] == sorted({*source, *wanted})
    assert taken == sorted(name for name in source if wanted.get(name) == source[name])
    assert whole == (source == wanted and bool(taken) and statistics and not state)
    for part in parts:
        assert (part.taken == "no") == (part.name not in taken)
        assert bool(part.why) == (part.taken != "all")


def test_a_parameter_without_state_keeps_no_state_from_the_others() -> None:
    """A source before 0.4.0, or PaddleRec's, has no mean of batch_norm."""
    wanted = {"fc": (1,), "mean": (2,)}
    taken, whole, parts = plan_dense({"fc": (1,)}, wanted, wish=True, statistics=True, own=["mean"])
    assert taken == ["fc"] and whole and [part.taken for part in parts] == ["all", "no"]
    assert plan_dense(wanted, wanted, wish=True, statistics=True, own=["mean"])[:2] == (["fc", "mean"], True)
    assert plan_dense({"fc": (1,)}, wanted, wish=True, statistics=True)[1] is False


def test_no_dense_parameters_where_the_config_says_so() -> None:
    taken, whole, parts = plan_dense({"a": (1,)}, {"a": (1,)}, wish=False, statistics=True)
    assert not taken and not whole and parts == [Part("dense", "a", "no", "stream.warmup.dense: false")]


@given(st.dictionaries(st.integers(0, 2**64 - 1), st.tuples(st.integers(0, 9), st.integers(0, 9), st.integers(0, 9))))
def test_counts_are_sorted_records(counts: dict[int, tuple[int, int, int]]) -> None:
    values = np.array(list(counts.values()), np.int64).reshape(-1, 3)
    keys = np.array(list(counts), np.uint64)
    data = encode_counts(keys, values[:, 0].astype(float), values[:, 1].astype(float), values[:, 2])
    found = np.frombuffer(data, COUNT)
    assert [int(k) for k in found["key"]] == sorted(counts)
    assert {int(r[0]): (int(r[1]), int(r[2]), int(r[3])) for r in found} == counts


def test_a_key_that_is_there_twice() -> None:
    zeros = np.zeros(2)
    with pytest.raises(ValueError, match="key 7 is there twice"):
        encode_counts(np.array([7, 7], np.uint64), zeros, zeros, np.zeros(2, np.int64))


def test_the_summary_counts_what_was_taken() -> None:
    parts = (Part("table", "e", "all", keys=1200), Part("table", "f", "no", "gone"), Part("dense", "w", "values", "y"))
    start = WarmStart("/m/20240101/2", "checkpoint", "ab" * 32, (*parts, Part("dense", "b", "no", "new")))
    assert "1,200 keys of 1 table(s), 1 of 2 dense" in start.summary() and "abababababab" in start.summary()
