"""A role of the floor: floor_role.py CONFIG TEXT. Started by floor.py."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

from streamtrain.config import load_config
from streamtrain.engine.engine import Engine


def main() -> None:
    engine = Engine.of_job(load_config(sys.argv[1]))
    if engine.is_server:
        engine.serve()
        return
    engine.connect()
    for file in sorted((Path(sys.argv[2]) / str(engine.index)).iterdir()):
        dataset = engine.read([file])
        engine.barrier()
        engine.predict(dataset)
        engine.barrier()
        engine.train(dataset)
        engine.barrier()
        dataset.release()
        print(f"FLOOR {time.time()}", flush=True)
    time.sleep(5 if engine.index else 0)  # worker 0 says when all are done
    os._exit(0)


if __name__ == "__main__":
    main()
