"""Ids of rows: before their rows in the text, and by the split whose range has the row."""

from hypothesis import given
from hypothesis import strategies as st

from streamtrain.connectors.formats import line_parser
from streamtrain.contracts.marker import Marker, Range, SourceFile
from streamtrain.contracts.network import click_feeds
from streamtrain.contracts.row_layout import RowLayout
from streamtrain.contracts.sample import SampleDecoder, encode_sample
from streamtrain.feed.multislot import MultiSlotWriter
from streamtrain.feed.row_ids import RowIds, files_of
from tests.support.jobs import rows

SLOTS = (2, 3, 4, 5)
LAYOUT = RowLayout(SLOTS)


def marker(day: str, time: str, revision: int, *ranges: Range, files: tuple[str, ...] = ("part-0",)) -> Marker:
    listed = tuple(SourceFile(f, 0, 0, "") for f in files)
    return Marker(day, time, 0, revision, "data", "t", ranges, sum(r.rows for r in ranges), 0, listed, "{}")


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(1, 9)), min_size=1, max_size=20))
def test_ids_stand_before_their_rows(places: list[tuple[int, int]]) -> None:
    parse = line_parser("feasign_slot", LAYOUT)
    parsed = [parse(line.encode()) for line in rows(len(places))]
    messages = [
        encode_sample(r.label, file, line, r.slots, r.feasigns) for r, (file, line) in zip(parsed, places, strict=True)
    ]
    records = [(0, 7 + i, message) for i, message in enumerate(messages)]
    batch = SampleDecoder().decode(messages, places=True)
    ids = RowIds([marker("20240101", "0030", 0, Range(0, 7, 99, 92))]).encode(records, batch)
    assert ids == [b"20240101/0030/%d/%d" % place for place in places]
    plain = MultiSlotWriter(click_feeds(SLOTS), LAYOUT).text(SampleDecoder().decode(messages))
    text = MultiSlotWriter(click_feeds(SLOTS), LAYOUT).text(batch, ids)
    expected = [b"1 %b %b" % pair for pair in zip(ids, plain.splitlines(keepends=True), strict=True)]
    assert text == b"".join(expected)


def test_an_id_names_the_split_whose_range_has_the_row() -> None:
    markers = [
        marker("20240101", "0000", 0, Range(0, 0, 10, 9), Range(1, 0, 5, 5)),
        marker("20240101", "0030", 0, Range(0, 12, 20, 8), files=("a", "b")),
        marker("20240101", "0000", 1, Range(1, 7, 9, 2), files=("late",)),
    ]
    places = {(0, 0): "0000", (0, 9): "0000", (1, 4): "0000", (0, 12): "0030", (0, 19): "0030", (1, 7): "0000.1"}
    records = [(p, o, encode_sample(1, 0, 3, b"", b"")) for p, o in places]
    batch = SampleDecoder().decode([value for _, _, value in records], places=True)
    found = [i.decode() for i in RowIds(markers).encode(records, batch)]
    assert found == [f"20240101/{time}/0/3" for time in places.values()]
    assert dict(files_of(markers)) == {
        "20240101/0000/0": "20240101/0000/part-0",
        "20240101/0030/0": "20240101/0030/a",
        "20240101/0030/1": "20240101/0030/b",
        "20240101/0000.1/0": "20240101/0000/late",
    }
