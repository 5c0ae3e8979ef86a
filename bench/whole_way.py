"""`streamtrain run` beside itself without its fast paths, beside Paddle alone, and beside PaddleRec's trainer.

Each of them has the same logs, in turns, several times; the figures are ratios with their spread, and what they are
made of: into build/whole_way.md and .json. Splits are finished while the job runs, so that the bridge works as long as
the trainer; a checkpoint is made every third pass, and the day ends in it. The embedded Kafka is part of `run`.

python -m bench.whole_way [--paddlerec CHECKOUT --paddlerec-python PYTHON]
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import Any

from bench import floor, product, ratios, theirs
from bench.ratios import Figure, ratio
from bench.speed_job import Size, make_job, write_logs

SLOW = {"stream": {"fast_paths": {"predict": False, "pool": False, "save": False}}}


def measure(
    folder: Path, size: Size, repeat: int, paddlerec: tuple[Path, Path] | None, roles: list[int]
) -> list[Figure]:
    """paddlerec: its checkout and its Python."""
    logs = folder / "logs"
    write_logs(logs, size)
    config = make_job(folder / "text", logs, size, {})
    workers = config.stream.worker_count
    encode, decode = floor.write_text(config, logs, folder / "ready", workers)
    seen: dict[str, list[Any]] = defaultdict(list)
    for turn in range(repeat):
        print(f"turn {turn + 1} of {repeat}", flush=True)
        seen["fast"].append(product.run(make_job(folder / "fast", logs, size, {}), size.rows))
        seen["slow"].append(product.run(make_job(folder / "slow", logs, size, SLOW), size.rows))
        seen["floor"].append(floor.rows_a_second(config, folder / "ready", size.rows))
        for count in roles if paddlerec is not None else ():
            assert paddlerec is not None
            seen[f"theirs {count}"].append(theirs.run(*paddlerec, folder / "theirs", logs, size, count))
    return figures(seen, encode, decode, workers)


def figures(seen: dict[str, list[Any]], encode: float, decode: float, workers: int) -> list[Figure]:
    fast, slow, alone = seen["fast"], seen["slow"], seen["floor"]
    found = []
    for name, runs in sorted(seen.items()):
        if name.startswith("theirs"):
            who = f"PaddleRec's trainer, {name[-1]} server(s) and worker(s)"
            found += [
                ratio(f"end to end / {who}", [r.end_to_end for r in fast], [r.end_to_end for r in runs]),
                ratio(f"first to last pass / {who}", [r.in_window for r in fast], [r.in_window for r in runs]),
                Figure(f"{who}: end to end", "rows/s", [r.end_to_end for r in runs]),
                Figure(f"{who}: first to last pass", "rows/s", [r.in_window for r in runs]),
            ]
    found += [
        ratio("first to last pass / the floor", [r.in_window for r in fast], alone),
        ratio("end to end / without fast paths", [r.end_to_end for r in fast], [r.end_to_end for r in slow]),
        ratio("first to last pass / without fast paths", [r.in_window for r in fast], [r.in_window for r in slow]),
        ratio("predict, without fast paths / with them", [r.predict_us for r in slow], [r.predict_us for r in fast]),
        ratio("train, without fast paths / with them", [r.train_us for r in slow], [r.train_us for r in fast]),
        ratio("held by checkpoints, without / with them", [_mean(r.held) for r in slow], [_mean(r.held) for r in fast]),
        Figure(f"end to end, {workers} worker(s)", "rows/s", [r.end_to_end for r in fast]),
        Figure("first to last pass", "rows/s", [r.in_window for r in fast]),
        Figure("the floor", "rows/s", alone),
        Figure("predict", "us a row", [r.predict_us for r in fast]),
        Figure("train", "us a row", [r.train_us for r in fast]),
        Figure("`run` to the first pass", "s", [r.to_first for r in fast]),
        Figure("held by a checkpoint", "s", [_mean(r.held) for r in fast]),
        Figure("the last checkpoint, with the day's end", "s", [r.last for r in fast]),
        Figure("encode", "us a row", [encode]),
        Figure("decode", "us a row", [decode]),
    ]  # fmt: skip
    for part in sorted({part for run in fast for part in run.cpu}):
        found.append(Figure(f"processor seconds: {part}", "s", [run.cpu.get(part, 0.0) for run in fast]))
    return found


def _mean(values: list[float]) -> float:
    return sum(values) / len(values) if values else float("nan")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=Size.rows, help="rows a pass")
    parser.add_argument("--passes", type=int, default=Size.passes, help="a divisor of 1440")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--paddlerec", type=Path, help="a checkout of PaddleRec: its trainer runs too")
    parser.add_argument("--paddlerec-python", type=Path, default=Path(sys.executable), help="the Python it runs with")
    parser.add_argument("--roles", type=int, nargs="+", default=[1], help="servers and workers of PaddleRec's trainer")
    parser.add_argument("--build", type=Path, default=Path("build"))
    given = parser.parse_args()
    size = Size(given.rows, given.passes)
    paddlerec = (given.paddlerec.resolve(), given.paddlerec_python.absolute()) if given.paddlerec else None
    if paddlerec is not None:
        theirs.check(*paddlerec)
    given.build.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="streamtrain-bench-", dir=given.build) as folder:
        found = measure(Path(folder).resolve(), size, given.repeat, paddlerec, given.roles)
    title = f"{size.passes} passes of {size.rows:,} rows, {size.slots} slots, {size.features} features"
    print(ratios.write(given.build / "whole_way", title, found, {"rows": size.rows, "passes": size.passes}))


if __name__ == "__main__":
    main()
