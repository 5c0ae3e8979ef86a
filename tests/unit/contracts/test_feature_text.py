"""`feasign:slot` lines: the fast parsers against the exact ones, and both against a plain reading."""

import re
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from streamtrain.contracts import feature_text
from streamtrain.contracts.feature_text import MAX_FEASIGN, MAX_SLOT, FeatureError, parse_line, parse_lines

pairs = st.lists(st.tuples(st.integers(0, MAX_FEASIGN), st.integers(1, MAX_SLOT)), max_size=8)
token = st.one_of(
    st.tuples(st.integers(0, 2**64 + 2), st.integers(0, 65537)).map(lambda p: f"{p[0]}:{p[1]}"),
    st.tuples(st.integers(0, 99), st.integers(1, 99)).map(lambda p: f"00{p[0]}:0{p[1]}"),
    st.sampled_from([":", "5", "5:", ":5", "-1:2", "1.5:2", "+1:2", "0x5:2", "1:2:3", "1::2", "\t", "é:1", "1_0:2"]),
)
lines = st.one_of(
    st.lists(token, max_size=4).map(" ".join).map(str.encode),
    st.text("0123456789: \t", max_size=12).map(str.encode),
    st.binary(max_size=30),
)


def outcome(parse: Callable[[], Any]) -> Any:
    """The numbers, or the error's index and reason."""
    try:
        return [column.tolist() for column in parse()]
    except FeatureError as error:
        return error.index, str(error)


def columns(features: feature_text.Features) -> tuple[Any, Any, Any]:
    return features.counts, features.slots, features.feasigns


def exact_line(line: bytes) -> tuple[Any, Any]:
    numbers = feature_text.exact_numbers(line)
    return numbers[1::2], numbers[0::2]


@given(pairs)
def test_valid_lines(row: list[tuple[int, int]]) -> None:
    line = " ".join(f"{feasign}:{slot}" for feasign, slot in row).encode()
    expected = [[slot for _, slot in row], [feasign for feasign, _ in row]]
    assert outcome(lambda: parse_line(line)) == outcome(lambda: exact_line(line)) == expected


@given(st.lists(pairs, max_size=4))
def test_valid_lines_together(rows: list[list[tuple[int, int]]]) -> None:
    texts = [" ".join(f"{feasign}:{slot}" for feasign, slot in row).encode() for row in rows]
    flat = [pair for row in rows for pair in row]
    expected = [[len(row) for row in rows], [slot for _, slot in flat], [feasign for feasign, _ in flat]]
    assert outcome(lambda: columns(parse_lines(texts))) == expected


def test_the_usual_form_goes_the_fast_way() -> None:
    line = b"18446744073709551614:65535 0:1 7:2"
    assert feature_text._fast_numbers(line) is not None
    assert feature_text.fast_features([line, b"", b"5:3"]) is not None


@example(b"1:2 3")
@example(b"99999999999999999999:2")
@example(b"18446744073709551616:2")
@example(b"1e5:2")
@given(lines)
def test_fast_and_exact_agree_on_a_line(line: bytes) -> None:
    assert outcome(lambda: parse_line(line)) == outcome(lambda: exact_line(line))


@example([b"0", b"1", b":"])
@example([b"1:2", b"3 4:5"])
@given(st.lists(lines, max_size=4))
def test_fast_and_exact_agree_on_lines(texts: list[bytes]) -> None:
    fast = outcome(lambda: columns(parse_lines(texts)))
    assert fast == outcome(lambda: columns(feature_text.exact_features(texts)))
    one_by_one = [outcome(lambda text=text: parse_line(text)) for text in texts]
    errors = [(index, row[1]) for index, row in enumerate(one_by_one) if isinstance(row, tuple)]
    if errors:
        assert fast == errors[0]
    else:
        assert fast[1:] == [[n for row in one_by_one for n in row[i]] for i in (0, 1)]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"x:2", "'x:2' is not feasign:slot"),
        (b"1:2 5", "'5' is not feasign:slot"),
        (b"18446744073709551616:2", "feasign '18446744073709551616' is over 2^64-1"),
        (b"9" * 5000 + b":2", f"feasign '{'9' * 40}'... is over 2^64-1"),
        (b"5:0", "slot '0' is not from 1 to 65535"),
        (b"5:65536", "slot '65536' is not from 1 to 65535"),
        (b"5:" + b"1" * 5000, f"slot '{'1' * 40}'... is not from 1 to 65535"),
    ],
)
def test_reasons(line: bytes, reason: str) -> None:
    for parse in (lambda: parse_line(line), lambda: parse_lines([b"1:2", line])):
        with pytest.raises(FeatureError, match=re.escape(reason)):
            parse()


def test_any_number_of_zeros_ahead() -> None:
    """int() refuses more than 4,300 digits."""
    line = b"0" * 5000 + b"7:" + b"0" * 5000 + b"2"
    assert outcome(lambda: parse_line(line)) == [[2], [7]]
    assert outcome(lambda: columns(parse_lines([line]))) == [[1], [2], [7]]
