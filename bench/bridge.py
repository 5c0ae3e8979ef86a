"""Rows a second of the bridge, which parses by itself and with processes beside it, against parsing and encoding alone:
into build/bridge.md and .json.

The splits are finished before it starts. Kafka is embedded, and runs beside it. The seconds are those that the bridge
reports of its splits but the first, in which its processes start.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bench import floor, ratios
from bench.ratios import Figure, ratio
from bench.speed_job import DONEFILE, Size, make_job, write_logs
from streamtrain.config import JobConfig
from streamtrain.connectors.bridge import Bridge
from streamtrain.connectors.formats import line_parser
from streamtrain.kafka.embedded import EmbeddedBroker


def alone(config: JobConfig, logs: Path) -> float:
    """Rows a second of parsing and encoding."""
    parse = line_parser(config.line_format, config.layout)
    rows, begin = 0, time.perf_counter()
    for file in sorted(logs.rglob("part-*")):
        for number, row in enumerate(floor.rows_of(file.read_bytes().splitlines(), parse)):
            row.encode(0, number)
            rows += 1
    return rows / (time.perf_counter() - begin)


def finished_job(folder: Path, logs: Path, size: Size, broker: EmbeddedBroker, stream: Mapping[str, Any]) -> JobConfig:
    """Of the folder's name, all of whose splits are finished. stream: more keys of that section."""
    config = make_job(
        folder, logs, size,
        {"stream": {"job": folder.name, **stream}, "kafka": {"bootstrap.servers": broker.bootstrap}},
    )  # fmt: skip
    for split in config.schedule.splits():
        (config.path.parent / "data" / split.path / DONEFILE).touch()
    return config


def bridged(config: JobConfig, size: Size) -> float:
    """Rows a second of the bridge."""
    seconds: list[float] = []
    Bridge(config, config.kafka(), on_split=lambda _, taken: seconds.append(taken)).run()
    return size.rows * (len(seconds) - 1) / sum(seconds[1:])


def measure(folder: Path, size: Size, repeat: int, counts: list[int]) -> list[Figure]:
    logs = folder / "logs"
    write_logs(logs, size)
    config = make_job(folder / "alone", logs, size, {})
    by_itself: list[float] = []
    ways: dict[int, list[float]] = {count: [] for count in counts}
    with EmbeddedBroker(folder / "kafka") as broker:
        for turn in range(repeat):
            by_itself.append(alone(config, logs))
            for count, found in ways.items():
                target = folder / f"{turn}-{count}"
                found.append(bridged(finished_job(target, logs, size, broker, {"parse_processes": count}), size))
                shutil.rmtree(target)
    figures = [Figure("parsing and encoding alone", "rows/s", by_itself)]
    for count, found in ways.items():
        who = f"the bridge, {count} processes beside it" if count else "the bridge by itself"
        figures += [Figure(who, "rows/s", found), ratio(f"{who} / alone", found, by_itself)]
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=6000, help="rows a split")
    parser.add_argument("--splits", type=int, default=6, help="a divisor of 1440")
    parser.add_argument("--processes", type=int, nargs="+", default=[0, 1, 2], help="stream.parse_processes")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--build", type=Path, default=Path("build"))
    given = parser.parse_args()
    if given.splits < 2:
        parser.error("--splits: at least 2 are needed, the first is not counted")
    size = Size(given.rows, given.splits)
    given.build.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="streamtrain-bench-", dir=given.build) as folder:
        found = measure(Path(folder).resolve(), size, given.repeat, given.processes)
    title = f"The bridge: {size.passes} splits of {size.rows:,} rows, {size.slots} slots, {size.features} features"
    print(ratios.write(given.build / "bridge", title, found, {"rows": size.rows, "splits": size.passes}))


if __name__ == "__main__":
    main()
