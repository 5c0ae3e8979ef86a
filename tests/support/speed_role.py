"""A role that times a network's predict, train and save on fresh servers: speed_role.py CONFIG TEXT OUT.

OUT gets a JSON of the least seconds of three turns each: of a quiet moment, whatever else the machine does.
"""

import sys
import time
from collections.abc import Callable
from pathlib import Path

import orjson

from streamtrain.engine.running_save import SaveRequest
from tests.support.role_engine import connected, leave

config_path, text, out = sys.argv[1:4]
_, engine = connected(config_path)
least: dict[str, float] = {}


def timed(name: str, do: Callable[[], object]) -> None:
    begin = time.perf_counter()
    do()
    least[name] = min(least.get(name, float("inf")), time.perf_counter() - begin)


dataset = engine.read([Path(text)])
engine.train(dataset)  # the table has its keys
for turn in range(3):
    timed("predict", lambda: engine.predict(dataset))
    timed("train", lambda: engine.train(dataset))
    engine.barrier()
    target = Path(out).with_suffix(f".{turn}")
    target.mkdir()
    timed("save", lambda: engine.state.save(SaveRequest(target)))  # noqa: B023 - called at once
Path(out).write_bytes(orjson.dumps(least))
leave()
