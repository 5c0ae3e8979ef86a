"""The recount's own reading: files of a split, lines, rows; and arbitrary bytes, which give our errors alone."""

import gzip
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamtrain.connectors.formats import RejectError, line_parser
from streamtrain.contracts.marker import Marker, SourceFile
from streamtrain.contracts.row_layout import RowLayout
from streamtrain.errors import CheckpointError, DataError, UnknownFormat
from streamtrain.proof import markers, newest
from streamtrain.proof.formats import row_of
from streamtrain.proof.line_rules import Rules
from streamtrain.proof.logs import LocalLogs
from streamtrain.proof.rows import MAX_LINE, digests, files, lines
from streamtrain.proof.sources import Reader

SLOTS = (2, 3)
LAYOUT = RowLayout(SLOTS)


def texts(path: Path) -> list[bytes | None]:
    return [line.text for line in lines(path)]


# files


def test_files_are_found_in_deeper_directories_and_through_links(tmp_path: Path) -> None:
    split = tmp_path / "split"
    (split / "host-a" / "b").mkdir(parents=True)
    (tmp_path / "store").mkdir()
    for path in ("store/one", "store/two", "split/part-0", "split/host-a/b/part-1", "split/host-a/data.done"):
        (tmp_path / path).write_text("1:1\n")
    (split / "linked").symlink_to(tmp_path / "store" / "one")
    (split / "folder").symlink_to(tmp_path / "store")
    (split / "host-a" / "again").symlink_to(split)  # leads back
    (split / "nowhere").symlink_to(tmp_path / "absent")
    for name in ("data.done", "x._COPYING_", "x.tmp", "x.inprogress", ".x.crc", "x.crc", "_SUCCESS", ".hidden"):
        (split / name).write_text("0:1\n")
    (split / "_logs").mkdir()
    (split / "_logs" / "part-0").write_text("0:1\n")
    os.mkfifo(split / "pipe")
    found = files(split, "data.done")
    assert list(found) == ["folder/one", "folder/two", "host-a/b/part-1", "linked", "part-0"]
    assert "x.tmp" in files(split, "data.done", ("*.crc",))
    assert files(tmp_path / "absent", "") == {}


# lines


@pytest.mark.parametrize("packed", [False, True])
def test_lines(tmp_path: Path, packed: bool) -> None:
    data = b"\xef\xbb\xbf 1:1\t\r\n\n\r\n\xef\xbb\xbfx\nlast\r"
    path = tmp_path / "part-0"  # packed is told by content
    path.write_bytes(gzip.compress(data) if packed else data)
    assert texts(path) == [b" 1:1\t\r", b"", b"\r", b"\xef\xbb\xbfx", b"last\r"]
    assert [line.ended for line in lines(path)] == [True] * 4 + [False]
    assert [line.start for line in lines(path)] == [0, 10, 11, 13, 18]
    assert [line.text for line in lines(path, 10, 13, inside=True)] == [b"", b"\r"]
    assert digests(path, [99, 10, 0], inside=packed) == {10: digest_of(data[:10]), 0: digest_of(b"")}


def digest_of(data: bytes) -> str:
    import hashlib

    return hashlib.sha256(data).hexdigest()


def test_a_line_that_is_too_long(tmp_path: Path) -> None:
    path = tmp_path / "part-0"
    for length, too_long in ((MAX_LINE, False), (MAX_LINE + 1, True), (MAX_LINE + 9, True)):
        path.write_bytes(b"\xef\xbb\xbf" + b"x" * length + b"\nnext\n")
        assert [text is None for text in texts(path)] == [too_long, False]
        assert Reader(LocalLogs(tmp_path), Rules(SLOTS)).read(path).rejected == 2


def test_content() -> None:
    def function(line: bytes) -> Any:
        return line

    content, own = Rules(SLOTS).content, Rules(SLOTS, "mine:parse", function).content
    assert content(b" \t1:1 \t\r") == b"1:1" and content(b"\t \r") == b""
    assert own(b"\ta\t \r") == b"\ta\t " and own(b"\t") == b"\t"
    assert own(b"\r") == b"" and own(b"") == b""


# what a function of the user's returns


def taken(function: Any) -> Any:
    """The label and the feasigns."""
    row = row_of(b"x", Rules(SLOTS, "mine:parse", function))
    return None if row is None else (row.labels["click"], [feasign for feasign, _ in row.pairs])


def fails() -> Any:
    raise AssertionError("odd")


def ends() -> Any:
    raise StopIteration


@pytest.mark.parametrize(
    ("result", "row"),
    [
        ((1, [2], [7]), (1, [7])),
        ([True, (2,), [7]], (1, [7])),
        ((1.0, [2.0], [7.0]), (1, [7])),
        ((np.int64(0), np.array([2, 3]), np.array([7, 8], np.uint64)), (0, [7, 8])),
        ((np.float32(1), [np.int8(2)], iter([2**64 - 1])), (1, [2**64 - 1])),
        ((1, [2, 9], [7, 8]), (1, [7])),
        ((1, [2], [0]), (1, [])),
        ((1, [], []), (1, [])),
        (None, None),
    ],
)  # fmt: skip
def test_a_result_that_is_taken(result: Any, row: Any) -> None:
    assert taken(lambda _line: result) == row


@pytest.mark.parametrize(
    "result",
    [
        (0.9, [2], [7]), (float("nan"), [2], [7]), ("1", [2], [7]), (None, [2], [7]), (2, [2], [7]), (-1, [2], [7]),
        (1, [2], [1.5]), (1, [2.7], [7]), (1, [2], ["7"]), (1, [2], [-7]), (1, [-2], [7]), (1, [0], [7]),
        (1, [70000], [7]), (1, [2], [2**64]), (1, 2, 7), (1, [[2]], [[7]]), (1, [2, 3], [7, None]), (1, [2], [1e19]),
        (1, [2, 3], [7]), (1, b"\x02", b"\x07"), (1, "2", "7"), (1, {2}, {7}), (1, np.array([[2]]), [7]), (1, [2]), 7,
        {"label": 1}, "107", (1, [2], [float("inf")]),
    ],
)  # fmt: skip
def test_a_result_that_is_rejected(result: Any) -> None:
    with pytest.raises(ValueError, match=r"refused it|label|range"):
        taken(lambda _line: result)


@pytest.mark.parametrize("function", [fails, ends, lambda: 1 / 0, lambda: exec("raise SystemExit")])
def test_whatever_it_raises_rejects_the_line(function: Any) -> None:
    with pytest.raises(ValueError, match="refused it"):
        taken(lambda _line: function())


# arbitrary bytes

tokens = st.one_of(
    st.from_regex(rb"[0-9]{0,25}:?[0-9]{0,8}", fullmatch=True),
    st.sampled_from([b"1:1", b"0:1", b"5:2", b"6:3", b"18446744073709551615:2", b"18446744073709551616:2", b"007:03"]),
    st.sampled_from([b"1", b"2", b"0", b"01", b"9" * 20, b"9" * 5000, b"\xd9\xa1", b"-1", b"1_0", b"+1"]),
    st.binary(max_size=5),
)
line_bytes = st.builds(
    lambda parts, blank: blank.join(parts), st.lists(tokens, max_size=12), st.sampled_from([b" ", b"\t", b"\x0b"])
)


@settings(max_examples=1500, deadline=None)
@given(line=line_bytes, line_format=st.sampled_from(["feasign_slot", "multislot"]), strict=st.booleans())
def test_the_recount_takes_a_line_as_the_bridge_does(line: bytes, line_format: str, strict: bool) -> None:
    """Two readers that share no code: each line gives the same row, or none in both."""
    try:
        row = line_parser(line_format, LAYOUT, reject_unknown=strict)(line)
    except RejectError:
        with pytest.raises(ValueError):
            row_of(line, Rules(SLOTS, line_format, None, strict))
        return
    assert row is not None
    feasigns = [f for f in np.frombuffer(row.feasigns, "<u8").tolist() if f]
    found = row_of(line, Rules(SLOTS, line_format, None, strict))
    assert found is not None
    assert (found.labels["click"], sorted(f for f, _ in found.pairs)) == (row.label, sorted(feasigns))


@settings(max_examples=300, deadline=None)
@given(data=st.one_of(st.binary(max_size=300), st.binary(max_size=99).map(lambda b: b"\x1f\x8b" + b),
                      st.binary(max_size=99).map(lambda b: gzip.compress(b) + b)))  # fmt: skip
def test_a_source_file_of_arbitrary_bytes(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = tmp_path_factory.mktemp("any") / "part-0"
    path.write_bytes(data)
    for reader in (
        Reader(LocalLogs(path.parent), Rules(SLOTS)),
        Reader(LocalLogs(path.parent), Rules(SLOTS, "multislot"), append=True),
    ):
        try:
            reader.read(path)
        except DataError as error:
            assert str(path) in str(error)


@settings(max_examples=400, deadline=None)
@given(data=st.one_of(st.binary(max_size=200), st.text(alphabet="0123456789 .-einaf\n_", max_size=200).map(str.encode),
                      st.binary(max_size=50).map(lambda b: b"\x1f\x8b" + b)))  # fmt: skip
def test_a_table_of_arbitrary_bytes(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    folder = tmp_path_factory.mktemp("any")
    (folder / "part-0.txt").write_bytes(data)
    try:
        newest.table(folder)
    except (CheckpointError, DataError) as error:
        assert str(folder) in str(error)


documents = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(st.sampled_from(["rows", "shrinks", "late_rows", "untrained", "marker_offset", "metrics", "day",
                                       "pass_id", "format", "splits_topic_id"]), inner, max_size=6),
    max_leaves=12,
)  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(document=documents, raw=st.binary(max_size=60), as_json=st.booleans())
def test_a_manifest_and_a_journal_of_arbitrary_content(
    tmp_path_factory: pytest.TempPathFactory, document: Any, raw: bytes, as_json: bool
) -> None:
    import json

    root = tmp_path_factory.mktemp("any")
    (root / "20240101" / "1").mkdir(parents=True)
    for name in ("99999999/1", "2024010a/1", "20240102/²", "20240102/99999999999"):
        (root / name).mkdir(parents=True)
        (root / name / "manifest.json").write_text("{}")
    data = json.dumps(document).encode() if as_json else raw
    (root / "20240101" / "1" / "manifest.json").write_bytes(data)
    (root / "passes.jsonl").write_bytes(data + b"\n" + raw)
    try:
        of = newest.newest(root)
    except (CheckpointError, UnknownFormat):
        return
    assert of.id == "20240101/1"
    newest.rows_by_pass(root, of)


# markers

MARKER = Marker(
    "20240101", "0000", 0, 0, "data", "id", (), 3, 1, (SourceFile("host/part-0", 10, 3, "ab"),), '{"type": "x"}'
)


def test_a_marker() -> None:
    entry = markers.decode(7, MARKER.encode(), 5.0)
    assert (entry.offset, entry.split, entry.sequence, entry.revision) == (7, "20240101/0000", 0, 0)
    assert (entry.rows, entry.rejected, entry.written) == (3, 1, 5.0)
    assert entry.files == (markers.Source("host/part-0", 10, 3, "ab"),)


@settings(max_examples=500, deadline=None)
@given(body=st.binary(max_size=80), cut=st.integers(0, 90), headed=st.booleans())
def test_a_marker_of_arbitrary_bytes(body: bytes, cut: int, headed: bool) -> None:
    whole = MARKER.encode()
    for message in (whole[:10] + body if headed else body, whole[:cut] + body):
        try:
            markers.decode(3, message)
        except DataError as error:
            assert "offset 3" in str(error)
