"""Scalars as YAML 1.2's core schema has them; what a text hides is refused."""

import math
import re
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from streamtrain.config.yaml_text import MAX_DEPTH, read_yaml


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("060", 60), ("0o60", 48), ("0x1F", 31), ("-7", -7), ("+7", 7), ("5e-2", 0.05), (".5", 0.5), ("1.", 1.0),
        ("true", True), ("False", False), ("TRUE", True), ("~", None), ("null", None), ("", None), ("'5'", "5"),
        ("18446744073709551615", 2**64 - 1),
    ],
)  # fmt: skip
def test_scalars(text: str, value: Any) -> None:
    found = read_yaml(f"x: {text}")["x"]
    assert found == value and type(found) is type(value)


@pytest.mark.parametrize(
    "text",
    ["1_000", "12:30", "12:30:45", "yes", "No", "on", "OFF", "y", "2019-07-20", "0b1", "1e", "=", "0o8", "+.nan"],
)
def test_what_yaml_1_1_reads_as_something_else_is_text(text: str) -> None:
    assert read_yaml(f"x: {text}") == {"x": text}


def test_numbers_that_are_not_finite_are_still_numbers() -> None:
    assert math.isnan(read_yaml("x: .nan")["x"]) and read_yaml("x: -.inf")["x"] == -math.inf


def test_merge_keys_are_taken_and_own_keys_win() -> None:
    text = "a: &a {x: 1, y: 2}\nb: &b {<<: *a, y: 3}\nc:\n  <<: [*b, {z: 4}]\n  x: 5\nd: *b"
    found = read_yaml(text)
    assert found["b"] == found["d"] == {"x": 1, "y": 3}
    assert found["c"] == {"x": 5, "y": 3, "z": 4}


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("a: 1\na: 2", "'a' is given twice"),
        ("b: &b {x: 1}\na:\n  <<: *b\n  <<: *b", "given twice"),
        ("b: &b {x: 1}\na:\n  <<: *b\n  x: 1\n  x: 2", "'x' is given twice"),
        ("a: !!python/name:os.system x", "!!python/name:os.system"),
        ("a: !secret x", "!secret"),
        ("a: !!set {x}", "!!set"),
        ("a: !!binary aGk=", "!!binary"),
        ("a: !!int x", "'x' is not a whole number"),
        ("a: !!map x", "none"),
        ("a: &a [*a]", "contains itself"),
        ("a: &a {<<: *a}", "contains itself"),
        ("[a]: 1", "found a list"),
        ("null: 1", "must be text"),
        ("1.5: 1", "must be text"),
        ("? \n: 1", "found nothing"),
        ("a: 123456789012345678901234567890", "64 bits"),
        (f"a: {'9' * 5000}", "64 bits"),
        ('a: "\\0"', "NUL"),
        ('a: "\\ud800"', "half of a pair"),
        ("a: " + "[" * (MAX_DEPTH + 2) + "]" * (MAX_DEPTH + 2), "in each other"),
        ("a: " + "[" * 5000, "in each other"),
        ("a: 1\n---\nb: 2", "another document"),
        ("a: *b", "undefined alias"),
        ("a: &a {<<: 1}", "for merging"),
    ],
)
def test_what_is_refused_is_named(text: str, problem: str) -> None:
    with pytest.raises(yaml.YAMLError) as caught:
        read_yaml(text)
    assert problem in str(caught.value)


@pytest.mark.parametrize("form", ["[{}]", "{{<<: [{}]}}"])
def test_aliases_that_stand_for_billions_are_refused_at_once(form: str) -> None:
    lines = ["a0: &a0 {x: 1, y: 2}"]
    for i in range(1, 30):
        lines.append(f"a{i}: &a{i} " + form.format(", ".join([f"*a{i - 1}"] * 9)))
    with pytest.raises(yaml.YAMLError, match="values, once aliases"):
        read_yaml("\n".join(lines))


def test_a_long_chain_of_aliases_counts_as_nesting() -> None:
    lines = ["a0: &a0 [1]", *(f"a{i}: &a{i} [*a{i - 1}]" for i in range(1, 2000))]
    with pytest.raises(yaml.YAMLError, match="in each other"):
        read_yaml("\n".join(lines))


def test_text_as_written_in_a_section_alone() -> None:
    text = "a: &v 0123\nkafka: {p: *v, q: 1_0, r: ~, s:, t: [0x1, on]}\nrunner: {name: 007, count: 007}"
    found = read_yaml(text, {"kafka": None, "runner": ["name"]})
    assert found["a"] == 123
    assert found["kafka"] == {"p": "0123", "q": "1_0", "r": "~", "s": None, "t": ["0x1", "on"]}
    assert found["runner"] == {"name": "007", "count": 7}


def test_a_merged_section_is_as_written_too() -> None:
    text = "base: &b {p: 0123}\nkafka: {<<: *b, q: 0x1}"
    assert read_yaml(text, {"kafka": None})["kafka"] == {"p": "0123", "q": "0x1"}


@given(st.floats(allow_nan=False, allow_infinity=False), st.sampled_from(["e", "E"]))
def test_every_float_is_read_back(value: float, letter: str) -> None:
    """As Python prints it, and with an exponent always."""
    for text in (repr(value), f"{value:.17e}".replace("e", letter), f"{value:.17e}".replace("e+", "e")):
        found = read_yaml(f"x: {text}")["x"]
        assert isinstance(found, float) and found == value


#: Numbers of YAML 1.2, such as 1e5 and -.5: some are text for PyYAML, which then writes them without quotes.
NUMBER = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|0o[0-7]+")
plain = st.text(st.characters(exclude_categories=["Cs", "Cc"])).filter(lambda text: not NUMBER.fullmatch(text))
values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | plain,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abc", min_size=1), inner, max_size=3),
)


@given(values)
def test_what_pyyaml_writes_is_read_back(value: Any) -> None:
    assert read_yaml(yaml.safe_dump({"x": value}, allow_unicode=True)) == {"x": value}
