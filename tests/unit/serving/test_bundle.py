"""Models of several tables on disk, one over the other; what is damaged is named with its table."""

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from streamtrain.contracts.manifest import FileEntry, ModelRef
from streamtrain.contracts.network_manifest import NetworkManifest, TableEntry
from streamtrain.contracts.served_network import SlotFeed, TargetVariable
from streamtrain.contracts.table_text import inference_meta
from streamtrain.errors import CheckpointError
from streamtrain.serving.bundle import Bundle, open_bundle
from streamtrain.serving.chain import Stack
from streamtrain.serving.files import Files

PULLS = {"deep": ("show", "click", "embed_w"), "wide": ("embed_w",)}
WIDTHS = {"deep": 4, "wide": 2}
Rows = dict[str, dict[int, list[float]]]


def write(folder: Path, rows: Rows, deleted: dict[str, list[int]], previous: str = "") -> NetworkManifest:
    """A model's directory; previous: the digest of the one that it patches."""
    files = {"model/__model__": b"m", "dense/__params__": b"p"}
    for name, keys in rows.items():
        lines = [" ".join([str(key), *map(repr, values)]) for key, values in keys.items()]
        files[f"sparse/{name}/part-00000.txt"] = "".join(f"{line}\n" for line in lines).encode()
        dim = WIDTHS[name] - len(PULLS[name])
        files[f"sparse/{name}/part-00000.meta"] = inference_meta(dim, len(keys), PULLS[name]).encode()
        if deleted.get(name):
            files[f"sparse/{name}/deleted.txt"] = "".join(f"{key}\n" for key in deleted[name]).encode()
    for path, data in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(data)
    manifest = NetworkManifest(
        day="20240101", pass_id=1, kind="incremental" if previous else "full",
        previous=ModelRef("20240101", 0, previous) if previous else None,
        keys=sum(map(len, rows.values())), deleted=sum(map(len, deleted.values())),
        feeds=tuple(SlotFeed("user", 2, name, name) for name in rows), targets=(TargetVariable("p", "p"),),
        tables={
            name: TableEntry(len(keys), len(deleted.get(name, [])), width=WIDTHS[name], pulls=PULLS[name])
            for name, keys in rows.items()
        },
        files=tuple(FileEntry(p, len(d), hashlib.sha256(d).hexdigest()) for p, d in sorted(files.items())),
    )  # fmt: skip
    (folder / "manifest.json").write_bytes(manifest.encode())
    return manifest


BASE: Rows = {"deep": {1: [3, 1, 0.5, 0.25], 2: [1, 0, 0.125, 0]}, "wide": {1: [1, 2], 5: [3, 4], 6: [5, 6]}}
PATCH: Rows = {"deep": {2: [9, 9, 9, 9], 7: [1, 1, 1, 1]}, "wide": {9: [7, 8]}}
GONE = {"deep": [1], "wide": [5, 6]}


def opened(folder: Path) -> Bundle:
    return open_bundle(Files(folder), "")


def test_tables_are_patched_each_by_its_own(tmp_path: Path) -> None:
    write(tmp_path / "base", BASE, {})
    base = opened(tmp_path / "base")
    write(tmp_path / "patch", PATCH, GONE, base.digest)
    stack = Stack()
    for bundle in (base, opened(tmp_path / "patch")):
        stack.add(bundle)
    built = stack.built()
    assert built is not None and len(built.digests) == 2
    for name in BASE:
        expected = {key: values for key, values in BASE[name].items() if key not in GONE[name]} | PATCH[name]
        keys, values = built.tables[f"sparse/{name}"].items()
        assert dict(zip(keys.tolist(), values.tolist(), strict=True)) == expected


def test_a_patch_of_other_tables_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "base", BASE, {})
    base = opened(tmp_path / "base")
    stack = Stack()
    stack.add(base)
    write(tmp_path / "patch", {"deep": PATCH["deep"]}, {}, base.digest)
    moved = tmp_path / "patch" / "sparse"
    for file in (moved / "deep").iterdir():
        file.rename(moved / file.name)
    text = (tmp_path / "patch" / "manifest.json").read_text().replace("sparse/deep/", "sparse/")
    (tmp_path / "patch" / "manifest.json").write_text(text)
    with pytest.raises(ValueError, match="it has sparse, the model below sparse/deep sparse/wide"):
        stack.add(opened(tmp_path / "patch"))
    built = stack.built()
    assert built is not None and built.digests == (base.digest,)
    assert np.array_equal(built.tables["sparse/wide"].lookup(np.array([6], np.uint64)), [[5, 6]])


def test_damage_is_named_with_its_table(tmp_path: Path) -> None:
    manifest = write(tmp_path, BASE, {})
    wrong = {**manifest.tables, "deep": replace(manifest.tables["deep"], keys=1), "wide": manifest.tables["wide"]}
    (tmp_path / "manifest.json").write_bytes(replace(manifest, tables=wrong, keys=4).encode())
    with pytest.raises(CheckpointError, match="says 1 keys, the files have 2 in sparse/deep"):
        opened(tmp_path)
    narrow = {**manifest.tables, "wide": replace(manifest.tables["wide"], width=3)}
    (tmp_path / "manifest.json").write_bytes(replace(manifest, tables=narrow).encode())
    with pytest.raises(CheckpointError, match=r"sparse/wide/part-00000\.meta has other columns than key embed_w"):
        opened(tmp_path)
    files = tuple(entry for entry in manifest.files if "wide/part-00000.meta" not in entry.path)
    (tmp_path / "manifest.json").write_bytes(replace(manifest, files=files).encode())
    with pytest.raises(CheckpointError, match=r"does not list sparse/wide/part-00000\.meta"):
        opened(tmp_path)
