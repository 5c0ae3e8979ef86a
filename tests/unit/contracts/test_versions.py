"""What earlier versions wrote is read by this one; what newer versions may add is ignored, and what they may not is
refused. docs/formats.md has the rule; tests/fixtures/formats/ has a small job of each version.
"""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import pytest

from streamtrain.checkpoint import rewind
from streamtrain.checkpoint.journal import NAME as JOURNAL
from streamtrain.checkpoint.journal import Journal, PassRecord
from streamtrain.checkpoint.journal import decode as decode_record
from streamtrain.checkpoint.published import PublishedModels
from streamtrain.checkpoint.rewind import Intent
from streamtrain.checkpoint.store import CheckpointStore
from streamtrain.contracts import identity
from streamtrain.contracts.codec import Schema, UnknownSchema, encode
from streamtrain.contracts.donefiles import DONEFILES, DoneLine
from streamtrain.contracts.identity import JobIdentity
from streamtrain.contracts.inference_models import ModelManifest
from streamtrain.contracts.json_codec import UnknownFormatError
from streamtrain.contracts.manifest import NAME as MANIFEST
from streamtrain.contracts.manifest import Manifest, Witness, digest
from streamtrain.contracts.marker import HEADERS, Marker
from streamtrain.contracts.marker import SCHEMA as MARKER
from streamtrain.contracts.row_layout import Label, RowLayout
from streamtrain.contracts.sample import SCHEMA as SAMPLE
from streamtrain.contracts.sample import SampleDecoder, SampleError
from streamtrain.contracts.table_text import PartMeta, parse_line
from streamtrain.contracts.tensors import read_tensor, read_tensors
from streamtrain.dumps import FILES, read_dump
from streamtrain.errors import DataError, UnknownFormat
from streamtrain.feed.feed import not_a_row
from streamtrain.proof import markers as proof_markers
from streamtrain.proof import newest as proof_newest
from streamtrain.runtime import part_state
from streamtrain.runtime.part_state import PartState
from streamtrain.schedule import PassId
from tests.support.checkpoints import taken_over
from tests.support.formats import FORMATS, VERSIONS, messages, unpacked

BEFORE, NOW = VERSIONS[-2:]
PASS = PassId("20240101", 2)
U64_MAX = 2**64 - 1


@pytest.fixture
def left(tmp_path: Path, version: str) -> Path:
    """What the job of that version left, its binary files as they were."""
    return unpacked(version, tmp_path)


def test_there_is_a_job_of_each_version() -> None:
    assert VERSIONS == ["0.1.0", "0.2.0", "0.3.0", "0.4.0"]


def test_the_files_name_no_machine() -> None:
    for file in FORMATS.rglob("*"):
        if file.is_file():
            text = file.read_text()
            assert "/tmp/" not in text and "/home/" not in text and "/root/" not in text, file


each_version = pytest.mark.parametrize("version", VERSIONS)


@each_version
def test_a_checkpoint_is_valid(left: Path) -> None:
    store = CheckpointStore(left)
    (checkpoint,) = store.list()
    assert checkpoint.id == PASS and store.verify(checkpoint) is None
    manifest = checkpoint.manifest
    assert manifest is not None and (manifest.rows, manifest.keys, manifest.partitions, manifest.offsets) == (
        5, 4, 1, {"0": 6}
    )  # fmt: skip
    assert (manifest.marker_offset, manifest.event_time[:19]) == (3, "2024-01-02T00:00:00")
    record = PassRecord.of_manifest(manifest)
    assert record is not None and (record.id, record.rows) == (PASS, 2)
    assert digest((checkpoint.path / MANIFEST).read_bytes()) == checkpoint.digest
    witness = json.loads((left / "witness.json").read_text())
    assert Witness.decode(witness["metadata"]) == Witness("20240101", 2, checkpoint.digest)
    assert witness["offset"] == manifest.marker_offset


@each_version
def test_the_tables_are_read(left: Path) -> None:
    (part,) = (left / str(PASS) / "embedding.shard").glob("*.txt")
    meta = PartMeta.decode(part.with_suffix(".meta").read_bytes())
    keys = [parse_line(line, meta.names) for line in part.read_bytes().splitlines()]
    assert {k.key: (k.slot, k.show, k.click) for k in keys} == {
        11: (2, 4, 2), 22: (3, 2, 2), 33: (3, 1, 0), U64_MAX: (2, 1, 0)
    }  # fmt: skip
    assert meta.keys == 4 and all(len(k.embedx) == meta.embedx_dim == 2 for k in keys)
    shapes = {name: read_tensor((left / str(PASS) / name).read_bytes()).shape for name in ("fc_0.w", "out.b")}
    assert shapes == {"fc_0.w": (6, 1), "out.b": (1,)}


@each_version
def test_the_journal_and_the_donefile_are_read(left: Path) -> None:
    records = Journal(left).read()
    assert [(r.id, r.rows, r.trained) for r in records] == [(PassId("20240101", 1), 3, True), (PASS, 2, True)]
    lines = (left / "donefile.txt").read_bytes().splitlines(keepends=True)
    taken_over(left).cut_donefile(PassId("20240101", 1))
    assert len(lines) == 2 and (left / "donefile.txt").read_bytes() == lines[0]


@each_version
def test_inference_models_are_read(left: Path) -> None:
    lines = PublishedModels(left).lines()
    assert [(line.kind, line.path) for line in lines] == [
        ("full", "20240101/inference_model_1"), ("full", "20240102/inference_model_0"),
        ("incremental", "20240101/inference_model_2"),
    ]  # fmt: skip
    for line in (lines[0], lines[2]):
        data = (left / line.path / MANIFEST).read_bytes()
        manifest = ModelManifest.decode(data)
        assert digest(data) == line.digest and manifest.line(line.digest, line.published) == line
        there = [entry for entry in manifest.files if not entry.path.startswith("model/")]
        for entry in there:
            content = (left / line.path / entry.path).read_bytes()
            assert (len(content), hashlib.sha256(content).hexdigest()) == (entry.bytes, entry.sha256)
        assert len(list(read_tensors((left / line.path / "dense/__params__").read_bytes()))) == len(manifest.dense) == 4
        assert PartMeta.decode((left / line.path / "sparse/part-00000.meta").read_bytes()).keys == manifest.keys
    assert lines[2].base == lines[2].previous == lines[0].ref


@each_version
def test_markers_and_rows_are_read(left: Path, version: str) -> None:
    entries = messages(left, "splits")
    markers = [Marker.decode(value, headers) for value, headers in entries]
    assert [(m.day, m.time, m.sequence, m.rows, m.rejected) for m in markers] == [
        ("20240101", "0000", 0, 3, 1), ("20240101", "1200", 1, 2, 0)
    ]  # fmt: skip
    assert [(name, value) for _, headers in entries for name, value in headers] == [
        *(HEADERS.items() if version >= "0.3.0" else ()), *(HEADERS.items() if version >= "0.3.0" else ())
    ]  # fmt: skip
    batch = SampleDecoder([m.schema for m in markers]).decode([v for v, _ in messages(left, "samples")], places=True)
    assert batch.labels.tolist() == [1, 0, 0, 1, 0] and batch.slots.tolist() == [2, 3, 2, 2, 3, 2, 3, 2]
    assert batch.feasigns.tolist() == [11, 22, 11, U64_MAX, 33, 11, 22, 11]
    assert batch.lines is not None and batch.lines.tolist() == [1, 2, 3, 1, 2]
    ((line, headers),) = messages(left, "rejects")
    assert line == b"no row" and dict(headers)["line"] == b"4" and set(dict(headers)) == {
        "day", "time", "file", "line", "reason"
    }  # fmt: skip


@each_version
def test_rows_of_older_versions_are_read_in_a_job_of_their_layout(left: Path) -> None:
    """And refused in one whose rows have more: nobody wrote its labels and floats."""
    values = [value for value, _ in messages(left, "samples")]
    batch = SampleDecoder(layout=RowLayout((2, 3), {"user": 2})).decode(values, places=True)
    assert batch.values is None and batch.labels.tolist() == [1, 0, 0, 1, 0]
    assert batch.feasigns.tolist() == [11, 22, 11, U64_MAX, 33, 11, 22, 11]
    more = RowLayout((2, 3), labels=(Label("click"), Label("dwell", "float")))
    with pytest.raises(SampleError, match="it has 0 labels, the config says 2"):
        SampleDecoder(layout=more).decode(values)


@each_version
def test_the_recounts_own_readers_read_it_too(left: Path) -> None:
    newest = proof_newest.newest(left)
    assert (newest.id, newest.rows, newest.marker_offset) == ("20240101/2", 5, 3)
    assert proof_newest.rows_by_pass(left, newest) == {"20240101/1": 3, "20240101/2": 2}
    keys, shows, _ = proof_newest.table(newest.path / "embedding.shard")
    assert dict(zip(keys.tolist(), shows.tolist(), strict=True)) == {11: 4, 22: 2, 33: 1, U64_MAX: 1}
    entries = [proof_markers.decode(i, v, headers=h) for i, (v, h) in enumerate(messages(left, "splits"))]
    assert [(e.split, e.rows, e.files[0].path) for e in entries] == [
        ("20240101/0000", 3, "part-0"), ("20240101/1200", 2, "part-0")
    ]  # fmt: skip


@each_version
def test_dumps_and_reports_of_parts_are_read(left: Path) -> None:
    places = [left / "dump" / "20240101" / place for place in ("1", "2")]
    rows = [
        ins_id for place in places for ins_id in sorted(ins_id for ins_id, _ in read_dump(place))
    ]  # by 0.4.0 shuffled
    assert rows == [f"20240101/0000/0/{n}" for n in (1, 2, 3)] + [f"20240101/1200/0/{n}" for n in (1, 2)]
    assert (left / "dump" / "20240101" / "1" / FILES).read_text() == "20240101/0000/0\t20240101/0000/part-0\n"
    parts = {p.part: p.doing for p in part_state.read(left / "state")}
    assert set(parts) >= {"bridge", "trainer"} and set(parts.values()) == {"done"}


@pytest.mark.parametrize("version", [NOW])
def test_what_this_version_alone_writes(left: Path) -> None:
    found = JobIdentity.decode((left / str(PASS) / identity.NAME).read_bytes())
    assert found.fixed["stream.slots"] == [2, 3] and found.changes == ()
    assert found.dense == {"fc_0.b": (1,), "fc_0.w": (6, 1), "out.b": (1,), "out.w": (1, 1)}
    intent = Intent.decode((left / rewind.NAME).read_bytes())
    assert intent.newest == PassId("20240101", 1) and intent.aside.startswith(".set-aside/")


@pytest.mark.parametrize(
    ("kind", "file"), [(Manifest, f"{PASS}/{MANIFEST}"), (PassRecord, JOURNAL), (PartState, "state/bridge.json")]
)
def test_the_version_before_can_read_what_this_one_writes(kind: type, file: str) -> None:
    """0.3.0 ignores a key that it does not know, and cannot do without those that it writes itself."""
    text = (FORMATS / BEFORE / file).read_text()
    document = json.loads(text.splitlines()[0] if file == JOURNAL else text)
    assert {f.name for f in fields(kind)} >= document.keys()


def test_the_version_before_can_read_the_witness_that_this_one_writes() -> None:
    """A witness has no key more than it needs: versions before 0.3.0 take it for none then, and start from nothing."""
    assert set(json.loads(Witness("20240101", 1, "ab").encode())) == {"day", "pass_id", "digest"}


@dataclass(frozen=True)
class Format:
    """A JSON format of today. place: its file in the fixtures. known: what a newer one is refused by."""

    name: str
    place: str
    decode: Callable[[bytes], Any]

    @property
    def document(self) -> dict[str, Any]:
        data = (FORMATS / NOW / self.place).read_text()
        values: dict[str, Any] = json.loads(data.splitlines()[0] if self.place.endswith(("l", ".txt")) else data)
        return json.loads(values["metadata"]) if self.name == "witness" else values


def witness_of(data: bytes) -> Witness | None:
    return Witness.decode(data.decode())


def without_text(data: bytes) -> DoneLine:
    """A donefile's line keeps its text, to be written back as it is; that does not count in a comparison."""
    return DoneLine.decode(data)


JSON_FORMATS = [
    Format("checkpoint", f"{PASS}/{MANIFEST}", Manifest.decode),
    Format("job", f"{PASS}/{identity.NAME}", JobIdentity.decode),
    Format("model", f"20240101/inference_model_2/{MANIFEST}", ModelManifest.decode),
    Format("donefile", DONEFILES["full"], without_text),
    Format("journal", JOURNAL, decode_record),
    Format("witness", "witness.json", witness_of),
    Format("rewind", rewind.NAME, Intent.decode),
]
each_format = pytest.mark.parametrize("form", JSON_FORMATS, ids=lambda form: form.name)


@each_format
def test_an_optional_field_of_a_newer_version_is_ignored(form: Format) -> None:
    plain = form.decode(json.dumps(form.document).encode())
    assert form.decode(json.dumps({**form.document, "of a newer version": {"a": [1]}}).encode()) == plain
    assert form.decode(json.dumps({**form.document, "format": 1}).encode()) == plain


@each_format
@pytest.mark.parametrize("number", [2, 3, 0, "1", 1.5, True, None])
def test_another_number_is_refused_by_its_own_error(form: Format, number: object) -> None:
    with pytest.raises(UnknownFormatError, match=r"its format is .*, this version reads 1"):
        form.decode(json.dumps({**form.document, "format": number}).encode())


def everything(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def newest_checkpoint(root: Path) -> None:
    problem = CheckpointStore(root).read(PASS).problem
    refusal = problem.refusal(PASS) if problem is not None else None
    if refusal is not None:
        raise refusal


@pytest.mark.parametrize("version", [NOW])
@pytest.mark.parametrize(
    ("file", "act"),
    [
        (f"{PASS}/{MANIFEST}", newest_checkpoint),
        (f"{PASS}/{MANIFEST}", proof_newest.newest),
        (JOURNAL, lambda root: Journal(root).read()),
        (DONEFILES["full"], lambda root: PublishedModels(root).lines()),
        (DONEFILES["incremental"], lambda root: PublishedModels(root).lines()),
        (rewind.NAME, rewind.interrupted),
    ],
)
def test_a_newer_file_is_refused_and_nothing_is_touched(left: Path, file: str, act: Callable[[Path], object]) -> None:
    act(left)
    lines = (left / file).read_text()
    whole = file.endswith(".json")
    newer = [json.dumps({**json.loads(line), "format": 2}) for line in ([lines] if whole else lines.splitlines())]
    (left / file).write_text("\n".join(newer) + "\n")
    before = everything(left)
    with pytest.raises(UnknownFormat) as refused:
        act(left)
    assert refused.value.exit_code == 15 and Path(file).name in refused.value.message and refused.value.remedy
    assert "2" in refused.value.message and everything(left) == before


def with_field(schema: Schema) -> Schema:
    """The schema with a field that a newer version may add."""
    document = json.loads(schema.text)
    return Schema(json.dumps({**document, "fields": [*document["fields"], {"name": "new", "type": "string"}]}))


def record_of(version: str) -> tuple[Marker, dict[str, Any]]:
    value, headers = messages(FORMATS / version, "splits")[0]
    marker = Marker.decode(value, headers)
    record = {**vars(marker), "ranges": [vars(r) for r in marker.ranges], "files": [vars(f) for f in marker.files]}
    return marker, {**record, "new": "more"}


def test_a_marker_with_a_newer_field_is_read_by_the_schema_in_its_header() -> None:
    marker, record = record_of(NOW)
    newer = with_field(MARKER)
    message = encode(newer, record)
    headers = [("format", b"1"), ("schema", newer.text.encode())]
    assert Marker.decode(message, headers) == marker
    entry = proof_markers.decode(0, message, headers=headers)
    assert (entry.split, entry.rows) == (f"{marker.day}/{marker.time}", marker.rows)
    with pytest.raises(UnknownSchema):
        Marker.decode(message)
    with pytest.raises(Exception, match="a message of another format"):
        proof_markers.decode(0, message)


def test_a_marker_of_another_number_is_refused() -> None:
    value, headers = messages(FORMATS / NOW, "splits")[0]
    rest = [h for h in headers if h[0] != "format"]
    assert Marker.decode(value, [("format", b"2"), *rest]) == Marker.decode(value, headers)  # of a job with values
    assert proof_markers.decode(7, value, headers=[("format", b"2"), *rest]).rows == 3
    newer = [("format", b"3"), *rest]
    with pytest.raises(UnknownSchema, match="its format is b'3', this version reads b'1' and b'2'"):
        Marker.decode(value, newer)
    with pytest.raises(Exception, match="offset 7 a marker of format b'3'"):
        proof_markers.decode(7, value, headers=newer)


def test_a_row_with_a_newer_field_is_read_by_the_schema_in_its_marker() -> None:
    newer = with_field(SAMPLE)
    row = {"label": 1, "file": 0, "line": 1, "slots": b"\2\0", "feasigns": bytes(8), "new": "more"}
    message = encode(newer, row)
    assert SampleDecoder([newer.text]).decode([message]).labels.tolist() == [1]
    with pytest.raises(SampleError) as refused:
        SampleDecoder().decode([message])
    error = not_a_row("topic ctr.samples, partition 0, offset 4", refused.value)
    assert isinstance(error, UnknownFormat) and "offset 4" in error.message and "its schema" in error.message
    with pytest.raises(SampleError) as damaged:
        SampleDecoder([newer.text]).decode([b"no row"])
    assert isinstance(not_a_row("topic ctr.samples, partition 0, offset 4", damaged.value), DataError)


def test_a_part_of_a_newer_version_is_shown(tmp_path: Path) -> None:
    report = json.loads((FORMATS / NOW / "state" / "bridge.json").read_text())
    (tmp_path / "bridge.json").write_text(json.dumps({**report, "new": 1}))
    assert [part.part for part in part_state.read(tmp_path)] == ["bridge"]


def test_columns_of_a_newer_meta_are_read_by_name() -> None:
    meta = (FORMATS / NOW / str(PASS) / "embedding.shard" / "part-000-00000.meta").read_bytes()
    assert PartMeta.decode(json.dumps({**json.loads(meta), "new": 1}).encode()) == PartMeta.decode(meta)
