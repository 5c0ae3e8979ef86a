"""A role that times one thing of growth: growth_role.py CONFIG STEPS OUT.

STEPS is a JSON list of [file of MultiSlot text, turns, whether to save]. A file is trained once, then predicted and
trained so many times; then the tables are saved. OUT gets a JSON list of {"rows", "built", "predict", "train", "keys",
"save"}: seconds, the least of the turns.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench.role_run import give
from streamtrain.config import load_config
from streamtrain.engine.engine import Engine
from streamtrain.engine.running_save import SaveRequest


def seconds(do: Callable[[], Any], turns: int) -> float:
    found = []
    for _ in range(turns):
        begin = time.perf_counter()
        do()
        found.append(time.perf_counter() - begin)
    return min(found)


def save(engine: Engine, folder: Path) -> tuple[int, float]:
    """Keys in the servers, and seconds."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    begin = time.perf_counter()
    saved = engine.state.save(SaveRequest(folder))
    taken = time.perf_counter() - begin
    shutil.rmtree(folder)
    return saved.keys, taken


def main() -> None:
    config_path, steps_path, out = sys.argv[1:4]
    begin = time.perf_counter()
    engine = Engine.of_job(load_config(config_path))
    built = time.perf_counter() - begin
    if engine.is_server:
        engine.serve()
        return
    engine.connect()
    found = []
    for file, turns, saved in json.loads(Path(steps_path).read_text()):
        dataset = engine.read([Path(file)])
        step: dict[str, Any] = {"rows": dataset.rows, "built": built}
        engine.train(dataset)  # the table has its keys
        if turns:
            step["predict"] = seconds(lambda: engine.predict(dataset), turns)  # noqa: B023 - called at once
            step["train"] = seconds(lambda: engine.train(dataset), turns)  # noqa: B023
        dataset.release()
        if saved:
            step["keys"], step["save"] = save(engine, Path(out).with_suffix(".save"))
        found.append(step)
    give(found, Path(out))
    os._exit(0)


if __name__ == "__main__":
    main()
