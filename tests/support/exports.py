"""Writes inference models as docs/models.md has them, and knows what each predicts."""

from __future__ import annotations

import hashlib
import io
import os
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
from pyarrow import csv

from tests.support.networks import WIDTH, Network

PARTS = 2
#: The metrics of each model's pass.
LABELS = {
    "click": {"predict": {"rows": 20, "auc": 0.7, "copc": 1.25}, "train": {"rows": 20, "auc": 0.75, "copc": None}},
    "buy": {"predict": {"rows": 20, "auc": None, "copc": 0.5}, "train": None},
}


class Exports:
    """The inference models of one job below `root`. Keeps what each should hold, by digest."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.listed = True  # whether what is published next goes to the donefiles at once
        self.models: dict[str, tuple[dict[int, np.ndarray], Network]] = {}
        self._lines: dict[str, list[dict[str, Any]]] = {"full": [], "incremental": []}
        self._base: dict[str, Any] | None = None
        self._previous: dict[str, Any] | None = None

    def full(self, day: str, pass_id: int, rows: dict[int, np.ndarray], network: Network) -> str:
        """Returns the digest."""
        return self._publish("full", day, pass_id, rows, (), dict(rows), network)

    def incremental(
        self, day: str, pass_id: int, rows: dict[int, np.ndarray], network: Network, deleted: Iterable[int] = ()
    ) -> str:
        """Over the one before. Returns the digest."""
        below = self.models[self._previous["digest"]][0] if self._previous else {}
        gone = set(deleted)
        whole = {k: v for k, v in below.items() if k not in gone} | rows
        return self._publish("incremental", day, pass_id, rows, sorted(gone), whole, network)

    def expected(self, digest: str, lines: Sequence[str]) -> np.ndarray:
        """Predictions in numpy, row by row from a dict."""
        table, network = self.models[digest]
        cells = np.zeros((len(lines), len(network.feeds), WIDTH))
        for row, line in enumerate(lines):
            pairs = [tuple(map(int, token.split(":"))) for token in line.split()]
            for place, slot in enumerate(network.feeds):
                found = [table.get(f, np.zeros(WIDTH)) for f, s in pairs if s == slot and f]
                if found:
                    cells[row, place] = np.sum(found, axis=0) / (len(found) if network.pool == "average" else 1)
        return network.predict(cells)

    def path(self, digest: str) -> Path:
        lines = [line for kind in self._lines.values() for line in kind]
        return self.root / next(line["path"] for line in lines if line["digest"] == digest)

    def _publish(
        self, kind: str, day: str, pass_id: int, rows: dict[int, np.ndarray], deleted: Sequence[int],
        whole: dict[int, np.ndarray], network: Network,
    ) -> str:  # fmt: skip
        keys = np.array(list(rows), np.uint64)
        values = np.array(list(rows.values()), np.float32).reshape(len(rows), WIDTH)
        digest = self.publish_arrays(kind, day, pass_id, keys, values, network, deleted)
        self.models[digest] = (whole, network)
        return digest

    def publish_arrays(
        self, kind: str, day: str, pass_id: int, keys: np.ndarray, values: np.ndarray, network: Network,
        deleted: Sequence[int] = (),
    ) -> str:  # fmt: skip
        """What it predicts is not kept. Returns the digest."""
        links = {"base": None, "previous": None}
        if kind == "incremental":
            links = {"base": self._base, "previous": self._previous}
        path = f"{day}/inference_model_{pass_id}"
        manifest = write_model(
            self.root / path, keys, values, network, day=day, pass_id=pass_id, kind=kind, deleted=deleted, **links
        )
        digest = hashlib.sha256(manifest).hexdigest()
        ref = {"day": day, "pass_id": pass_id, "digest": digest}
        if kind == "full":
            self._base = ref
        self._previous = ref
        line = {
            **ref, "kind": kind, "path": path, **links, "keys": len(keys), "deleted": len(deleted), "rows": 0,
            "event_time": event_time(day, pass_id), "published": time.time(),
        }  # fmt: skip
        self._lines[kind].append(line)
        if self.listed:
            self.write_donefiles()
        return digest

    def write_donefiles(self) -> None:
        for name, kind in (("base_donefile.txt", "full"), ("patch_donefile.txt", "incremental")):
            if self._lines[kind]:
                text = b"".join(orjson.dumps(line) + b"\n" for line in self._lines[kind])
                (self.root / f".{name}").write_bytes(text)
                (self.root / f".{name}").replace(self.root / name)

    def drop_line(self, digest: str) -> None:
        """As a restart that goes back behind the model."""
        for kind, lines in self._lines.items():
            self._lines[kind] = [line for line in lines if line["digest"] != digest]
        self.write_donefiles()

    def go_back(self, digest: str | None) -> None:
        """The next incremental one is over this one."""
        lines = [line for kind in self._lines.values() for line in kind]
        found = next((line for line in lines if line["digest"] == digest), None)
        ref = {k: found[k] for k in ("day", "pass_id", "digest")} if found else None
        self._previous = ref
        if found is None or found["kind"] == "full":
            self._base = ref
        else:
            self._base = found["base"]


def event_time(day: str, pass_id: int) -> str:
    return f"{day[:4]}-{day[4:6]}-{day[6:]}T{pass_id % 24:02d}:00:00"


def write_model(
    directory: Path, keys: np.ndarray, values: np.ndarray, network: Network, *, day: str, pass_id: int, kind: str,
    deleted: Sequence[int] = (), base: Any = None, previous: Any = None,
) -> bytes:  # fmt: skip
    """One directory, by one rename. Returns its manifest."""
    files: dict[str, bytes] = {"model/__model__": network.program, "dense/__params__": network.params}
    files |= {f"dense/{name}": data for name, data in network.dense.items()}
    columns = [{"name": "key", "type": "uint64"}, {"name": "embed_w", "type": "float32"}]
    columns += [{"name": f"embedx_{i}", "type": "float32"} for i in range(WIDTH - 1)]
    for part in range(PARTS):
        mine = keys % np.uint64(PARTS) == part
        meta = {"columns": columns, "separator": " ", "embedx_dim": WIDTH - 1, "keys": int(mine.sum())}
        files[f"sparse/part-{part:03d}.txt"] = _text(keys[mine], values[mine])
        files[f"sparse/part-{part:03d}.meta"] = orjson.dumps(meta)
    if len(deleted):
        files["sparse/deleted.txt"] = "".join(f"{key}\n" for key in deleted).encode()
    manifest = {
        "format": 1, "job": "job", "day": day, "pass_id": pass_id, "kind": kind, "base": base, "previous": previous,
        "checkpoint": {"day": day, "pass_id": pass_id}, "keys": len(keys), "deleted": len(deleted), "width": WIDTH,
        "feeds": [{"slot": slot, "variable": name} for slot, name in network.feeds.items()],
        "target": network.target,
        "variables": list(network.variables.values()),
        "dense": sorted(network.dense), "thresholds": None, "rows": 0, "event_time": event_time(day, pass_id),
        "metrics": {"predict_auc": 0.7, "train_auc": 0.7, "labels": LABELS}, "created": "now", "program": "tests",
        "config_sha256": "",
        "files": [
            {"path": path, "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
            for path, data in sorted(files.items())
        ],
    }  # fmt: skip
    staged = directory.parent / f".{directory.name}.{os.getpid()}"
    encoded = orjson.dumps(manifest, option=orjson.OPT_INDENT_2)
    for path, data in {**files, "manifest.json": encoded}.items():
        (staged / path).parent.mkdir(parents=True, exist_ok=True)
        (staged / path).write_bytes(data)
    staged.rename(directory)
    return encoded


def _text(keys: np.ndarray, values: np.ndarray) -> bytes:
    if not len(keys):
        return b""
    table = pa.table({"key": keys, **{f"v{i}": values[:, i] for i in range(values.shape[1])}})
    out = io.BytesIO()
    csv.write_csv(table, out, csv.WriteOptions(include_header=False, delimiter=" ", quoting_style="none"))
    return out.getvalue()


def vectors(keys: Iterable[int], seed: int) -> dict[int, np.ndarray]:
    """Random vectors with few digits: text gives them back."""
    source = np.random.default_rng(seed)
    return {key: (source.integers(-9999, 9999, WIDTH) / np.float32(10000)).astype(np.float32) for key in keys}
