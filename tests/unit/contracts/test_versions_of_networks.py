"""What earlier versions wrote of a job whose network has all that a network may have, its checkpoints on a store: read
by this version. tests/fixtures/formats/VERSION/everything has it, since 0.4.0."""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from streamtrain.checkpoint.remote import RemoteCheckpoints
from streamtrain.checkpoint.remote_records import read_donefile, read_journal
from streamtrain.checkpoint.store import CheckpointStore
from streamtrain.contracts.json_codec import UnknownFormatError
from streamtrain.contracts.manifest import NAME as MANIFEST
from streamtrain.contracts.manifest import Witness, digest
from streamtrain.contracts.marker import Marker
from streamtrain.contracts.network_manifest import NetworkManifest, decode_manifest
from streamtrain.contracts.pointer import Pointer
from streamtrain.contracts.row_layout import Dense, Label, RowLayout
from streamtrain.contracts.sample import SampleDecoder
from streamtrain.contracts.table_text import PartMeta
from streamtrain.contracts.tensors import read_tensors
from streamtrain.errors import UnknownFormat
from streamtrain.locations import Location
from streamtrain.object_store import ObjectStore
from streamtrain.proof import markers as proof_markers
from streamtrain.proof import newest as proof_newest
from streamtrain.schedule import PassId
from tests.support.everything_job import WIDTHS, counted_in, expected, rich_rows
from tests.support.formats import FORMATS, VERSIONS, messages, unpacked
from tests.support.make_formats import EVERYTHING_ROWS

WITH_NETWORK = [version for version in VERSIONS if (FORMATS / version / "everything").is_dir()]
PASS = PassId("20240101", 2)
MODEL = "20240102/inference_model_0"
ROWS = [row for number, count in enumerate(EVERYTHING_ROWS) for row in rich_rows(count, seed=number)]
LAYOUT = RowLayout(
    (2, 3, 4, 5), {"user_id": 2, "item_id": 3, "last_items": 4, "tags": 5},
    (Label("click"), Label("dwell", "float"), Label("like")), (Dense("price", 3, 0), Dense("age", 1, 3)), "importance",
)  # fmt: skip


@pytest.fixture(params=WITH_NETWORK)
def version(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def left(tmp_path: Path, version: str) -> Path:
    return unpacked(f"{version}/everything", tmp_path / "left")


@pytest.fixture
def objects(tmp_path: Path, left: Path) -> ObjectStore:
    """The same on a store."""
    from tests.support import plain_store  # noqa: F401  registers plain://

    store = ObjectStore(Location("runner.model_save_path", f"plain://{tmp_path}/bucket.store/models"))
    for file in left.rglob("*"):
        if file.is_file():
            store.put_file(file.relative_to(left).as_posix(), file)
    return store


def test_there_is_one_of_this_version() -> None:
    assert WITH_NETWORK == ["0.4.0"]


def test_a_checkpoint_on_a_store_is_read(objects: ObjectStore, left: Path, tmp_path: Path) -> None:
    remote = RemoteCheckpoints(objects)
    newest, first = (remote.pointer(name) for name in remote.newest_first())
    assert newest is not None and first is not None and (first.id, newest.id) == (PassId("20240101", 1), PASS)
    assert (newest.parent, first.parent, newest.run) == (first.digest, "", 1)
    checkpoint, _ = remote.checkpoint(newest, tmp_path / "cache" / str(PASS))
    assert checkpoint.problem is None and checkpoint.manifest is not None
    one_between = len(ROWS) + 1  # the end of the first transaction takes an offset
    assert (checkpoint.manifest.rows, checkpoint.manifest.offsets) == (len(ROWS), {"0": one_between})
    assert remote.fetch(newest.name.directory, checkpoint.manifest.files, checkpoint.path) is None
    (checkpoint.path / MANIFEST).write_bytes((left / newest.name.directory / MANIFEST).read_bytes())
    assert CheckpointStore(tmp_path / "cache").verify(checkpoint) is None
    assert counted_in(checkpoint.path) == expected(ROWS)
    witness = json.loads((left / "witness.json").read_text())
    assert Witness.decode(witness["metadata"]) == Witness(PASS.day, PASS.pass_id, newest.digest)


def test_journal_and_donefiles_on_a_store_are_read(objects: ObjectStore) -> None:
    records = list(map(json.loads, read_journal(objects).splitlines()))
    assert [(record["pass_id"], record["rows"]) for record in records] == list(enumerate(EVERYTHING_ROWS, 1))
    assert [set(record["labels"]) for record in records] == [{"click", "like"}] * 2
    (line,) = read_donefile(objects, "base_donefile.txt")
    assert (line.path, line.checkpoint) == (MODEL, PASS)


def test_a_model_of_several_tables_is_read(left: Path) -> None:
    data = (left / MODEL / MANIFEST).read_bytes()
    manifest = decode_manifest(data)
    assert isinstance(manifest, NetworkManifest) and manifest.checkpoint == PASS
    assert {name: entry.width for name, entry in manifest.tables.items()} == WIDTHS
    assert [feed.name for feed in manifest.dense_feeds] == ["price", "age"]
    assert [target.name for target in manifest.targets] == ["click", "like", "dwell"]
    network = (left / MODEL).rglob
    assert sum(PartMeta.decode(file.read_bytes()).keys for file in network("part-*.meta")) == manifest.keys
    assert len(list(read_tensors((left / MODEL / "dense/__params__").read_bytes()))) == len(manifest.dense)
    for entry in manifest.files:
        if not entry.path.startswith("model/"):
            content = (left / MODEL / entry.path).read_bytes()
            assert (len(content), hashlib.sha256(content).hexdigest()) == (entry.bytes, entry.sha256)
    (line,) = (left / "base_donefile.txt").read_text().splitlines()
    assert json.loads(line)["digest"] == digest(data)


def test_markers_and_rows_are_read(left: Path) -> None:
    entries = messages(left, "splits")
    markers = [Marker.decode(value, headers) for value, headers in entries]
    assert [(m.time, m.rows, m.rejected) for m in markers] == [("0000", 5, 0), ("1200", 4, 0)]
    assert [dict(headers)["format"] for _, headers in entries] == [b"2", b"2"]
    samples = [value for value, _ in messages(left, "samples")]
    batch = SampleDecoder([m.schema for m in markers], layout=LAYOUT).decode(samples)
    assert batch.values is not None
    for name, given in (
        ("labels", [[row.labels[label.name] for label in LAYOUT.labels] for row in ROWS]),
        ("dense", [[*row.price, row.age] for row in ROWS]), ("weights", [row.weight for row in ROWS]),
    ):  # fmt: skip
        np.testing.assert_array_equal(getattr(batch.values, name), np.array(given, np.float32))
    pairs = [(slot, key) for row in ROWS for slot in sorted(row.slots) for key in row.slots[slot]]
    assert list(zip(batch.slots.tolist(), batch.feasigns.tolist(), strict=True)) == pairs


def test_the_recounts_own_readers_read_it_too(left: Path) -> None:
    entries = [proof_markers.decode(i, v, headers=h) for i, (v, h) in enumerate(messages(left, "splits"))]
    assert [(entry.split, entry.rows) for entry in entries] == [("20240101/0000", 5), ("20240101/1200", 4)]
    (attempt,) = (left / "checkpoints" / str(PASS)).iterdir()
    for name, (shows, clicks) in expected(ROWS).items():
        keys, counted, clicked = proof_newest.table(attempt / f"{name}.shard")
        found = dict(zip(keys.tolist(), zip(counted.tolist(), clicked.tolist(), strict=True), strict=True))
        assert found == {key: (show, clicks[key]) for key, show in shows.items()}


def documents(version: str) -> list[tuple[Any, dict[str, Any]]]:
    """(decode, the document) of the formats that only such a job has."""
    folder = FORMATS / version / "everything"
    (pointer,) = (folder / "commits" / PASS.day).glob(f"{PASS.pass_id}-*.json")
    model = folder / MODEL / MANIFEST
    return [(Pointer.decode, json.loads(pointer.read_text())), (decode_manifest, json.loads(model.read_text()))]


def test_an_optional_field_of_a_newer_version_is_ignored(version: str) -> None:
    for decode, document in documents(version):
        plain = decode(json.dumps(document).encode())
        assert decode(json.dumps({**document, "of a newer version": {"a": [1]}}).encode()) == plain


@pytest.mark.parametrize("number", [3, 0, "1", 1.5, True, None])
def test_another_number_is_refused_by_its_own_error(version: str, number: object) -> None:
    for decode, document in documents(version):
        with pytest.raises(UnknownFormatError, match=r"its format is .*, this version reads 1"):
            decode(json.dumps({**document, "format": number}).encode())


def test_a_newer_pointer_is_refused_by_its_name(objects: ObjectStore, left: Path) -> None:
    (file,) = (left / "commits" / PASS.day).glob(f"{PASS.pass_id}-*.json")
    objects.put(f"commits/{PASS.day}/{file.name}", json.dumps({**json.loads(file.read_text()), "format": 2}).encode())
    remote = RemoteCheckpoints(objects)
    with pytest.raises(UnknownFormat, match=file.name):
        remote.pointer(next(remote.newest_first()))
