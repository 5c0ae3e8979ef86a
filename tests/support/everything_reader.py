"""Predicts with the inference models of tests/support/everything in numpy, from docs/models.md alone: no Paddle,
nothing of ours."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np

from tests.support.everything_job import FEATURES, RichRow
from tests.support.layout_reader import read_dense, read_params


class Model:
    """A model with those that it patches: for each table its keys' vectors."""

    def __init__(self, root: Path, line: dict[str, Any]) -> None:
        self.kind: str = line["kind"]
        self.folder = root / line["path"]
        raw = (self.folder / "manifest.json").read_bytes()
        assert hashlib.sha256(raw).hexdigest() == line["digest"]
        self.manifest: dict[str, Any] = json.loads(raw)
        assert self.manifest["format"] == 2
        listed = {f["path"]: f for f in self.manifest["files"]}
        found = {str(p.relative_to(self.folder)) for p in self.folder.rglob("*") if p.is_file()} - {"manifest.json"}
        assert found == set(listed)
        self.own: dict[str, dict[int, np.ndarray]] = {}
        self.deleted: dict[str, set[int]] = {}
        for name, table in self.manifest["tables"].items():
            folder = self.folder / "sparse" / name
            self.own[name] = {}
            for part in sorted(folder.glob("part-*.txt")):
                meta = json.loads(part.with_suffix(".meta").read_text())
                columns = [column["name"] for column in meta["columns"]]
                embedx = [f"embedx_{i}" for i in range(table["width"] - len(table["pulls"]))]
                assert columns == ["key", *table["pulls"], *embedx]
                for text in part.read_text().splitlines():
                    key, *values = text.split(" ")
                    assert len(values) == table["width"] and int(key) not in self.own[name]
                    self.own[name][int(key)] = np.array(values, np.float32)
            gone = folder / "deleted.txt"
            self.deleted[name] = set(map(int, gone.read_text().split())) if gone.exists() else set()
            assert (len(self.own[name]), len(self.deleted[name])) == (table["keys"], table["deleted"])
        self.tables = {name: dict(keys) for name, keys in self.own.items()}
        names = self.manifest["dense"]
        self.dense = read_dense(self.folder / "dense", names)
        together = read_params(self.folder / "dense" / "__params__", names)
        assert all((together[name] == self.dense[name]).all() for name in names)

    def over(self, below: Model) -> None:
        assert self.manifest["previous"]["digest"] == below.digest
        for name, keys in self.own.items():
            kept = {k: v for k, v in below.tables[name].items() if k not in self.deleted[name]}
            assert self.deleted[name] <= set(below.tables[name])
            self.tables[name] = kept | keys

    @property
    def digest(self) -> str:
        return hashlib.sha256((self.folder / "manifest.json").read_bytes()).hexdigest()

    def predict(self, rows: list[RichRow]) -> dict[str, np.ndarray]:
        """[rows] of each target, by its name."""
        return dict(zip(("click", "like", "dwell"), np.array([self._predict(row) for row in rows]).T, strict=True))

    def _predict(self, row: RichRow) -> tuple[float, float, float]:
        deep = {name: self._vectors("deep", row, name) for name in ("user_id", "item_id", "tags")}
        history = self._vectors("counted", row, "last_items")
        show, click = history[:, :1], history[:, 1:2]
        history = np.concatenate([np.log(show + 1), np.log(click + 1) - np.log(show + 1), history[:, 2:]], axis=1)
        padded = np.concatenate([np.zeros((1, 7)), history, np.zeros((1, 7))])
        windows = np.stack([padded[i : i + 3].ravel() for i in range(len(history))])
        order = windows @ self.dense["order.w"] + self.dense["order.b"]
        tags = self._vectors("counted", row, "tags").sum(axis=0)[2:]
        layer = np.concatenate(
            [
                deep["user_id"].sum(axis=0), deep["item_id"][0], deep["tags"].mean(axis=0), order.max(axis=0), tags,
                row.price, [row.age], self._vectors("a_liked", row, "user_id").sum(axis=0),
            ]
        )  # fmt: skip
        hidden = np.maximum(layer @ self.dense["hidden.w"] + self.dense["hidden.b"], 0)
        wide = sum(self._vectors("wide", row, name).sum(axis=0) for name in ("user_id", "tags"))
        hidden = np.concatenate([hidden, wide])
        heads = ("click", "like", "dwell")
        outputs = [hidden @ self.dense[f"{name}.w"] + self.dense[f"{name}.b"] for name in heads]
        click, like, dwell = (float(output[0]) for output in outputs)
        return _sigmoid(click), _sigmoid(like), dwell

    def _vectors(self, table: str, row: RichRow, slot: str) -> np.ndarray:
        keys = row.slots[FEATURES[slot]] or [0]
        zeros = np.zeros(self.manifest["tables"][table]["width"], np.float32)
        return np.stack([self.tables[table].get(key, zeros) if key else zeros for key in keys]).astype(np.float64)


def _sigmoid(x: float) -> float:
    return float(1 / (1 + np.exp(-np.clip(x, -15, 15))))


def read_all(root: Path) -> dict[str, Model]:
    """By path, each over those that it patches."""
    lines = [
        json.loads(line)
        for name in ("base_donefile.txt", "patch_donefile.txt") if (root / name).exists()
        for line in (root / name).read_text().splitlines()
    ]  # fmt: skip
    models = {line["digest"]: Model(root, line) for line in lines}
    patches = [line for line in lines if line["kind"] == "incremental"]
    for line in sorted(patches, key=lambda line: (line["day"], line["pass_id"])):
        models[line["digest"]].over(models[line["previous"]["digest"]])
    return {line["path"]: models[line["digest"]] for line in lines}
