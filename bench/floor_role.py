"""The floor: ready MultiSlot text straight into Paddle's infer and train. Started by whole_way.py."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

from streamtrain.config import load_config
from streamtrain.engine.engine import Engine


def main() -> None:
    config = load_config(sys.argv[1])
    engine = Engine.of_job(config)
    if engine.is_server:
        engine.serve()
        return
    engine.connect()
    for file in sorted(Path(sys.argv[2]).glob("*.txt")):
        dataset = engine.read([file])
        engine.predict(dataset)
        rows = engine.train(dataset).rows
        dataset.release()
        print(f"FLOOR {rows} {time.time()}", flush=True)
    os._exit(0)


if __name__ == "__main__":
    main()
