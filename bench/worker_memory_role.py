"""A role of worker_memory.py: worker_memory_role.py CONFIG TEXT PASSES OUT."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import psutil

from streamtrain.config import load_config
from streamtrain.engine.engine import Engine


def main() -> None:
    config_path, text, passes, out = sys.argv[1:5]
    engine = Engine.of_job(load_config(config_path))
    if engine.is_server:
        engine.serve()
        return
    engine.connect()
    found = []
    for number in range(1, int(passes) + 1):
        dataset = engine.read([Path(text)])
        engine.predict(dataset)
        engine.train(dataset)
        dataset.release()
        if not number % 100:
            found.append(psutil.Process().memory_info().rss / 1e6)
    part = Path(out).with_suffix(".part")
    part.write_text(json.dumps(found))
    part.rename(out)
    os._exit(0)


if __name__ == "__main__":
    main()
