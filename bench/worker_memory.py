"""Whether a worker's memory grows with the passes that it trains: MB after each hundred of passes of 100 rows, read,
predicted and trained without Kafka. Into build/worker_memory.md and .json. 2,000 passes take eight minutes.

python -m bench.worker_memory [--passes N]
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

from bench import growth, ratios
from bench.growth import SLOTS
from bench.role_run import found_by
from bench.speed_job import Size

ROWS = 100


def measure(folder: Path, passes: int) -> list[float]:
    """MB of the worker after each hundred of passes. Raises SystemExit when the roles end early."""
    size = Size(rows=ROWS, passes=1)
    lines = growth.logs_of(folder / "logs", size)
    config = growth.job(folder / "job", folder / "logs", size)
    text = growth.text_of(config, lines, folder / "rows.txt")
    given = [str(config.path), str(text), str(passes)]
    found: list[float] = found_by("worker_memory_role.py", given, config.path.parent)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--passes", type=int, default=2000)
    parser.add_argument("--build", type=Path, default=Path("build"))
    given = parser.parse_args()
    if given.passes < 400:
        parser.error("--passes: at least 400 are needed")
    given.build.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="streamtrain-bench-", dir=given.build) as folder:
        found = measure(Path(folder).resolve(), given.passes)
    where = ratios.machine()
    last = (found[-1] - found[len(found) // 2]) / (100 * (len(found) - 1 - len(found) // 2)) * 1000
    text = [
        f"# A worker's memory over {given.passes:,} passes of {ROWS} rows, {SLOTS} slots", "",
        f"streamtrain {where['version']}. In the second half it grows by {last:.1f} kB a pass.", "",
        "| passes | MB |", "|---|---|", *(f"| {100 * n:,} | {value:.1f} |" for n, value in enumerate(found, 1)), "",
    ]  # fmt: skip
    target = given.build / "worker_memory"
    target.with_suffix(".md").write_text("\n".join(text))
    target.with_suffix(".json").write_text(
        json.dumps({"machine": where, "mb": found, "kb_a_pass": last}, indent=2) + "\n"
    )
    print("\n".join(text))


if __name__ == "__main__":
    main()
