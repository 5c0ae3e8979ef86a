import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamtrain.connectors.formats import FeasignSlotParser, RejectError, line_parser
from streamtrain.contracts.network import click_feeds
from streamtrain.contracts.row_layout import RowLayout
from streamtrain.contracts.sample import SampleDecoder, encode_sample
from streamtrain.feed.multislot import MultiSlotWriter

SLOTS = (2, 3, 7)
LAYOUT = RowLayout(SLOTS)
feasigns = st.integers(1, 2**64 - 1)
rows = st.tuples(st.integers(0, 1), st.lists(st.tuples(st.sampled_from(SLOTS), feasigns), max_size=12))


def multislot(label: int, pairs: list[tuple[int, int]]) -> str:
    """The definition, written the plain way."""
    out = [1, 1, 1, label]
    for slot in SLOTS:
        values = [f for s, f in pairs if s == slot] or [0]
        out += [len(values), *values]
    return " ".join(map(str, out))


@given(st.lists(rows, min_size=1, max_size=6))
def test_text_to_avro_to_multislot(table: list[tuple[int, list[tuple[int, int]]]]) -> None:
    parse = line_parser("feasign_slot", LAYOUT)
    messages = []
    for number, (label, pairs) in enumerate(table):
        line = " ".join([f"{f}:{s}" for s, f in pairs] + [f"{label}:1"])
        row = parse(line.encode())
        messages.append(encode_sample(row.label, 0, number, row.slots, row.feasigns))
    text = MultiSlotWriter(click_feeds(SLOTS), LAYOUT).text(SampleDecoder().decode(messages)).decode()
    assert text.splitlines() == [multislot(label, pairs) for label, pairs in table]


@given(st.lists(rows, min_size=1, max_size=4))
def test_multislot_lines_come_back_as_they_were(table: list[tuple[int, list[tuple[int, int]]]]) -> None:
    parse = line_parser("multislot", LAYOUT)
    lines = [multislot(label, pairs) for label, pairs in table]
    messages = [
        encode_sample(r.label, 0, i, r.slots, r.feasigns) for i, r in enumerate(parse(x.encode()) for x in lines)
    ]
    text = MultiSlotWriter(click_feeds(SLOTS), LAYOUT).text(SampleDecoder().decode(messages)).decode()
    assert text.splitlines() == lines


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"1:1 -5:2", "not feasign:slot"),
        (b"1:1 18446744073709551616:2", "over 2"),
        (b"1:1 5:65536", "not from 1"),
        (b"1:1 5:0", "not from 1"),
        (b"5:2", "no label"),
        (b"1:1 0:1 5:2", "2 labels"),
        (b"3:1 5:2", "label is 3"),
        (b"1:1 5", "not feasign:slot"),
        (b"1:1 :2", "not feasign:slot"),
        (b"1:1 1.5:2", "not feasign:slot"),
        (b"\x00\xff\x1f\x8b", "not feasign:slot"),
        (b"1:1 " + b"9" * 5000 + b":2", "over 2"),
    ],
)
def test_bad_lines_are_rejected_with_a_reason(line: bytes, reason: str) -> None:
    with pytest.raises(RejectError, match=reason):
        line_parser("feasign_slot", LAYOUT)(line)


@given(st.binary(max_size=200))
def test_garbage_is_a_row_or_a_reject(line: bytes) -> None:
    for name in ("feasign_slot", "multislot"):
        try:
            row = line_parser(name, LAYOUT)(line)
        except RejectError:
            continue
        assert row.label in (0, 1) and len(row.feasigns) == 4 * len(row.slots)


def test_unusual_but_good_lines() -> None:
    row = line_parser("feasign_slot", LAYOUT)(b"007:2\t1:1  18446744073709551615:7")
    assert np.frombuffer(row.feasigns, "<u8").tolist() == [7, 2**64 - 1]


def test_an_unknown_slot_is_dropped_or_rejected() -> None:
    row = line_parser("feasign_slot", LAYOUT)(b"1:1 5:2 6:99")
    assert np.frombuffer(row.slots, "<u2").tolist() == [2]
    with pytest.raises(RejectError, match="slot 99"):
        line_parser("feasign_slot", LAYOUT, reject_unknown=True)(b"1:1 5:2 6:99")


def test_a_function_of_the_users() -> None:
    parse = line_parser("tests.support.user_format:parse", LAYOUT)
    row = parse(b"1,5,6")
    assert (row.label, np.frombuffer(row.feasigns, "<u8").tolist()) == (1, [5, 6])
    with pytest.raises(RejectError):
        parse(b"nonsense")


tokens = st.tuples(st.sampled_from([0, 1, 2, 5, 2**64 - 1, 2**64]), st.sampled_from([1, 2, 3, 7, 99, 65536]))
any_line = st.one_of(
    st.lists(tokens.map(lambda pair: f"{pair[0]}:{pair[1]}"), max_size=6).map(" ".join),
    rows.map(lambda row: " ".join([f"{row[0]}:1", *(f"{f}:{s}" for s, f in row[1])])),
    st.sampled_from(["x", "1:1 5", "1:1 5:2 1:1", "1:1 7:", "1:1  5:2"]),
)


@given(st.lists(any_line.map(str.encode), min_size=1, max_size=6), st.booleans())
def test_lines_together_are_the_rows_that_they_are_one_by_one(lines: list[bytes], strict: bool) -> None:
    parse = line_parser("feasign_slot", LAYOUT, reject_unknown=strict)

    def alone(line: bytes) -> object:
        try:
            return parse(line)
        except RejectError as reason:
            return str(reason)

    together = [str(each) if isinstance(each, RejectError) else each for each in parse.rows(lines)]
    assert together == [alone(line) for line in lines]


def test_lines_as_they_should_be_are_taken_together(monkeypatch: pytest.MonkeyPatch) -> None:
    parse = line_parser("feasign_slot", LAYOUT)
    monkeypatch.setattr(FeasignSlotParser, "__call__", None)
    found = list(parse.rows([b"1:1 9:7 4:2 5:99 3:2", b"0:1", b"8:3 1:1"]))
    slots = [np.frombuffer(row.slots, "<u2").tolist() for row in found]
    keys = [np.frombuffer(row.feasigns, "<u8").tolist() for row in found]
    assert ([row.label for row in found], slots, keys) == ([1, 0, 1], [[2, 2, 7], [], [3]], [[4, 3, 9], [], [8]])
