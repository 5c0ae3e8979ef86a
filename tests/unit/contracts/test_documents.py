"""Manifests and donefiles: what is refused, with which reason; what is ignored; what is kept."""

import json
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamtrain.contracts.donefiles import (
    BadLine,
    DoneLine,
    decode_donefile,
    decode_valid_donefile,
    encode_donefile,
    kept_lines,
)
from streamtrain.contracts.inference_models import Feed, ModelManifest
from streamtrain.contracts.json_codec import UnknownFormatError
from streamtrain.contracts.manifest import FileEntry, Manifest, ModelChain, ModelRef, Witness
from streamtrain.contracts.table_text import PartMeta
from streamtrain.errors import CheckpointError
from streamtrain.schedule import PassId
from streamtrain.serving.bundle import read_manifest
from streamtrain.serving.files import Files

FIXTURES = Path(__file__).parent / "fixtures"
LINE = json.loads((FIXTURES / "patch_donefile.txt").read_bytes())
MODEL = json.loads((FIXTURES / "inference_manifest_incremental.json").read_bytes())
CHECKPOINT = json.loads((FIXTURES / "checkpoint_manifest.json").read_bytes())

text = st.text(max_size=8)
number = st.integers(0, 2**53)
days = st.dates(date(1000, 1, 1)).map("{:%Y%m%d}".format)
names = st.text("abcXYZ019._@+=", min_size=1, max_size=8).filter(lambda n: n not in (".", ".."))
files = st.lists(names, min_size=1, max_size=3).map("/".join)
refs = st.builds(ModelRef, days, number, text)
entries = st.lists(st.builds(FileEntry, files, number, text), max_size=3).map(tuple)
passes = st.builds(PassId, text, number)
auc = st.floats(0, 1) | st.none()
models = st.builds(
    ModelManifest,
    job=text, day=days, pass_id=number, kind=st.sampled_from(["full", "incremental"]), base=refs | st.none(),
    previous=refs | st.none(), checkpoint=passes | st.none(), keys=number, deleted=number, width=st.integers(1, 99),
    feeds=st.lists(st.builds(Feed, st.integers(2, 65535), text), min_size=1, max_size=3).map(tuple), target=text,
    variables=st.lists(text, max_size=3).map(tuple), dense=st.lists(text, max_size=3).map(tuple),
    thresholds=st.dictionaries(text, st.floats(0, 9), max_size=3) | st.none(), rows=number, event_time=text,
    metrics=st.dictionaries(text, auc, max_size=2), created=text, program=text, config_sha256=text, files=entries,
)  # fmt: skip
checkpoints = st.builds(
    Manifest,
    job=text, day=days, pass_id=number, marker_offset=number, offsets=st.dictionaries(text, number, max_size=3),
    samples_topic_id=text, splits_topic_id=text, cluster_id=text, partitions=number, rows=number, keys=number,
    metrics=st.dictionaries(text, auc, max_size=2), config_sha256=text, program=text, created=text, files=entries,
    shrinks=number, deletions=number, late_rows=number, untrained=st.lists(text, max_size=2).map(tuple),
    event_time=text, models=st.lists(refs, max_size=2).map(tuple),
    chain=st.builds(ModelChain, refs, refs, number, number) | st.none(),
)  # fmt: skip


@given(models, text, st.floats(0, 2e9))
def test_models_come_back(manifest: ModelManifest, digest: str, published: float) -> None:
    assert ModelManifest.decode(manifest.encode()) == manifest
    line = manifest.line(digest, published)
    assert decode_valid_donefile(line.encode()) == [line]
    assert line.ref == ModelRef(manifest.day, manifest.pass_id, digest)


@given(checkpoints)
def test_checkpoints_come_back(manifest: Manifest) -> None:
    assert Manifest.decode(manifest.encode()) == manifest


def encoded(values: dict[str, Any], **changes: Any) -> bytes:
    """Without the keys whose change is None."""
    merged = values | changes
    return json.dumps({k: v for k, v in merged.items() if k not in changes or changes[k] is not None}).encode()


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"keys": None}, "keys: Field required"),
        ({"keys": "many"}, "keys: Input should be a valid integer"),
        ({"kind": "half"}, "kind: Input should be 'full' or 'incremental'"),
        ({"width": 0}, "width: Input should be greater than or equal to 1"),
        ({"feeds": []}, "feeds: Tuple should have at least 1 item"),
        ({"feeds": [{"slot": 1, "variable": "x"}]}, "feeds.0.slot: Input should be greater than or equal to 2"),
        ({"base": {"day": "20240101"}}, "base.pass_id: Field required"),
        ({"files": [{"path": "x", "bytes": 1}]}, "files.0.sha256: Field required"),
        ({"format": 3}, "its format is 3, this version reads 1 and 2"),
        ({"format": 2}, "feeds.0.name: Field required"),
        ({"format": None}, "it has no key format"),
    ],
)
def test_serving_names_the_file_and_the_key(changes: dict[str, Any], reason: str, tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_bytes(encoded(MODEL, **changes))
    with pytest.raises(CheckpointError) as refused:
        read_manifest(Files(tmp_path), "")
    assert refused.value.message.startswith(f"{tmp_path}/manifest.json: ") and reason in refused.value.message


@pytest.mark.parametrize("data", [b"", b"{", b"[1]", b"null", b"\xff\xfe", b'{"format":1}', b'{"format":NaN}'])
def test_other_files_are_not_manifests(data: bytes) -> None:
    for decode in (Manifest.decode, ModelManifest.decode):
        with pytest.raises(ValueError, match="it is not a"):
            decode(data)


def test_unknown_keys_of_an_inference_model_are_ignored() -> None:
    plain = ModelManifest.decode(encoded(MODEL))
    more = [{**entry, "new": 1} for entry in MODEL["files"]]
    assert ModelManifest.decode(encoded(MODEL, new=1, base={**MODEL["base"], "new": 1}, files=more)) == plain


def test_a_model_that_lacks_what_serving_can_do_without() -> None:
    names = ("job", "base", "previous", "checkpoint", "thresholds", "metrics", "created", "program", "config_sha256")
    manifest = ModelManifest.decode(encoded(MODEL, **dict.fromkeys((*names, "rows", "event_time"))))
    assert (manifest.base, manifest.rows, manifest.event_time, manifest.job) == (None, 0, None, "")


@pytest.mark.parametrize(
    "changes",
    [
        {"new": 1},
        {"files": [{"path": "x", "bytes": 1, "sha256": "", "new": 1}]},
        {"models": [{**MODEL["base"], "new": 1}]},
        {"chain": {**CHECKPOINT["chain"], "base": {**MODEL["base"], "new": 1}}},
    ],
)
def test_unknown_keys_of_a_checkpoints_manifest_are_ignored(changes: dict[str, Any]) -> None:
    assert Manifest.decode(encoded(CHECKPOINT, **changes)).job == "ctr"


@pytest.mark.parametrize("key", ["shrinks", "untrained", "chain", "event_time", "models", "rows"])
def test_a_damaged_key_does_not_pass_for_a_missing_one(key: str) -> None:
    """The file has no checksum of its own, and some keys have a default."""
    damaged = encoded(CHECKPOINT).replace(f'"{key}"'.encode(), f'"{key[:-1]}~"'.encode())
    with pytest.raises(ValueError, match=f"lacks '{key}'|{key}: Field required"):
        Manifest.decode(damaged)


def test_a_checkpoint_of_before_the_newer_keys() -> None:
    names = ("shrinks", "deletions", "late_rows", "untrained", "event_time", "models", "chain")
    manifest = Manifest.decode(encoded(CHECKPOINT, **dict.fromkeys(names)))
    assert (manifest.shrinks, manifest.untrained, manifest.models, manifest.chain) == (0, (), (), None)
    chain = {key: CHECKPOINT["chain"][key] for key in ("base", "previous")}
    older = Manifest.decode(encoded(CHECKPOINT, chain=chain)).chain
    assert older is not None and (older.shrinks, older.deletions) == (-1, -1)
    with pytest.raises(ValueError, match="rows: Field required"):
        Manifest.decode(encoded(CHECKPOINT, rows=None))
    with pytest.raises(ValueError, match=r"offsets\.0: Input should be a valid integer"):
        Manifest.decode(encoded(CHECKPOINT, offsets={"0": "x"}))


def test_keys_of_a_newer_version_survive_the_rewrite_of_a_donefile() -> None:
    newer = encoded({"zone": {"a": [1, 2]}, **LINE, "base": {**LINE["base"], "new": 1}}, text="a key of this name too")
    (line,) = decode_valid_donefile(newer + b"\n")
    assert line == decode_valid_donefile(encoded(LINE))[0]
    assert encode_donefile([line], "incremental") == newer + b"\n"
    assert line.values == json.loads(newer)


def test_bad_lines_are_given_with_their_number() -> None:
    good = encoded(LINE)
    data = b"\n".join([good, b"nonsense", b"", b"{}", encoded(LINE, pass_id="x"), good, b"[1]"])
    lines, bad = decode_donefile(data)
    assert lines == [DoneLine.decode(good)] * 2
    assert [line.number for line in bad] == [2, 4, 5, 7]
    assert bad[1] == BadLine(4, "path: Field required")
    assert bad[2].reason.startswith("pass_id: Input should be a valid integer")
    with pytest.raises(ValueError, match=r"line 2: it is not a donefile's line"):
        decode_valid_donefile(data)


def test_the_lines_that_a_restart_keeps() -> None:
    first, second = (DoneLine.decode(encoded(LINE, checkpoint={"day": "20240101", "pass_id": n})) for n in (1, 2))
    of_none = DoneLine.decode(encoded(LINE, checkpoint=None))
    lines = [of_none, first, second]
    assert kept_lines(lines, PassId("20240101", 1)) == [of_none, first]
    assert kept_lines(lines, PassId("20240102", 1)) == lines and kept_lines(lines, None) == []


def test_a_meta_must_name_columns_and_separator() -> None:
    for data, key in (
        (b"{}", "columns"),
        (b'{"columns":[{"name":"key"}]}', "separator"),
        (b'{"columns":[{}]}', "name"),
    ):
        with pytest.raises(ValueError, match=rf"it is not a part file's .meta: .*{key}: Field required"):
            PartMeta.decode(data)
    assert PartMeta.decode(b'{"columns":[{"name":"key","new":1}],"separator":" ","new":1}').names == ("key",)


def test_a_witness() -> None:
    witness = Witness("20240101", 3, "ab")
    assert Witness.decode(witness.encode()) == witness
    assert Witness.decode(None) is None and Witness.decode("") is None
    for text in ("{}", "no JSON", "[1]"):
        with pytest.raises(UnknownFormatError):
            Witness.decode(text)
