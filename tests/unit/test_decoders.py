"""Every decoder that the other tests of arbitrary bytes do not feed gives a value, or an error that its callers expect:
never another exception, never much memory."""

import json
import tracemalloc
import zlib
from base64 import b64encode
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from streamtrain.checkpoint import journal, rewind, store, table_files
from streamtrain.connectors.formats import line_parser
from streamtrain.connectors.source import SourceReader
from streamtrain.contracts import feature_text, table_text
from streamtrain.contracts.codec import MAGIC, Schema, SchemaError
from streamtrain.contracts.identity import JobIdentity
from streamtrain.contracts.manifest import Witness
from streamtrain.contracts.marker import SCHEMA, Marker, Range, SourceFile
from streamtrain.contracts.row_layout import Dense, Label, RowLayout
from streamtrain.contracts.sample import SampleDecoder, encode_sample, encode_values
from streamtrain.contracts.table_text import SHARD, TableColumns
from streamtrain.contracts.tensors import read_tensor, read_tensors
from streamtrain.dumps import read_dump
from streamtrain.errors import StreamtrainError
from streamtrain.proof import markers as proof_markers
from streamtrain.proof import newest as proof_newest
from streamtrain.proof import tables as proof_tables
from streamtrain.runtime import child_state, part_state
from streamtrain.runtime.hang_detector import RoleSample
from streamtrain.serving.limits import Limits
from streamtrain.serving.requests import Refused, check_headers, read_rows

EXPECTED = (ValueError, StreamtrainError, Refused)
MARKER = Marker("20240101", "0000", 0, 0, "data", "t", (Range(0, 5, 9, 3),), 3, 1, (SourceFile("p", 9, 3, "a"),), "{}")
ROW = encode_sample(1, 0, 7, np.array([2, 3], "<u2").tobytes(), np.array([5, 6], "<u8").tobytes())
LAYOUT = RowLayout((2, 3), {"user": 3}, (Label("click"), Label("dwell", "float")), (Dense("vec", 2, 0),), "w")
VALUES = encode_values(1, 0, 7, b"\2\0", bytes(8), np.ones(2, "<f4").tobytes(), np.ones(2, "<f4").tobytes(), 0.5)
NETWORK = b'{"format":1,"network":{"feeds":[],"tables":[{"name":"a","slots":[2],"show":true,"click":"click"}]}}'
TENSOR = bytes.fromhex("000000000000000000000000000000000600000008051002") + b"\x10\x01" + bytes(8)
RECORD = b'{"day":"20240101","pass_id":1,"rows":3,"predict_auc":0.5,"train_auc":null,"seconds":1,"read_seconds":1,' \
         b'"predict_seconds":1,"train_seconds":1}'  # fmt: skip
COLUMNS = TableColumns(2)
LINE = b"5 2 0 1.5 3 1 0.25 0.1 0.5 0.5 0.1\n"
WITNESS = b'{"day":"20240101","pass_id":1,"digest":"a"}'
REQUEST = b'{"rows": ["7:2 12:3", "8:2"]}'
PART = part_state.PartState("bridge", "waiting", 1.5, "host", 7)
CHILD = child_state.ChildState("worker", 0, 7, "running")


def in_file(name: str, read: Callable[[Path], Any]) -> Callable[[bytes, Path], Any]:
    def decode(data: bytes, folder: Path) -> Any:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
        return read(folder)

    return decode


def marker_with_schema(data: bytes, _: Path) -> Marker:
    return Marker.decode(MAGIC + bytes(8) + data[:20], {"schema": data}.items())


def samples_of(text: str) -> None:
    decoder = SampleDecoder()
    decoder.add(text)
    decoder.decode([ROW])


def histogram(data: bytes, _: Path) -> Any:
    return journal.unpack(data.decode("latin-1"))


def part_states(folder: Path) -> list[Any]:
    return [part.to_json() for part in part_state.read(folder)]


def show(folder: Path) -> Any:
    meta = table_text.checkpoint_meta(COLUMNS, 1, 1, "SparseAccessor")
    (folder / SHARD / "part-0.meta").write_bytes(meta.encode())
    return table_files.find_keys(folder, [5])


def only(decode: Callable[[bytes], Any]) -> Callable[[bytes, Path], Any]:
    return lambda data, _: decode(data)


DECODERS: dict[str, tuple[Callable[[bytes, Path], Any], bytes]] = {
    "marker": (only(Marker.decode), MARKER.encode()),
    "marker's schema": (marker_with_schema, SCHEMA.text.encode()),
    "marker, recount": (only(lambda data: proof_markers.decode(3, data)), MARKER.encode()),
    "row": (only(lambda data: SampleDecoder().decode([data], places=True)), ROW),
    "row with values": (only(lambda data: SampleDecoder(layout=LAYOUT).decode([data], places=True)), VALUES),
    "row with values, where none are wanted": (only(lambda data: SampleDecoder().decode([data])), ROW),
    "line, name_value": (only(line_parser("name_value", LAYOUT)), b"click:1 dwell:2 vec:0 vec:1 user:3 2:7"),
    "line, multislot": (only(line_parser("multislot", LAYOUT)), b"1 1 1 1 1 2.5 1 1 2 0 1 1 7 1 8"),
    "network, recount": (in_file("job.json", lambda folder: proof_tables.network_in(folder / "job.json")), NETWORK),
    "row's schema": (only(lambda data: samples_of(data.decode())), SCHEMA.text.encode()),
    "identity": (only(JobIdentity.decode), JobIdentity(fixed={"a": 1}, config={}).encode()),
    "witness": (only(lambda data: Witness.decode(data.decode("latin-1"))), WITNESS),
    "rewind": (only(rewind.Intent.decode), rewind.Intent(rewind.Target("20240101", 1), ".set-aside/x").encode()),
    "rewind, file": (in_file("rewind.json", rewind.interrupted), rewind.Intent(None, ".set-aside/x").encode()),
    "journal": (only(journal.decode), RECORD),
    "journal, recount": (
        in_file("passes.jsonl", lambda folder: proof_newest.rows_by_pass(folder, proof_newest.Newest(
            folder, "20240101", 9, 1, 0, 0, frozenset(), 0, "", {}))), RECORD,
    ),
    "histogram": (histogram, journal.pack(np.arange(9), np.arange(9)).encode()),
    "newest, recount": (in_file("20240101/1/manifest.json", proof_newest.newest), b'{"format":1,"rows":3}'),
    "table, recount": (in_file(f"{SHARD}/part-0.txt", lambda folder: proof_newest.table(folder / SHARD)), LINE),
    "donefile.txt": (
        in_file("donefile.txt", lambda folder: [store._pass_of(x) for x in store.CheckpointStore(folder)._donefile()]),
        b"20240101\t5\tp\t1\t0\n",
    ),
    "key's line": (only(lambda data: table_text.parse_line(data, COLUMNS.names)), LINE),
    "part file": (in_file(f"{SHARD}/part-0.txt", show), LINE),
    "part file, exported": (only(lambda data: table_text.shorten(data, COLUMNS)), LINE),
    "tensor": (only(read_tensor), TENSOR),
    "tensors": (only(lambda data: list(read_tensors(data))), TENSOR + TENSOR),
    "dump": (in_file("part-000-00000", lambda folder: list(read_dump(folder))), b"id\t\tv:2:0.5,1\n"),
    "features": (only(lambda data: feature_text.parse_lines([data])), b"7:2 12:3"),
    "request": (only(lambda data: read_rows(data, Limits())), REQUEST),
    "request's header": (only(lambda data: check_headers({"content-length": data.decode("latin-1")}, Limits())), b"12"),
    "request's type": (
        only(lambda data: check_headers({"content-type": data.decode("latin-1")}, Limits())), b"application/x+json",
    ),
    "part's state": (in_file("bridge.json", part_states), orjson.dumps(asdict(PART))),
    "child's state": (in_file("worker-0.json", child_state.read), orjson.dumps(asdict(CHILD))),
}  # fmt: skip
BOMB = zlib.compress(bytes(300 << 20))
relaxed = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=25)
values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=6)
    | st.sampled_from(["../x", "/x", "null", "array", "SplitDone", "\0", "\ud800"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["type", "name", "items"]), inner),
    max_leaves=6,
)  # fmt: skip


def decodes(name: str, data: bytes, folder: Path) -> None:
    try:
        DECODERS[name][0](data, folder)
    except EXPECTED as error:
        assert str(error)


@pytest.mark.parametrize("name", DECODERS)
def test_the_good_one_is_taken(name: str, tmp_path: Path) -> None:
    decode, good = DECODERS[name]
    if "schema" not in name and "type" not in name:
        assert decode(good, tmp_path) is not None or "header" in name


@relaxed
@pytest.mark.parametrize("name", DECODERS)
@given(data=st.binary(max_size=80) | values.map(json.dumps).map(str.encode))
def test_arbitrary_bytes(name: str, data: bytes, tmp_path: Path) -> None:
    decodes(name, data, tmp_path)


@relaxed
@pytest.mark.parametrize("name", DECODERS)
@given(data=st.data())
def test_changed_bytes(name: str, data: st.DataObject, tmp_path: Path) -> None:
    good = DECODERS[name][1]
    begin = data.draw(st.integers(0, len(good)))
    end = data.draw(st.integers(begin, min(len(good), begin + 8)))
    decodes(name, good[:begin] + data.draw(st.binary(max_size=8)) + good[end:], tmp_path)


@relaxed
@pytest.mark.parametrize("name", [n for n, (_, good) in DECODERS.items() if good.startswith(b"{")])
@given(data=st.data(), value=values)
def test_a_value_of_another_kind(name: str, data: st.DataObject, value: Any, tmp_path: Path) -> None:
    document = json.loads(DECODERS[name][1])
    place = document
    while True:
        key = data.draw(st.sampled_from(list(place) if isinstance(place, dict) else range(len(place))))
        if not isinstance(place[key], (dict, list)) or not place[key] or data.draw(st.booleans()):
            break
        place = place[key]
    place[key] = value
    decodes(name, json.dumps(document).encode(), tmp_path)


@pytest.mark.parametrize("name", DECODERS)
def test_depth_counts_and_bombs_take_little(name: str, tmp_path: Path) -> None:
    long = b"\xfe\xff\xff\xff\xff\xff\xff\xff\x7f"  # Avro's number of 2**62
    tracemalloc.start()
    try:
        for data in (b"[" * 20_000, b'{"a":' * 20_000, b"9" * 20_000, MARKER.encode()[:10] + long, BOMB[:9999],
                     ROW[:10] + bytes(3) + long, b64encode(BOMB)):  # fmt: skip
            decodes(name, data, tmp_path)
        assert tracemalloc.get_traced_memory()[1] < 64 << 20
    finally:
        tracemalloc.stop()


NESTED = {"type": "record", "name": "A", "fields": [{"name": "a", "type": ["null", "A"]}]}


@pytest.mark.parametrize(
    ("schema", "reason"),
    [
        ({"type": "record", "name": "R", "fields": [{"name": "x", "type": {"type": "array", "items": "null"}}]},
         "an array of values without bytes"),
        ({"type": "record", "name": "R", "fields": [{"name": "x", "type": {"type": "array", "items": {
            "type": "record", "name": "E", "fields": []}}}]}, "an array of values without bytes"),
        (NESTED, "contains itself"),
        ({"type": "record", "name": "R", "fields": [{"name": "x", "type": "Other"}]}, "Other"),
    ],
)  # fmt: skip
def test_schemas_whose_values_have_no_end(schema: dict[str, Any], reason: str) -> None:
    with pytest.raises(SchemaError, match=reason):
        Schema(json.dumps(schema))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"ranges": (Range(0, -5, 9, 3),)}, "offsets -5 to 9"),
        ({"ranges": (Range(0, 9, 5, 3),)}, "offsets 9 to 5"),
        ({"ranges": (Range(0, 5, 7, 3),)}, "has 3 rows at the offsets 5 to 7"),
        ({"ranges": (Range(-1, 5, 9, 3),)}, "partition -1"),
        ({"ranges": (Range(0, 5, 9, 1), Range(0, 9, 12, 2))}, "two ranges of one partition"),
        ({"rows": 10**15}, "ranges have 3 rows, it says 1000000000000000"),
        ({"sequence": -1}, "its sequence is -1"),
        ({"rejected": -1}, "its rejected is -1"),
        ({"files": (SourceFile("p", -1, 3, "a"),)}, "has -1 bytes"),
    ],
)
def test_a_markers_numbers_agree(changes: dict[str, Any], reason: str) -> None:
    marker = Marker(**{**MARKER.__dict__, **changes})
    with pytest.raises(ValueError, match=reason):
        Marker.decode(marker.encode())


def test_a_key_that_is_given_twice() -> None:
    data = b'{"aside": ".set-aside/x", "format": 1, "to": null, "to": {"day": "20240101", "pass_id": 1}}'
    with pytest.raises(ValueError, match="the key 'to' is given twice"):
        rewind.Intent.decode(data)


def test_a_packed_source_file_is_read_in_little_memory() -> None:
    import gzip
    import io

    data = gzip.compress(bytes(1 << 26))
    tracemalloc.start()
    try:
        lines = list(SourceReader(io.BytesIO(data), "bomb").lines())
        assert len(lines) == 1 and tracemalloc.get_traced_memory()[1] < 48 << 20
    finally:
        tracemalloc.stop()


def test_a_sample_of_a_role_is_what_it_says() -> None:
    from pydantic import ValidationError

    from streamtrain.runtime.rendezvous import _SAMPLE

    assert _SAMPLE.validate_python({"role": "server 0", "stopped": False, "running": True, "cpu": 1}) == RoleSample(
        "server 0", False, True, 1
    )
    with pytest.raises(ValidationError):
        _SAMPLE.validate_python({"role": "server 0", "stopped": False, "running": True, "cpu": "much"})
