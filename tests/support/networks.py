"""Small networks as the trainer exports them: a program a process of its own writes, with several sets of weights.

    python -m tests.support.networks DIR --slots 4 --layers 8 --sets 3

DIR gets __model__, names.json, and a directory a set: __params__, a file a parameter.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import orjson

from streamtrain.engine.environment import engine_environment
from tests.support.paths import ROOT

WIDTH = 9


@dataclass(frozen=True)
class Network:
    """program: __model__; params: __params__; dense: binary tensors by name; feeds, variables: names."""

    program: bytes
    params: bytes
    dense: dict[str, bytes]
    feeds: dict[int, str]
    target: str
    variables: dict[str, str]
    pool: str
    weights: dict[str, np.ndarray]

    def predict(self, cells: np.ndarray) -> np.ndarray:
        """cells: [rows, slots, width], pooled. The network once more, in numpy: [rows]."""
        x = cells[:, ::-1].reshape(len(cells), -1).astype(np.float64)
        for number in range(len(self.weights) // 2 - 1):
            x = np.maximum(x @ self.weights[f"fc_{number}.w"] + self.weights[f"fc_{number}.b"], 0)
        x = np.clip(x @ self.weights["out.w"] + self.weights["out.b"], -15, 15)
        return 1 / (1 + np.exp(-x[:, 0]))


def make_networks(
    folder: Path, *, slots: int = 4, layers: str = "8", sets: int = 3, pool: str = "sum"
) -> list[Network]:
    command = [
        sys.executable, "-m", "tests.support.networks", str(folder), "--slots", str(slots), "--layers", layers,
        "--sets", str(sets), "--pool", pool,
    ]  # fmt: skip
    environment = {**os.environ, **engine_environment()}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    names = orjson.loads((folder / "names.json").read_bytes())
    found = []
    for index in range(sets):
        directory = folder / str(index)
        dense = {name: (directory / name).read_bytes() for name in names["dense"]}
        feeds = {int(slot): variable for slot, variable in names["feeds"].items()}
        weights = dict(np.load(directory / "weights.npz"))
        network = Network(
            (folder / "__model__").read_bytes(), (directory / "__params__").read_bytes(), dense, feeds,
            names["target"], names["variables"], pool, weights,
        )  # fmt: skip
        found.append(network)
    return found


def _write(folder: Path, slots: int, layers: list[int], sets: int, pool: str) -> None:
    import paddle

    paddle.enable_static()
    main, startup = paddle.static.Program(), paddle.static.Program()
    with paddle.static.program_guard(main, startup):
        feeds = [
            paddle.static.data(f"embedding_{slot}", [None, WIDTH], "float32", lod_level=1)
            for slot in range(2, slots + 2)
        ]
        pooled = [paddle.static.nn.sequence_pool(feed, pool) for feed in feeds]
        layer = paddle.concat(pooled[::-1], axis=1)  # not in the order of the feeds
        variables = {**{f"pooled_{i}": p.name for i, p in enumerate(pooled)}, "concat": layer.name}
        for number, size in enumerate([*layers, 1]):
            name = "out" if number == len(layers) else f"fc_{number}"
            normal = paddle.nn.initializer.Normal(std=1.5 / float(layer.shape[1]) ** 0.5)
            layer = paddle.static.nn.fc(
                layer, size, activation="relu" if number < len(layers) else None,
                weight_attr=paddle.ParamAttr(name=f"{name}.w", initializer=normal),
                bias_attr=paddle.ParamAttr(name=f"{name}.b", initializer=normal),
            )  # fmt: skip
            variables[name] = layer.name
        predicted = paddle.nn.functional.sigmoid(paddle.clip(layer, min=-15.0, max=15.0))
    executor = paddle.static.Executor(paddle.CPUPlace())
    program = paddle.static.normalize_program(main, feeds, [predicted])
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "__model__").write_bytes(program.desc.serialize_to_string())
    parameters = [v for v in program.list_vars() if v.persistable and v.name not in ("feed", "fetch")]
    for index in range(sets):
        main.random_seed = startup.random_seed = index + 1
        executor.run(startup)
        directory = folder / str(index)
        directory.mkdir(exist_ok=True)
        paddle.static.save_vars(executor, str(directory), program, vars=parameters, filename="__params__")
        for parameter in parameters:
            paddle.save(parameter.get_value(), str(directory / parameter.name), use_binary_format=True)
        np.savez(directory / "weights.npz", **{v.name: np.array(v.get_value()) for v in parameters})
    names = {
        "feeds": {str(slot): feed.name for slot, feed in enumerate(feeds, 2)},
        "target": predicted.name,
        "variables": variables,
        "dense": sorted(v.name for v in parameters),
    }
    (folder / "names.json").write_bytes(orjson.dumps(names))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--slots", type=int, required=True)
    parser.add_argument("--layers", required=True)
    parser.add_argument("--sets", type=int, required=True)
    parser.add_argument("--pool", default="sum")
    arguments = parser.parse_args()
    layers = [int(size) for size in arguments.layers.split(",")]
    _write(arguments.folder, arguments.slots, layers, arguments.sets, arguments.pool)


if __name__ == "__main__":
    main()
