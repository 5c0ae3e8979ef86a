"""Reads inference models from the layout alone, as docs/models.md has it; shares nothing with the code under test."""

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass
class Model:
    """An inference model: its donefile line, its manifest, key -> weights as text, deleted keys."""

    line: dict[str, Any]
    manifest: dict[str, Any]
    keys: dict[int, str]
    deleted: set[int] = field(default_factory=set)


def read_model(root: Path, line: dict[str, Any]) -> Model:
    folder = root / line["path"]
    raw = (folder / "manifest.json").read_bytes()
    assert hashlib.sha256(raw).hexdigest() == line["digest"]
    manifest = json.loads(raw)
    listed = {f["path"]: f for f in manifest["files"]}
    found = {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()} - {"manifest.json"}
    assert found == set(listed)
    for name, entry in listed.items():
        data = (folder / name).read_bytes()
        assert (len(data), hashlib.sha256(data).hexdigest()) == (entry["bytes"], entry["sha256"])
    keys: dict[int, str] = {}
    for part in sorted((folder / "sparse").glob("part-*.txt")):
        lines = part.read_text().splitlines()
        meta = json.loads(part.with_suffix(".meta").read_text())
        assert meta["keys"] == len(lines) and [c["name"] for c in meta["columns"]][:2] == ["key", "embed_w"]
        for text in lines:
            key, _, weights = text.partition(" ")
            assert len(weights.split(" ")) == manifest["width"] == len(meta["columns"]) - 1
            assert int(key) not in keys
            keys[int(key)] = weights
    gone = folder / "sparse" / "deleted.txt"
    deleted = set(map(int, gone.read_text().split())) if gone.exists() else set()
    assert (len(keys), len(deleted)) == (manifest["keys"], manifest["deleted"])
    assert {k: manifest[k] for k in ("day", "pass_id", "kind", "base", "previous")} == {
        k: line[k] for k in ("day", "pass_id", "kind", "base", "previous")
    }
    return Model(line, manifest, keys, deleted)


def read_all(root: Path) -> tuple[list[Model], list[Model]]:
    """(full ones, incremental ones), in the order of their donefiles."""
    found = []
    for name in ("base_donefile.txt", "patch_donefile.txt"):
        path = root / name
        lines = path.read_text().splitlines() if path.exists() else []
        found.append([read_model(root, json.loads(line)) for line in lines])
    return found[0], found[1]


def overlay(base: Model, incremental: list[Model]) -> dict[int, str]:
    """Base and the incremental ones that patch it, in order: rows replaced by key, deleted keys dropped."""
    keys, last = dict(base.keys), base
    for model in incremental:
        if model.manifest["base"]["digest"] != base.line["digest"]:
            continue
        assert model.manifest["previous"]["digest"] == last.line["digest"]
        assert not model.deleted & set(model.keys) and model.deleted <= set(keys)
        keys = {k: v for k, v in keys.items() if k not in model.deleted} | model.keys
        last = model
    return keys


def checkpoint_keys(checkpoint: Path, dim: int = 8) -> dict[int, str]:
    """key -> embed_w and embedx of a checkpoint, as text."""
    found = {}
    for part in (checkpoint / "embedding.shard").glob("part-*.txt"):
        for text in part.read_text().splitlines():
            columns = text.split(" ")
            found[int(columns[0])] = " ".join([columns[6], *(columns[8 : 8 + dim] or ["0"] * dim)])
    return found


def keys_in(data: Path, *splits: str) -> set[int]:
    """The feasigns of the splits' source files."""
    files = [f for split in splits for f in (data / split).glob("part-*")]
    pairs = (p.split(":") for f in files for line in f.read_text().splitlines() for p in line.split())
    return {int(feasign) for feasign, slot in pairs if slot != "1"}
