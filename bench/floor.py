"""The floor: the same rows as ready MultiSlot text straight into Paddle's predict and train, with the fast paths and as
many workers as the product takes. No Kafka, no checkpoints, nothing beside it."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from streamtrain.config import JobConfig
from streamtrain.connectors.formats import LineParser, Row, line_parser
from streamtrain.contracts.network import NetworkFeed
from streamtrain.contracts.sample import SampleDecoder
from streamtrain.feed.multislot import MultiSlotWriter
from streamtrain.feed.ranges import BATCH
from streamtrain.runtime.model_build import build_model
from streamtrain.runtime.roles import end_roles, start_roles

HERE = Path(__file__).resolve().parent


def feeds_of(config: JobConfig) -> Sequence[NetworkFeed]:
    """Raises SystemExit when the model does not build."""
    report = build_model(config)
    if report is None or report.network is None:
        raise SystemExit(f"the model does not build: {report.problems if report else ''}")
    return report.network.feeds


def rows_of(lines: Sequence[bytes], parse: LineParser) -> Iterator[Row]:
    """As the bridge parses them, in batches. Raises SystemExit for a line that is no row."""
    for start in range(0, len(lines), parse.batch):
        for row in parse.rows(lines[start : start + parse.batch]):
            if not isinstance(row, Row):
                raise SystemExit(f"a line of the logs is no row: {row}")
            yield row


def write_text(config: JobConfig, logs: Path, folder: Path, workers: int) -> tuple[float, float]:
    """A file of text a pass in a folder for each worker, row by row in turns. Returns microseconds a row of encoding
    and of decoding."""
    parse = line_parser(config.line_format, config.layout)
    writer, decoder = MultiSlotWriter(feeds_of(config), config.layout), SampleDecoder(layout=config.layout)
    encoding = decoding = 0.0
    count = 0
    for worker in range(workers):
        (folder / str(worker)).mkdir(parents=True, exist_ok=True)
    for split in config.schedule.splits():
        lines = (logs / split.path / "part-0").read_bytes().splitlines()
        outs = [(folder / str(n) / f"{split.sequence:05d}.txt").open("wb") for n in range(workers)]
        for start in range(0, len(lines), BATCH):
            begin = time.perf_counter()
            messages = [
                row.encode(0, n) for n, row in enumerate(rows_of(lines[start : start + BATCH], parse), start + 1)
            ]
            middle = time.perf_counter()
            text = writer.text(decoder.decode(messages))
            decoding += time.perf_counter() - middle
            encoding += middle - begin
            for number, row in enumerate(text.splitlines(keepends=True)):
                outs[number % workers].write(row)
        for out in outs:
            out.close()
        count += len(lines)
    return encoding / count * 1e6, decoding / count * 1e6


def rows_a_second(config: JobConfig, text: Path, rows: int) -> float:
    """From the end of the first pass to the end of the last. rows: of a pass, of all workers."""
    folder = config.path.parent
    run_dir, log_dir = folder / "floor-run", folder / "floor-log"
    for each in (run_dir, log_dir):
        shutil.rmtree(each, ignore_errors=True)
    run_dir.mkdir()
    workers = sorted(text.iterdir())
    passes = len(list(workers[0].iterdir()))
    roles = start_roles(
        HERE / "floor_role.py", [str(config.path), str(text)], servers=1, workers=len(workers), run_dir=run_dir,
        log_dir=log_dir, cwd=folder,
    )  # fmt: skip
    try:
        while True:
            log = log_dir / "workerlog.0"
            lines = log.read_text("utf-8", "replace").splitlines() if log.exists() else []
            ends = [float(line.split()[1]) for line in lines if line.startswith("FLOOR ")]
            if len(ends) == passes:
                return rows * (passes - 1) / (ends[-1] - ends[0])
            if roles.ended():
                raise SystemExit(f"the floor's roles ended early: read {log}")
            time.sleep(0.2)
    finally:
        end_roles(roles, run_dir)
