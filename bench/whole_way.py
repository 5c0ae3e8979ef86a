"""Rows a second of the whole way (files, Kafka, predict, train, checkpoints) beside Paddle alone.

300 slots, 384 features a row, layers [512, 256, 128], one server and one worker on both sides, same rows.
Both are taken from the end of the first pass to the end of the last, so that neither counts Paddle's start;
the bridge works at the same time, on the same cores. Also the codec's time a row.
"""

from __future__ import annotations

import argparse
import resource
import shutil
import time
from pathlib import Path

import yaml

from streamtrain.checkpoint.journal import Journal
from streamtrain.config import JobConfig, load_config
from streamtrain.connectors.formats import line_parser
from streamtrain.contracts.sample import SampleDecoder
from streamtrain.demo.generate import generate
from streamtrain.feed.multislot import MultiSlotWriter
from streamtrain.runtime.model_build import build_model
from streamtrain.runtime.pipeline import Pipeline
from streamtrain.runtime.roles import end_roles, start_roles

HERE = Path(__file__).resolve().parent
SPLIT_INTERVAL = 240
BATCH = 256


def prepare(folder: Path, rows: int) -> JobConfig:
    """Six passes of one split each, a checkpoint at the end of the day."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    generate(folder / "data", start_day="20240101", days=1, split_interval=SPLIT_INTERVAL, rows_per_split=rows)
    config = yaml.safe_load((HERE.parent / "models" / "slot_dnn" / "config_online.yaml").read_text())
    config["runner"].update(
        split_interval=SPLIT_INTERVAL, split_per_pass=1, start_day="20240101", end_day="20240101",
        checkpoint_per_pass=6, model_dir=str(HERE.parent / "models" / "slot_dnn"), train_batch_size=BATCH,
    )  # fmt: skip
    config["stream"]["workers"] = 1
    path = folder / "config_online.yaml"
    path.write_text(yaml.safe_dump(config))
    return load_config(path)


def whole_way(config: JobConfig) -> tuple[float, float]:
    """Rows a second with the last checkpoint, and without it."""
    Pipeline(config).run()
    records = Journal(config.model_save_path).read()
    rows = sum(r.rows for r in records[1:])
    seconds = records[-1].ended - records[0].ended
    return rows / seconds, rows / (seconds - (records[-1].checkpoint_seconds or 0))


def write_ready_text(config: JobConfig, folder: Path) -> tuple[float, float]:
    """A file of MultiSlot text a pass; microseconds a row for encoding and decoding."""
    folder.mkdir()
    parse, writer, decoder = (
        line_parser("feasign_slot", config.layout),
        MultiSlotWriter(build_model(config).network.feeds, config.layout),
        SampleDecoder(layout=config.layout),
    )
    encoding = decoding = 0.0
    rows = 0
    for split in config.schedule.splits():
        lines = (Path(config.data_dir) / split.path / "part-0").read_bytes().splitlines()
        with (folder / f"{split.time}.txt").open("wb") as out:
            for start in range(0, len(lines), 1000):
                begin = time.perf_counter()
                parsed = [parse(line) for line in lines[start : start + 1000]]
                messages = [r.encode(0, i) for i, r in enumerate(parsed)]
                middle = time.perf_counter()
                text = writer.text(decoder.decode(messages))
                decoding += time.perf_counter() - middle
                encoding += middle - begin
                out.write(text)
        rows += len(lines)
    return encoding / rows * 1e6, decoding / rows * 1e6


def floor(config: JobConfig, text: Path) -> float:
    """Rows a second of infer and train on ready text."""
    run_dir, log_dir = config.path.parent / "floor-run", config.path.parent / "floor-log"
    run_dir.mkdir()
    roles = start_roles(
        HERE / "floor_role.py", [str(config.path), str(text)], servers=1, workers=1, run_dir=run_dir, log_dir=log_dir,
        cwd=config.path.parent,
    )  # fmt: skip
    wanted = len(list(text.glob("*.txt")))
    try:
        while True:
            log = log_dir / "workerlog.0"
            marks = [x.split() for x in log.read_text().splitlines() if x.startswith("FLOOR ")] if log.exists() else []
            if len(marks) == wanted:
                return sum(int(m[1]) for m in marks[1:]) / (float(marks[-1][2]) - float(marks[0][2]))
            if roles.ended():
                raise SystemExit(f"the floor's roles ended early: read {log}")
            time.sleep(0.5)
    finally:
        end_roles(roles, run_dir)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=12000, help="rows a pass; there are six")
    parser.add_argument("--dir", type=Path, default=Path("bench-run"))
    arguments = parser.parse_args()
    config = prepare(arguments.dir.absolute(), arguments.rows)
    ours, without = whole_way(config)
    encoding, decoding = write_ready_text(config, config.path.parent / "ready")
    alone = floor(config, config.path.parent / "ready")
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    print(f"whole way             {ours:8.0f} rows/s   {ours / alone:6.1%} of the floor")
    print(f"  without checkpoint  {without:8.0f} rows/s   {without / alone:6.1%}")
    print(f"floor: Paddle alone   {alone:8.0f} rows/s")
    print(f"encode {encoding:.0f} us a row, decode {decoding:.0f} us a row; largest process {peak:.0f} MB")


if __name__ == "__main__":
    main()
