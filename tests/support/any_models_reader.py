"""Inference models of any form, read by what docs/models.md says of their files, and computed: by none of our readers.

    python -m tests.support.any_models_reader JOB.json RESULT.json

JOB: [{"root": .., "chain": [directories, the base first], "rows": [slots by number and floats by name]}]; RESULT: for
each the predictions, by variable.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

from streamtrain.contracts.tensors import read_tensor
from streamtrain.engine.environment import engine_environment
from tests.support.paths import ROOT


def predictions(folder: Path, jobs: list[dict[str, Any]]) -> list[dict[str, list[float]]]:
    """In a process of its own, which Paddle is imported in."""
    (folder / "jobs.json").write_text(json.dumps(jobs))
    command = [sys.executable, "-m", "tests.support.any_models_reader", "jobs.json", "result.json"]
    environment = {**os.environ, **engine_environment(), "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads((folder / "result.json").read_text())  # type: ignore[no-any-return]


def tables_of(chain: list[Path], manifest: dict[str, Any]) -> dict[str, dict[int, np.ndarray]]:
    """Keys of each table with what the network gets for them."""
    found: dict[str, dict[int, np.ndarray]] = {}
    for name, table in manifest["tables"].items():
        width = table["width"]
        keys: dict[int, np.ndarray] = {}
        for model in chain:
            folder = model / "sparse" / (name if len(manifest["tables"]) > 1 else "")
            if (deleted := folder / "deleted.txt").exists():
                for key in deleted.read_text().split():
                    keys.pop(int(key), None)
            for part in sorted(folder.glob("part-*.txt")):
                names = [c["name"] for c in json.loads(part.with_suffix(".meta").read_text())["columns"]]
                assert len(names) == width + 1 and names[0] == "key"
                for line in part.read_text().splitlines():
                    key, *values = line.split(" ")
                    assert len(values) == width
                    keys[int(key)] = np.array(values, np.float32)
        found[name] = keys
    return found


def evaluate(job: dict[str, Any]) -> dict[str, list[float]]:
    import paddle

    chain = [Path(job["root"]) / name for name in job["chain"]]
    manifest = json.loads((chain[-1] / "manifest.json").read_text())
    assert manifest["format"] == 2 and "width" not in manifest and "target" not in manifest
    tables = tables_of(chain, manifest)
    assert manifest["kind"] == "incremental" or manifest["keys"] == sum(map(len, tables.values()))
    paddle.enable_static()
    place, scope = paddle.CPUPlace(), paddle.static.Scope()
    program = paddle.static.deserialize_program((chain[-1] / "model" / "__model__").read_bytes())
    block = program.global_block()
    for index in reversed(range(len(block.ops))):
        if block.ops[index].type in ("feed", "fetch"):
            block._remove_op(index)
    for name in manifest["dense"]:
        scope.var(name).get_tensor().set(read_tensor((chain[-1] / "dense" / name).read_bytes()), place)
    feeds: dict[str, Any] = {
        feed["variable"]: np.array([row["floats"][feed["name"]] for row in job["rows"]], np.float32)
        for feed in manifest["dense_feeds"]
    }
    for feed in manifest["feeds"]:
        keys = [row["slots"][str(feed["slot"])] or [0] for row in job["rows"]]
        zeros = np.zeros(manifest["tables"][feed["table"]]["width"], np.float32)
        vectors = np.stack([tables[feed["table"]].get(key, zeros) for row in keys for key in row])
        lengths = [len(row) for row in keys]
        assert not feed["length"] or set(lengths) == {feed["length"]}
        lod = vectors if feed["length"] else paddle.base.create_lod_tensor(vectors, [lengths], place)
        feeds[feed["variable"]] = lod
    names = [target["variable"] for target in manifest["targets"]]
    values = paddle.static.Executor(place).run(program, feed=feeds, fetch_list=names, scope=scope)
    return {name: np.asarray(value).ravel().tolist() for name, value in zip(names, values, strict=True)}


if __name__ == "__main__":
    jobs = json.loads(Path(sys.argv[1]).read_text())
    Path(sys.argv[2]).write_text(json.dumps([evaluate(job) for job in jobs]))
