"""Names in files and messages: none leads out of its directory or into a shell, whichever document has it."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamtrain.contracts.codec import DecodeError, encode
from streamtrain.contracts.donefiles import DoneLine, decode_donefile
from streamtrain.contracts.inference_models import ModelManifest
from streamtrain.contracts.manifest import Manifest
from streamtrain.contracts.marker import SCHEMA, Marker
from streamtrain.contracts.paths import check_day, check_time, number_of, plain_path, source_path

FIXTURES = Path(__file__).parent / "fixtures"
DOCUMENTS = {
    Manifest.decode: json.loads((FIXTURES / "checkpoint_manifest.json").read_bytes()),
    ModelManifest.decode: json.loads((FIXTURES / "inference_manifest_incremental.json").read_bytes()),
}
LINE = json.loads((FIXTURES / "patch_donefile.txt").read_bytes())
OUTSIDE = ["", "/etc/passwd", "..", "../x", "a/../../x", "a//b", "a/", "./a", "a/./b", "a/..", "a\0b", "x" * 5000]
SHELL = ["part-$(id).txt", "a b", "a;b", "a`b", "a|b", "a\nb", "a\tb", "a'b", 'a"b', "a&b", "a>b", "a*", "a?", "a\\b",
         "~root", "a{b}", "a#b", "a!b", "\x1b[2J", "é", "\ud800", "-rf", "a/-b", "a%b", "a:b"]  # fmt: skip
#: Names that checkpoints and models of this software have.
OURS = ["manifest.json", "embedding.shard/part-000.txt", ".dense/part-000", "dense/__params__", "model/__model__",
        "linear_0.w_0", "fc_0.b", "batch_norm_0.w_1@MEAN", "dense/tower/fc.w_0", "a+b=c"]  # fmt: skip


@pytest.mark.parametrize("name", OURS)
def test_our_names_are_plain(name: str) -> None:
    assert str(plain_path(name)) == name == str(source_path(name))


@pytest.mark.parametrize("name", OUTSIDE + SHELL)
def test_other_names_are_not(name: str) -> None:
    with pytest.raises(ValueError) as refused:
        plain_path(name)
    assert len(str(refused.value)) < 300 and str(refused.value).isprintable()


@pytest.mark.parametrize("name", ["a b.gz", "größe;$(x)", "-x", "log\n2", "a/b/c", "..a", "a..b"])
def test_a_users_file_may_have_any_name_below_its_directory(name: str) -> None:
    assert str(source_path(name)) == name


@pytest.mark.parametrize("name", OUTSIDE)
def test_but_none_outside(name: str) -> None:
    with pytest.raises(ValueError, match=r"path|has"):
        source_path(name)


@given(st.text(max_size=20) | st.text("./a", max_size=8))
def test_a_plain_path_is_below_any_root(name: str) -> None:
    try:
        path = plain_path(name)
    except ValueError:
        return
    root = Path("/root/dir")
    normal = Path(*root.parts, *path.parts)
    assert root in normal.parents and ".." not in normal.parts and name.isascii() and name.isprintable()


@pytest.mark.parametrize("decode", DOCUMENTS, ids=["checkpoint", "model"])
@pytest.mark.parametrize("name", [OUTSIDE[3], OUTSIDE[1], SHELL[0], "\x1b[2J"])
def test_manifests_refuse_files_by_name(decode: Any, name: str) -> None:
    document = DOCUMENTS[decode]
    bad = {**document, "files": [{**document["files"][0], "path": name}]}
    with pytest.raises(ValueError, match=r"files\.0\.path: ") as refused:
        decode(json.dumps(bad).encode())
    assert "Value error" not in str(refused.value)


@pytest.mark.parametrize("decode", DOCUMENTS, ids=["checkpoint", "model"])
@pytest.mark.parametrize("day", ["../..", "20240101/..", "2024010", "٢٠٢٤٠١٠١", "20241301", ""])
def test_manifests_refuse_days_that_are_none(decode: Any, day: str) -> None:
    for change in ({"day": day}, *({k: {"day": day, "pass_id": 1, "digest": "x"}} for k in ("base",))):
        if decode == Manifest.decode and "base" in change:
            change = {"models": [change["base"]]}
        with pytest.raises(ValueError, match="day: "):
            decode(json.dumps({**DOCUMENTS[decode], **change}).encode())


@pytest.mark.parametrize(
    "path",
    ["../x", "/etc", "", ".staging", "20240101/5", "20240101/inference_model_1/..", "20240101/inference_x"],
)
def test_a_donefiles_line_names_an_inference_model(path: str) -> None:
    data = json.dumps({**LINE, "path": path}).encode()
    with pytest.raises(ValueError, match=r"path: .* is not the directory of an inference model"):
        DoneLine.decode(data)
    lines, bad = decode_donefile(data + b"\n")
    assert not lines and bad[0].number == 1


def marker(**changes: Any) -> bytes:
    values: dict[str, Any] = {
        "day": "20240101", "time": "0010", "sequence": 1, "revision": 0, "status": "data", "topic_id": "t",
        "ranges": [], "rows": 0, "rejected": 0, "schema": "",
        "files": [{"path": "a b$(x).gz", "bytes": 1, "rows": 1, "sha256": ""}],
    }  # fmt: skip
    return encode(SCHEMA, values | changes)


def test_markers() -> None:
    assert Marker.decode(marker()).files[0].path == "a b$(x).gz"
    for changes in (
        {"day": "../2024"}, {"day": "20240101\n"}, {"time": "../.."}, {"time": "0"}, {"time": "2400"}, {"time": "1260"},
        *({"files": [{"path": path, "bytes": 1, "rows": 1, "sha256": ""}]} for path in OUTSIDE),
    ):  # fmt: skip
        with pytest.raises(DecodeError):
            Marker.decode(marker(**changes))


def test_days_times_and_numbers() -> None:
    assert check_day("20240229") == "20240229" and check_time("2359") == "2359"
    assert [number_of(n) for n in ("0", "7", "10")] == [0, 7, 10]
    assert [number_of(n) for n in ("", "07", "²", "٣", "-1", "1_0", "1 ", "9" * 30)] == [None] * 8
