"""Documents of arbitrary bytes, and of documents that are nearly right: a ValueError or CheckpointError, or a document;
never another exception, never much memory."""

import hashlib
import json
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from streamtrain.contracts import reports
from streamtrain.contracts.donefiles import DoneLine, decode_donefile, decode_valid_donefile
from streamtrain.contracts.inference_models import ModelManifest
from streamtrain.contracts.manifest import NAME, Manifest
from streamtrain.contracts.marker import Marker
from streamtrain.contracts.table_text import PartMeta, inference_meta
from streamtrain.errors import CheckpointError
from streamtrain.serving.bundle import open_bundle
from streamtrain.serving.files import Files

FIXTURES = Path(__file__).parent / "fixtures"
DOCUMENTS: dict[str, tuple[Callable[[bytes], Any], bytes]] = {
    "checkpoint": (Manifest.decode, (FIXTURES / "checkpoint_manifest.json").read_bytes()),
    "model": (ModelManifest.decode, (FIXTURES / "inference_manifest_incremental.json").read_bytes()),
    "line": (DoneLine.decode, (FIXTURES / "patch_donefile.txt").read_bytes().splitlines()[0]),
    "donefile": (decode_valid_donefile, (FIXTURES / "patch_donefile.txt").read_bytes()),
    "meta": (PartMeta.decode, inference_meta(8, 3).encode()),
    "report": (reports.decode, b'{"ok": true}'),
}
values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=6)
    | st.sampled_from(["../x", "NaN", "20240101", "9" * 30, "\ud800", "\0"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=5,
)  # fmt: skip


def decodes(decode: Callable[[bytes], Any], data: bytes) -> None:
    try:
        decode(data)
    except ValueError as error:
        assert str(error)


@pytest.mark.parametrize("name", DOCUMENTS)
@given(data=st.binary(max_size=100) | st.text(max_size=60).map(str.encode) | values.map(json.dumps).map(str.encode))
def test_arbitrary_bytes(name: str, data: bytes) -> None:
    decodes(DOCUMENTS[name][0], data)
    decode_donefile(data)
    decodes(Marker.decode, data)


@pytest.mark.parametrize("name", DOCUMENTS)
@given(data=st.data())
def test_changed_bytes(name: str, data: st.DataObject) -> None:
    decode, good = DOCUMENTS[name]
    begin = data.draw(st.integers(0, len(good)))
    end = data.draw(st.integers(begin, min(len(good), begin + 8)))
    decodes(decode, good[:begin] + data.draw(st.binary(max_size=8)) + good[end:])


@pytest.mark.parametrize("name", ["checkpoint", "model", "line", "meta"])
@given(data=st.data(), value=values)
def test_a_value_of_another_kind(name: str, data: st.DataObject, value: Any) -> None:
    decode, good = DOCUMENTS[name]
    document = json.loads(good)
    place = document
    while True:
        key = data.draw(st.sampled_from(list(place) if isinstance(place, dict) else range(len(place))))
        if not isinstance(place[key], (dict, list)) or not place[key] or data.draw(st.booleans()):
            break
        place = place[key]
    place[key] = value
    decodes(decode, json.dumps(document).encode())


@pytest.mark.parametrize("name", DOCUMENTS)
def test_depth_and_length_take_little(name: str) -> None:
    decode = DOCUMENTS[name][0]
    deep = [
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b'{"format":1,"day":' + b"[" * 100_000,
        b'{"keys":' + b"9" * 100_000 + b"}",
    ]
    tracemalloc.start()
    try:
        for data in deep:
            decodes(decode, data)
        assert tracemalloc.get_traced_memory()[1] < 32 << 20
    finally:
        tracemalloc.stop()


def write_model(folder: Path, files: dict[str, bytes], **changes: Any) -> Path:
    """A directory whose manifest agrees with its files, whatever they are."""
    manifest = json.loads(DOCUMENTS["model"][1]) | {"kind": "full", "width": 2, "dense": [], "deleted": 0} | changes
    manifest["files"] = [
        {"path": name, "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()} for name, data in files.items()
    ]
    for name, data in {**files, NAME: json.dumps(manifest).encode()}.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


NETWORK = {"model/__model__": b"m", "dense/__params__": b"p"}
lines = st.text("0123456789 .-+eE\nnaif\0,\"'", max_size=40).map(str.encode) | st.binary(max_size=40)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(text=lines, deleted=lines, meta=st.just(inference_meta(1, 1).encode()) | st.binary(max_size=30))
def test_a_models_text(tmp_path: Path, text: bytes, deleted: bytes, meta: bytes) -> None:
    files = {**NETWORK, "sparse/part-0.txt": text, "sparse/part-0.meta": meta, "sparse/deleted.txt": deleted}
    try:
        bundle = open_bundle(Files(write_model(tmp_path, files, keys=1)), "")
    except CheckpointError as error:
        assert str(tmp_path) in str(error)
    else:
        (table,) = bundle.tables.values()
        assert table.keys.shape == (1,) and table.values.shape == (1, 2)


@pytest.mark.parametrize("width", [65_536, 65_537, 10**12, 10**30])
def test_a_width_takes_no_memory(tmp_path: Path, width: int) -> None:
    files = {**NETWORK, "sparse/part-0.txt": b"1 2\n", "sparse/part-0.meta": inference_meta(1, 1).encode()}
    write_model(tmp_path, files, width=width)
    tracemalloc.start()
    try:
        with pytest.raises(CheckpointError, match=r"columns|width"):
            open_bundle(Files(tmp_path), "")
        assert tracemalloc.get_traced_memory()[1] < 64 << 20
    finally:
        tracemalloc.stop()
