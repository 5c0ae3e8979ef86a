"""The columns of the sparse table's text."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamtrain.contracts import table_text
from streamtrain.contracts.table_text import RULES, TableColumns, Thresholds, state_columns

TWO = TableColumns(2)
number = st.floats(-1e3, 1e3, width=32).map(lambda x: f"{x:.6g}")
line = st.tuples(
    st.integers(1, 2**64 - 1),
    st.lists(number, min_size=7, max_size=7),
    st.lists(number, min_size=3, max_size=3) | st.none(),
)


def text(lines: list[tuple[int, list[str], list[str] | None]]) -> bytes:
    """Paddle's, with embedx_dim 2; no embedx below embedx_threshold."""
    return "".join(" ".join([str(k), *stats, *(embedx or [])]) + "\n" for k, stats, embedx in lines).encode()


@given(st.lists(line, max_size=30))
def test_shortened_lines(lines: list[tuple[int, list[str], list[str] | None]]) -> None:
    expected = "".join(f"{k} {' '.join([stats[5], *(embedx or ['0', '0'])[:2]])}\n" for k, stats, embedx in lines)
    assert table_text.shorten(text(lines), TWO) == (expected.encode(), len(lines))


@given(st.lists(line, max_size=30))
def test_parsed_lines(lines: list[tuple[int, list[str], list[str] | None]]) -> None:
    for (key, stats, embedx), data in zip(lines, text(lines).splitlines(), strict=True):
        state = table_text.parse_line(data, TWO.names)
        assert (state.key, state.show, state.click, state.embed_w) == (key, *map(float, (stats[3], stats[4], stats[5])))
        assert state.embedx == tuple(map(float, (embedx or [])[:2]))


@pytest.mark.parametrize(
    ("rule", "embed", "embedx"),
    [
        ("SparseNaiveSGDRule", 0, 0),
        ("SparseAdaGradSGDRule", 1, 1),
        ("SparseAdaGradV2SGDRule", 1, 1),
        ("StdAdaGradSGDRule", 1, 3),
        ("SparseAdamSGDRule", 4, 8),
        ("SparseSharedAdamSGDRule", 4, 4),
    ],
)
def test_what_each_rule_keeps(rule: str, embed: int, embedx: int) -> None:
    columns = TableColumns(3, state_columns("embed", rule, 1), state_columns("embedx", rule, 3))
    assert (len(columns.embed_state), len(columns.embedx_state)) == (embed, embedx)
    assert columns.embedx_begin == columns.names.index("embedx_0") == 7 + embed
    assert columns.names[columns.embedx_begin : columns.embedx_end] == ("embedx_0", "embedx_1", "embedx_2")
    assert columns.count == len(columns.names) == len(set(columns.names))


def test_every_rule_is_tested() -> None:
    (mark,) = (m for m in test_what_each_rule_keeps.pytestmark if m.name == "parametrize")
    assert {case[0] for case in mark.args[1]} == set(RULES)


def test_thresholds() -> None:
    thresholds = Thresholds(0.1, 1.0, 1.5, 0.25, 2.0)
    #           key slot unseen delta show click w g2sum
    lines = [b"1 5 0 0 5 1 .5 0\n", b"2 5 0 0 14 0 .5 0\n", b"3 5 3 0 9 9 .5 0\n", b"4 5 2 0 6 1 .5 0\n"]
    assert table_text.filtered(b"".join(lines), thresholds) == lines[3]


def test_lines_that_do_not_have_the_columns() -> None:
    for data in (b"1 2 3\n", b"1 2 3 4 5 6 7 8 9\n", b"\n"):
        with pytest.raises(ValueError, match="a line of"):
            table_text.shorten(data, TWO)
    with pytest.raises(ValueError, match="it lacks column 'slot'"):
        table_text.parse_line(b"7", ["key"])


COUNTED = table_text.PULLED["CtrCommonAccessor"]


def test_the_text_of_a_table_that_counts() -> None:
    """Its embeddings begin with show and click."""
    line = b"7 2 0 1.5 9 4 0.25 0.5 1 2 0.75\n"
    assert table_text.shorten(line, TWO, COUNTED) == (b"7 9 4 0.25 1 2\n", 1)
    assert table_text.shorten(b"7 2 0 1.5 9 4 0.25 0.5\n", TWO, COUNTED) == (b"7 9 4 0.25 0 0\n", 1)
    names = table_text.inference_meta(2, 1, COUNTED).names
    assert names == ("key", "show", "click", "embed_w", "embedx_0", "embedx_1")


def test_directories_of_tables() -> None:
    assert [table_text.shard_directory("deep", n) for n in (1, 2)] == ["embedding.shard", "deep.shard"]
    for name in ("a/b", "../x", "$(id)", "-x"):
        with pytest.raises(ValueError):
            table_text.shard_directory(name, 2)
