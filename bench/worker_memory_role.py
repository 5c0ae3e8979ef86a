"""A role of worker_memory.py: worker_memory_role.py CONFIG TEXT PASSES OUT."""

from __future__ import annotations

import sys
from pathlib import Path

import psutil

from bench.role_run import give
from tests.support.role_engine import connected, leave


def main() -> None:
    config_path, text, passes, out = sys.argv[1:5]
    _, engine = connected(config_path)
    found = []
    for number in range(1, int(passes) + 1):
        dataset = engine.read([Path(text)])
        engine.predict(dataset)
        engine.train(dataset)
        dataset.release()
        if not number % 100:
            found.append(psutil.Process().memory_info().rss / 1e6)
    give(found, Path(out))
    leave()


if __name__ == "__main__":
    main()
