"""What each thing costs as it grows, as plots: rows a pass, slots, workers, keys, partitions, splits.

Into build/growth.png, .md and .json. Paddle's parts are measured without Kafka, on fresh servers; partitions by what a
worker's feed reads of them; splits by bench.age.

python -m bench.growth [--only rows slots ..]
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench import age, bridge, floor, ratios
from bench.role_run import found_by
from bench.speed_job import Size, make_job, write_logs
from streamtrain.config import JobConfig
from streamtrain.connectors.formats import line_parser
from streamtrain.contracts.network import click_feeds
from streamtrain.contracts.sample import SampleDecoder
from streamtrain.feed.feed import Feed, FeedStart
from streamtrain.feed.multislot import MultiSlotWriter
from streamtrain.feed.ranges import BATCH
from streamtrain.kafka.clients import admin
from streamtrain.kafka.embedded import EmbeddedBroker
from streamtrain.kafka.topics import TopicNames, ensure_topics

SLOTS, FEATURES = 300, 384


@dataclass(frozen=True)
class Growth:
    """lines: of what was measured, by name, a value for each of `steps`. A name with a comma ends in its own unit."""

    of: str
    unit: str
    steps: Sequence[float]
    lines: Mapping[str, Sequence[float]]


def timed(config: JobConfig, steps: Sequence[tuple[Path, int, bool]]) -> list[dict[str, Any]]:
    """What growth_role.py finds, with a server and a worker. Raises SystemExit when they end early."""
    given = config.path.parent / "steps.json"
    given.write_text(json.dumps([(str(file), turns, saved) for file, turns, saved in steps]))
    found: list[dict[str, Any]] = found_by("growth_role.py", [str(config.path), str(given)], config.path.parent)
    return found


def job(folder: Path, logs: Path, size: Size, stream: Mapping[str, Any] | None = None) -> JobConfig:
    return make_job(folder, logs, size, {"stream": {"workers": 1, **(stream or {})}})


def text_of(config: JobConfig, lines: Sequence[bytes], target: Path) -> Path:
    """MultiSlot text of the lines, of a network with show, click and the slots."""
    decoder, writer = SampleDecoder(layout=config.layout), MultiSlotWriter(click_feeds(config.slots), config.layout)
    parse = line_parser(config.line_format, config.layout)
    with target.open("wb") as out:
        for start in range(0, len(lines), BATCH):
            rows = list(floor.rows_of(lines[start : start + BATCH], parse))
            out.write(writer.text(decoder.decode([row.encode(0, n) for n, row in enumerate(rows)])))
    return target


def logs_of(folder: Path, size: Size) -> list[bytes]:
    write_logs(folder, size)
    return [line for file in sorted(folder.rglob("part-*")) for line in file.read_bytes().splitlines()]


def rows(folder: Path) -> Growth:
    counts = [100, 300, 1000, 3000, 10_000, 30_000]
    size = Size(rows=counts[-1], passes=1)
    lines = logs_of(folder / "logs", size)
    config = job(folder / "job", folder / "logs", size)
    steps = [(text_of(config, lines[:count], folder / f"{count}.txt"), 3, False) for count in counts]
    found = timed(config, steps)
    parts = {part: [1e6 * f[part] / f["rows"] for f in found] for part in ("predict", "train")}
    return Growth("rows a pass", "us a row", counts, parts)


def slots(folder: Path) -> Growth:
    counts = [10, 30, 100, 300, 1000]
    build = "the model's build, ms"
    lines: dict[str, list[float]] = {"predict": [], "train": [], build: []}
    for count in counts:
        size = Size(rows=3000, passes=1, slots=count, features=int(count * 1.28))
        own = folder / str(count)
        text = logs_of(own / "logs", size)
        config = job(own / "job", own / "logs", size)
        [found] = timed(config, [(text_of(config, text, own / "rows.txt"), 3, False)])
        for part in ("predict", "train"):
            lines[part].append(1e6 * found[part] / found["rows"])
        lines[build].append(1e3 * found["built"])
    return Growth("slots", "us a row", counts, lines)


def workers(folder: Path) -> Growth:
    counts = [1, 2, 3, 4]
    size = Size(rows=8000, passes=4)
    logs_of(folder / "logs", size)
    found = []
    for count in counts:
        config = job(folder / f"job{count}", folder / "logs", size, {"workers": count, "partitions": 4})
        floor.write_text(config, folder / "logs", folder / f"text{count}", count)
        found.append(floor.rows_a_second(config, folder / f"text{count}", size.rows))
    return Growth("workers", "rows/s", counts, {"predict and train": found})


def keys(folder: Path) -> Growth:
    """Every row has keys of its own, until the table has so many."""
    counts = [100_000, 300_000, 1_000_000, 3_000_000, 10_000_000]
    size = Size(rows=10, passes=1)
    logs_of(folder / "logs", size)
    config = job(folder / "job", folder / "logs", size)
    steps, key = [], 1
    for count in counts:
        target = folder / f"{count}.txt"
        with target.open("wb") as out:
            while key < count:
                out.write(_fresh_row(key))
                key += FEATURES
        steps.append((target, 0, True))
    found = timed(config, steps)
    return Growth("keys", "s", [f["keys"] for f in found], {"a save of all tables": [f["save"] for f in found]})


def _fresh_row(key: int) -> bytes:
    """A row of MultiSlot text with the keys from `key` on, spread over the slots."""
    each, more = divmod(FEATURES, SLOTS)
    parts, at = ["1 1", f"1 {key % 2}"], key
    for slot in range(SLOTS):
        count = each + (slot < more)
        parts.append(f"{count} {' '.join(map(str, range(at, at + count)))}")
        at += count
    return " ".join(parts).encode() + b"\n"


def partitions(folder: Path) -> Growth:
    counts = [1, 2, 4, 16, 64]
    size = Size(rows=6000, passes=4)
    logs_of(folder / "logs", size)
    lines: dict[str, list[float]] = {"the bridge": [], "a worker's feed": []}
    with EmbeddedBroker(folder / "kafka") as broker:
        for count in counts:
            stream = {"workers": 1, "partitions": count, "parse_processes": 0}
            config = bridge.finished_job(folder / f"job{count}", folder / "logs", size, broker, stream)
            lines["the bridge"].append(1e6 / bridge.bridged(config, size))
            lines["a worker's feed"].append(1e6 * read_seconds(config) / (size.rows * size.passes))
    return Growth("partitions", "us a row", counts, lines)


def read_seconds(config: JobConfig) -> float:
    """Of all passes, by one worker, as MultiSlot text in a random order."""
    names = TopicNames(config.stream.job)
    ids = ensure_topics(admin(config.kafka()), names, config.stream.partitions)
    start = FeedStart(0, 0, dict.fromkeys(range(config.stream.partitions), 0))
    begin = time.perf_counter()
    feed = Feed(
        config.kafka(), job=config.stream.job, samples=names.samples, splits=names.splits, topic_id=ids.samples,
        schedule=config.schedule, feeds=click_feeds(config.slots), layout=config.layout, start=start, worker=0,
        workers=1, spool=config.path.parent / "spool", shuffle=True,
    )  # fmt: skip
    while (data := feed.next_pass()) is not None:
        data.release()
    taken = time.perf_counter() - begin
    feed.close()
    return taken


def splits(folder: Path) -> Growth:
    counts = [1000, 10_000, 100_000]
    table = age.ages(folder, counts)
    return Growth(
        "splits bridged so far", "s", counts, {f"{name}, s": list(found.values()) for name, found in table.items()}
    )


AXES: dict[str, Callable[[Path], Growth]] = {
    "rows": rows, "slots": slots, "workers": workers, "keys": keys, "partitions": partitions, "splits": splits,
}  # fmt: skip


def plot(found: Sequence[Growth], path: Path) -> None:
    import matplotlib as mpl

    mpl.use("agg")
    import matplotlib.pyplot as plt

    columns = min(3, len(found))
    figure, axes = plt.subplots(
        -(-len(found) // columns), columns, figsize=(5 * columns, 4 * -(-len(found) // columns)), squeeze=False,
        layout="constrained",
    )  # fmt: skip
    for axis, growth in zip(axes.flat, found, strict=False):
        for name, values in growth.lines.items():
            axis.plot(growth.steps, values, marker="o", label=name)
        if max(growth.steps) > 10:
            axis.set_xscale("log")
            axis.set_yscale("log")
        else:
            axis.set_ylim(bottom=0)
        axis.set_xlabel(growth.of)
        axis.set_ylabel(growth.unit)
        axis.grid(visible=True, which="both", alpha=0.3)
        axis.legend(fontsize=7)
    for axis in list(axes.flat)[len(found) :]:
        axis.set_visible(False)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def markdown(found: Sequence[Growth]) -> str:
    where = ratios.machine()
    text = [
        "# Cost against growth", "",
        f"streamtrain {where['version']}, {where['processors']} processors ({where['processor']}).", "",
    ]  # fmt: skip
    for growth in found:
        text += [f"| {growth.of} | " + " | ".join(f"{step:,.0f}" for step in growth.steps) + " |"]
        text += ["|---" * (len(growth.steps) + 1) + "|"]
        for name, values in growth.lines.items():
            label = name if "," in name else f"{name}, {growth.unit}"
            text += [f"| {label} | " + " | ".join(ratios.number(value) for value in values) + " |"]
        text += [""]
    return "\n".join(text)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=AXES, default=list(AXES))
    parser.add_argument("--build", type=Path, default=Path("build"))
    given = parser.parse_args()
    given.build.mkdir(exist_ok=True)
    found = []
    for name in given.only:
        with tempfile.TemporaryDirectory(prefix="streamtrain-bench-", dir=given.build) as folder:
            found.append(AXES[name](Path(folder).resolve()))
        print(markdown(found[-1:]), flush=True)
    target = given.build / "growth"
    target.with_suffix(".md").write_text(markdown(found))
    document = {"machine": ratios.machine(), "growth": [growth.__dict__ for growth in found]}
    target.with_suffix(".json").write_text(json.dumps(document, indent=2) + "\n")
    plot(found, target.with_suffix(".png"))
    print(f"{target}.png")


if __name__ == "__main__":
    main()
