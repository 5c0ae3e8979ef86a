"""The bridge and the recount read each format with code of their own: each line gives the same row, or none in both."""

import csv
import io
import json
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import streamtrain
from streamtrain.connectors.formats import RejectError, line_parser
from streamtrain.connectors.rows import RowBuilder
from streamtrain.connectors.user_batches import user_parser
from streamtrain.contracts.hashing import CROSS, feasign_of
from streamtrain.contracts.row_layout import RowLayout
from streamtrain.proof.formats import row_of
from streamtrain.proof.job import rules_of
from streamtrain.proof.line_rules import Rules
from tests.support.value_rows import DENSE, FEATURES, HEADER, LABELS, value_config

FORMATS = ["multislot", "name_value", "csv", "tsv", "json"]
OWN = ["tests.support.value_rows:own_format", "tests.support.value_rows:in_batches"]


@cache
def readers(line_format: str, strict: bool = False) -> tuple[Any, Rules]:
    unknown = "reject" if strict else "ignore"
    config = value_config(Path(mkdtemp()), line_format, unknown_slot=unknown)
    parse = line_parser(config.line_format, config.layout, reject_unknown=strict)
    parse.begin("file", ",".join(HEADER).encode() if line_format == "csv" else "\t".join(HEADER).encode())
    return parse, rules_of(config)


def of_bridge(line_format: str, line: bytes, strict: bool = False) -> Any:
    """(labels, [(feasign, slot)]); None for a reject; "none" for no row."""
    parse, _ = readers(line_format, strict)
    content = parse.content(line)
    try:
        row = parse(content)
    except RejectError as reason:
        assert str(reason)
        return None
    if row is None:
        return "none"
    slots, feasigns = np.frombuffer(row.slots, "<u2").tolist(), np.frombuffer(row.feasigns, "<u8").tolist()
    assert row.values and len(row.dense) == 4 * sum(DENSE.values()) and slots == sorted(slots)
    labels = dict(zip(LABELS, np.frombuffer(row.labels, "<f4").tolist(), strict=True))
    assert row.label == labels["click"]
    return labels, [(f, s) for f, s in zip(feasigns, slots, strict=True) if f]


def of_recount(line_format: str, line: bytes, strict: bool = False) -> Any:
    _, rules = readers(line_format, strict)
    try:
        row = row_of(rules.content(line), rules, HEADER)
    except ValueError:
        return None
    if row is None:
        return "none"
    labels = {name: float(np.float32(value)) for name, value in row.labels.items()}
    return labels, sorted(row.pairs, key=lambda pair: pair[1])


USER, ITEMS = feasign_of("u7", 2), [feasign_of(text, 2) for text in ("a", "b")]
PAIRS = [
    (USER, 2), (ITEMS[0], 3), (ITEMS[1], 3), (feasign_of("1", 4), 4),
    (feasign_of(f"u7{CROSS}a", 5), 5), (feasign_of(f"u7{CROSS}b", 5), 5), (2**64 - 1, 6),
]  # fmt: skip
ROW = ({"click": 1.0, "dwell": 2.5, "stars": 4.0}, PAIRS)
PLAIN = ({"click": 1.0, "dwell": 2.5, "stars": 4.0}, [(7, 2), (9, 3), (8, 3), (5, 6)])


@pytest.mark.parametrize(
    ("line_format", "line", "row"),
    [
        ("csv", b'buy,2.5,4,0.75,"1 2.5",3,u7,a|b,18446744073709551615,"x,""y"""', ROW),
        ("tsv", b"buy\t2.5\t4\t0.75\t1 2.5\t\tu7\ta|b\t18446744073709551615\t", ROW),
        ("json", b'{"action":1,"dwell":2.5,"stars":4.0,"price":"0.75","vec":[1,2],"user":"u7","items":["a","b"],'
                 b'"ready":18446744073709551615,"more":{"x":[]}}', ROW),
        ("name_value", b"click:1 dwell:2.5 stars:4 price:.75 vec:1 vec:2 user:7 3:9 items:8 ready:5 other:x", PLAIN),
        ("multislot", b"1 1 1 1 1 2.5 1 4 1 1 1 0.75 2 1 2e-1 1 7 2 9 8 1 0 1 0 1 5", PLAIN),
        (OWN[0], b"Row(labels={'click': 1, 'dwell': 2.5, 'stars': 4}, dense={'price': .75, 'vec': [1, 2]}, weight=2,"
                 b"features={'user': 7, 3: [9, 8], 'ready': [5]})", PLAIN),
    ],
)  # fmt: skip
def test_a_row_of_each_format(line_format: str, line: bytes, row: Any) -> None:
    assert of_bridge(line_format, line) == row
    assert of_recount(line_format, line) == row


def test_the_hash_is_xxh64_of_the_text_with_the_slot_as_seed() -> None:
    assert feasign_of("", 0) == 0xEF46DB3751D8E999  # the specification's own
    assert feasign_of("u7", 2) != feasign_of("u7", 3)


good = {
    "action": st.sampled_from(["click", "buy", "view", 1]), "dwell": st.floats(-9, 9, width=32),
    "price": st.floats(0, 30), "stars": st.integers(-5, 5), "vec": st.sampled_from(["1 2", "0.5  -1", [1, 2.5]]),
    "w": st.sampled_from([1, "0.5"]),
    "user": st.sampled_from(["u7", 7, -3, True, "ü"]), "items": st.sampled_from(["a|b", "a", ["a", 5, True]]),
    "ready": st.sampled_from([5, "7", 0, [1, "2"]]),
}  # fmt: skip
odd = st.sampled_from(
    [None, "", [], [[]], {}, "x", "1e999", "1e39", 1e39, 3.4028235677973366e38, 3.4e38, -1, 0.9, 1e300, "nan", "inf",
     "0x1", "1_0", "٣", " 1", "+1", "1.", ".5", ".", "e5", 2**64 - 1, 2**64, "18446744073709551616", "007", 2**24,
     2**24 + 1, True, False, ["a", ["b"]], ["", None], "|", "a||b", "none", "9" * 401, "0" * 401 + "1",
     "0", 0, 1.5, 20, "1.5"]
)  # fmt: skip
records = st.fixed_dictionaries({k: st.one_of(v, v, v, v, v, v, v, v, v, odd) for k, v in good.items()})


def as_text(value: Any) -> str:
    if isinstance(value, list):
        return "|".join(map(str, value))
    return "" if value is None else str(value)


@settings(max_examples=500, deadline=None)
@given(record=records, left_out=st.sets(st.sampled_from(list(good)), max_size=1))
def test_json(record: dict[str, Any], left_out: set[str]) -> None:
    line = json.dumps({k: v for k, v in record.items() if k not in left_out}).encode()
    assert of_bridge("json", line) == of_recount("json", line)


@settings(max_examples=500, deadline=None)
@given(
    record=records,
    line_format=st.sampled_from(["csv", "tsv"]),
    raw=st.sampled_from([b'"', b",", b"\r", b"\0", b"\xff", b"\t", b'x"']) | st.binary(max_size=2),
    at=st.integers(0, 200),
)
def test_cells(record: dict[str, Any], line_format: str, raw: bytes, at: int) -> None:
    out = io.StringIO()
    cells = [as_text(record.get(name)) for name in HEADER]
    if line_format == "csv":
        csv.writer(out, lineterminator="").writerow(cells)
    else:
        out.write("\t".join(cells))
    line = out.getvalue().encode()
    line = line[:at] + raw + line[at:] if at <= len(line) else line
    assert of_bridge(line_format, line) == of_recount(line_format, line)


numbers = st.sampled_from([b"0", b"1", b"0.5", b"2.5e3", b"-1", b"4", b"16777217", b"nan", b"1e39", b"1_0", b""])
feasigns = st.sampled_from([b"0", b"7", b"18446744073709551615", b"18446744073709551616", b"007", b"x", b"1.0", b"-1"])


def named(name: bytes, value: bytes) -> bytes:
    return name + b":" + value


pair = st.one_of(
    st.builds(named, st.sampled_from([b"user", b"items", b"3", b"03", b"99", b"other", b"ready"]), feasigns),
    st.builds(named, st.sampled_from([b"click", b"price", b"vec", b"w", b"dwell"]), numbers),
    st.binary(max_size=4), st.sampled_from([b":", b"a:", b":5", b"user:1:2"]),
)  # fmt: skip


@settings(max_examples=500, deadline=None)
@given(more=st.lists(pair, max_size=2), at=st.integers(0, 8), gone=st.integers(0, 30), strict=st.booleans())
def test_name_value(more: list[bytes], at: int, gone: int, strict: bool) -> None:
    tokens = b"click:1 dwell:2.5 stars:4 price:.75 vec:1 vec:2 user:7 3:9 items:8".split()
    del tokens[gone : gone + 1]
    line = b" ".join([*tokens[:at], *more, *tokens[at:]])
    assert of_bridge("name_value", line, strict) == of_recount("name_value", line, strict)


@settings(max_examples=500, deadline=None)
@given(changes=st.dictionaries(st.integers(0, 27), st.one_of(numbers, feasigns, st.binary(max_size=3)), max_size=2))
def test_multislot(changes: dict[int, bytes]) -> None:
    tokens = b"1 1 1 1 1 2.5 1 4 1 1 1 0.75 2 1 2e-1 1 7 2 9 8 1 0 1 0 1 5".split()
    line = b" ".join(changes.get(i, tokens[i]) if i < len(tokens) else changes.get(i, b"") for i in range(28))
    assert of_bridge("multislot", line) == of_recount("multislot", line)


some = st.sampled_from([
    "1", "0", "1.0", "0.9", "2", "True", "None", "'1'", "2.5", "float('nan')", "10**400", "-1", "2**64-1", "2**64",
    "1e39", "__import__('numpy').float32(1)", "__import__('numpy').array(4)", "__import__('numpy').array([1,2])",
    "[1, 2]", "[]", "(5,)", "iter([1, 2])", "{3}", "b'ab'", "[[1]]", "1/0", "__import__('decimal').Decimal(1)", "1j",
])  # fmt: skip


@settings(max_examples=500, deadline=None)
@given(
    labels=st.lists(some, min_size=3, max_size=3), dense=st.lists(some, min_size=2, max_size=2), weight=some,
    which=st.integers(0, 7), name=st.sampled_from(["'user'", "3", "'3'", "'03'", "99", "'other'", "0", "3.0", "True"]),
    values=some, form=st.sampled_from(["features", "slots", "both", "tuple", "labels", "dense", "extra"]),
    own=st.sampled_from(OWN), strict=st.booleans(),
)  # fmt: skip
def test_a_function_of_the_users(
    labels: list[str],
    dense: list[str],
    weight: str,
    which: int,
    name: str,
    values: str,
    form: str,
    own: str,
    strict: bool,
) -> None:
    right = ["1", "2.5", "4", "0.5", "[1, 2]", "1"]
    given_ = [*labels, *dense, weight]
    if which < 6:  # most are right but for one
        given_ = [given_[i] if i == which else right[i] for i in range(6)]
    elif which == 7:
        given_ = right
    a, b, c, d, e, w = given_
    features = {"features": f"features={{{name}: {values}}}", "slots": f"slots=[{name}], feasigns={values}",
                "both": f"features={{2: 1}}, slots={values}"}.get(form, f"features={{{name}: [7]}}")  # fmt: skip
    labelled = f"{{'click': {a}, 'dwell': {b}, 'stars': {c}}}" if form != "labels" else a
    floats = f"{{'price': {d}, 'vec': {e}}}" if form != "dense" else f"{{'price': {d}}}"
    floats = f"{{'more': 1, 'price': {d}, 'vec': {e}}}" if form == "extra" else floats
    text = f"Row(labels={labelled}, dense={floats}, weight={w}, {features})" if form != "tuple" else f"({a}, [2], [7])"
    assert of_bridge(own, text.encode(), strict) == of_recount(own, text.encode(), strict)


@pytest.mark.parametrize(("weight", "taken"), [(1, True), (1.0, True), (2, False), (float("nan"), False), ("1", False)])
def test_a_weight_that_the_config_does_not_name(weight: Any, taken: bool) -> None:
    result = streamtrain.Row(labels=1, features={2: [7]}, weight=weight)
    parse = user_parser(RowBuilder(RowLayout((2,)), reject_unknown=False), lambda _line: result)
    rules = Rules((2,), "mine:parse", lambda _line: result)
    for read in (lambda: parse(b"x"), lambda: row_of(b"x", rules)):
        if taken:
            assert read() is not None
        else:
            with pytest.raises(ValueError):
                read()


@settings(max_examples=300, deadline=None)
@given(line=st.binary(max_size=60), line_format=st.sampled_from(FORMATS), strict=st.booleans())
def test_junk(line: bytes, line_format: str, strict: bool) -> None:
    assert of_bridge(line_format, line, strict) == of_recount(line_format, line, strict)


@pytest.mark.parametrize("line_format", FORMATS)
def test_the_checks_above_have_rows_and_rejects(line_format: str) -> None:
    """A property over lines that are all rejected would show nothing."""
    lines = {
        "json": [b'{"action":"view","dwell":1,"price":2}', b'{"action":"view"}'],
        "csv": [b"view,1,,2,,,,,,", b"view,1"],
        "tsv": [b"view\t1\t\t2\t\t\t\t\t\t", b"view\t1"],
        "name_value": [b"click:0 dwell:1 stars:0 price:1 vec:1 vec:1", b"click:0"],
        "multislot": [b"1 1 1 0 1 1 1 0 1 1 1 2 2 1 1 1 0 1 0 1 0 1 0 1 0", b"1 1 1 0"],
    }[line_format]
    assert [of_bridge(line_format, line) is None for line in lines] == [False, True]
    assert FEATURES["user"] == 2
