"""Files in the format of this version: read, compared with values written out by hand, and written back unchanged."""

from pathlib import Path

import orjson
import pytest

from streamtrain.checkpoint.journal import PassRecord, unpack
from streamtrain.contracts import reports, table_text
from streamtrain.contracts.donefiles import PADDLEREC, DoneLine, decode_donefile, decode_valid_donefile, encode_donefile
from streamtrain.contracts.inference_models import Feed, ModelManifest
from streamtrain.contracts.manifest import FileEntry, Manifest, ModelChain, ModelRef, digest
from streamtrain.contracts.table_text import KeyState, PartMeta, TableColumns, parse_line
from streamtrain.schedule import PassId

FIXTURES = Path(__file__).parent / "fixtures"
BASE = ModelRef("20240101", 0, "e9a2ffff10aa763f797f3a76868f7cd7914b65edb60132fda5ea87a87882825d")
PATCH = ModelRef("20240101", 1, "a01af71bb3372fa8ae596274f369d52523dc8b6a1991039ab02cd2f1381fac4d")


def read(name: str) -> bytes:
    return (FIXTURES / name).read_bytes()


def test_a_checkpoints_manifest() -> None:
    data = read("checkpoint_manifest.json")
    manifest = Manifest.decode(data)
    assert (manifest.job, manifest.day, manifest.pass_id, manifest.partitions) == ("ctr", "20240101", 1, 2)
    assert (manifest.marker_offset, manifest.offsets) == (12, {"0": 230, "1": 227})
    assert (manifest.rows, manifest.keys, manifest.shrinks, manifest.deletions, manifest.late_rows) == (454, 3, 0, 0, 0)
    assert (manifest.untrained, manifest.event_time) == ((), "2024-01-01T06:00:00")
    assert manifest.files[1] == FileEntry("embedding.shard/part-000.txt", 77, "b2" * 32)
    assert (manifest.models, manifest.chain) == ((PATCH,), ModelChain(BASE, PATCH, 0, 0))
    record = PassRecord.of_manifest(manifest)
    assert record is not None and record.predict_auc == 0.5125
    assert manifest.encode() == data


@pytest.mark.parametrize(("name", "ref"), [("full", BASE), ("incremental", PATCH)])
def test_an_inference_models_manifest(name: str, ref: ModelRef) -> None:
    data = read(f"inference_manifest_{name}.json")
    manifest = ModelManifest.decode(data)
    assert (manifest.day, manifest.pass_id, manifest.kind, digest(data)) == (ref.day, ref.pass_id, name, ref.digest)
    assert manifest.base == manifest.previous == (BASE if name == "incremental" else None)
    assert manifest.checkpoint == (PassId("20240101", 1) if name == "incremental" else None)
    assert manifest.feeds == (Feed(2, "embedding_0.tmp_0"), Feed(3, "embedding_1.tmp_0"))
    assert (manifest.width, manifest.target, manifest.dense) == (3, "sigmoid_0.tmp_0", ("fc_0.b_0", "fc_0.w_0"))
    assert manifest.files[3] == FileEntry("model/__model__", 2048, "a4" * 32)
    assert (manifest.thresholds, manifest.path) == (None, f"20240101/inference_model_{ref.pass_id}")
    assert manifest.encode() == data


def test_donefiles() -> None:
    base, patch = read("base_donefile.txt"), read("patch_donefile.txt")
    lines = decode_valid_donefile(base + patch)
    assert [line.ref for line in lines] == [BASE, PATCH]
    assert [line.kind for line in lines] == ["full", "incremental"]
    assert [line.published for line in lines] == [1704088800.5, 1704088803.25]
    assert [line.checkpoint for line in lines] == [None, PassId("20240101", 1)]
    last = lines[1]
    assert (last.base, last.previous, last.keys, last.deleted, last.rows) == (BASE, BASE, 3, 1, 454)
    assert (last.path, last.event_time) == ("20240101/inference_model_1", "2024-01-01T06:00:00")
    assert (encode_donefile(lines, "full"), encode_donefile(lines, "incremental")) == (base, patch)
    manifest = ModelManifest.decode(read("inference_manifest_incremental.json"))
    assert manifest.line(PATCH.digest, 1704088803.25) == last
    line = manifest.line(PATCH.digest, 1704088803.25, root="/m/", base=1704088800.5)
    words = orjson.loads(line.encode())
    of_paddlerec = {key: words.pop(key) for key in PADDLEREC}
    assert words == orjson.loads(patch) and list(words) == list(orjson.loads(patch))
    assert of_paddlerec == {
        "id": "1704088803", "key": "1704088800", "input": "/m/20240101/inference_model_1/sparse",
        "job_name": manifest.job, "monitor_data": "",
    }  # fmt: skip
    there = DoneLine.decode(line.moved("/m", "s3://bucket/models").encode().strip())
    assert there == line and there.input == "s3://bucket/models/20240101/inference_model_1/sparse"
    assert last.moved("/m", "s3://bucket/models") is last
    assert decode_donefile(base + patch) == (lines, [])


def test_a_line_of_passes_jsonl() -> None:
    record = PassRecord(**orjson.loads(read("passes.jsonl")))
    assert (record.day, record.pass_id, record.rows, record.predict_auc) == ("20240101", 1, 454, 0.5125)
    assert (record.gate, record.trained, record.withheld) == ("", True, "")
    assert list(record.checkpoint_parts) == [
        "paddle_touched", "paddle_dense", "paddle_sparse", "paddle_values", "checked", "sealed", "export_incremental",
        "committed",
    ]  # fmt: skip
    pos, neg = unpack(record.predict_histogram)
    assert (pos.tolist(), neg.tolist()) == ([0, 0, 0, 40], [414, 0, 0, 0])


def test_part_files() -> None:
    text, meta = read("checkpoint_part-000.txt"), PartMeta.decode(read("checkpoint_part-000.meta"))
    assert meta.names == (
        "key", "slot", "unseen_days", "delta_score", "show", "click", "embed_w", "embed_g2sum", "embedx_0", "embedx_1",
        "embedx_g2sum",
    )  # fmt: skip
    assert (meta.separator, meta.embedx_dim, meta.keys, meta.shard_num) == (" ", 2, 3, 1)
    assert [parse_line(line, meta.names) for line in text.splitlines()] == [
        KeyState(7, 3, 9.604, 1.5, 2, 0.5, 0.25, (0.5, -0.125)),
        KeyState(2**64 - 1, 2, 1.0, 1.0, 0, 0.0, -0.5, ()),
        KeyState(42, 3, 3.0, 0.0, 0, 0.0, 1e-05, (1.0, 2.0)),
    ]
    assert meta.encode() == read("checkpoint_part-000.meta")
    columns = TableColumns(2)
    assert columns.names == meta.names
    assert table_text.checkpoint_meta(columns, 3, 1, "CtrCommonAccessor") == meta
    assert table_text.shorten(text, columns) == (read("inference_part-00000.txt"), 3)
    short = PartMeta.decode(read("inference_part-00000.meta"))
    assert (short.names, short.keys, short.shard_num) == (("key", "embed_w", "embedx_0", "embedx_1"), 3, None)
    assert short == table_text.inference_meta(2, 3)
    assert short.encode() == read("inference_part-00000.meta")


def test_reports() -> None:
    consistency = reports.read(FIXTURES, reports.CONSISTENCY)
    assert consistency is not None and consistency["ok"] and consistency["digest"] == PATCH.digest
    assert consistency["worst"]["variable"] == "sigmoid_0.tmp_0" and consistency["worst"]["relative"] == 1e-07
    upload = reports.read(FIXTURES, reports.UPLOAD)
    assert upload == {"url": "s3://models/ctr", "problem": "", "time": 1704088806.0}
    assert reports.encode(upload) == read("upload.json") and reports.encode(consistency) == read("consistency.json")
    assert reports.read(FIXTURES, "none.json") is None
    assert reports.decode(b"[1]") is None and reports.decode(b"{") is None
