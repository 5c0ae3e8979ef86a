"""The job that whole_way.py measures: one day of passes of a split each, released while the job runs, so that the
bridge works for as long as the trainer does."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from streamtrain.checkpoint.journal import Journal
from streamtrain.config import JobConfig, load_config
from streamtrain.demo.generate import generate

MODEL = Path(__file__).resolve().parent.parent / "models" / "slot_dnn"
DAY = "20240101"
DONEFILE = "data.done"
#: Splits that are finished ahead of the pass that is trained.
AHEAD = 3


@dataclass(frozen=True)
class Size:
    """rows: a pass. checkpoint_every: passes. slots: of a row, with so many features."""

    rows: int = 12_000
    passes: int = 8
    checkpoint_every: int = 3
    slots: int = 300
    features: int = 384
    vocabulary: int = 2000

    @property
    def interval(self) -> int:
        """Minutes of a split. Raises ValueError when the passes do not divide a day."""
        if 1440 % self.passes:
            raise ValueError(f"{self.passes} passes do not divide a day of 1,440 minutes")
        return 1440 // self.passes


def write_logs(folder: Path, size: Size) -> None:
    generate(
        folder, start_day=DAY, days=1, split_interval=size.interval, rows_per_split=size.rows, slots=size.slots,
        features=size.features, vocabulary=size.vocabulary, donefile=DONEFILE,
    )  # fmt: skip


def link_logs(logs: Path, folder: Path) -> list[Path]:
    """Hard links to the files, without donefiles; returns the splits' folders."""
    linked = [folder / file.relative_to(logs) for file in logs.rglob("part-*")]
    for target in linked:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.hardlink_to(logs / target.relative_to(folder))
    return [target.parent for target in linked]


def make_job(folder: Path, logs: Path, size: Size, changes: Mapping[str, Mapping[str, Any]]) -> JobConfig:
    """A job in a new folder, whose logs are hard links to those in `logs`. changes: by section, over the config of
    models/slot_dnn."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    link_logs(logs, folder / "data")
    config = yaml.safe_load((MODEL / "config_online.yaml").read_text())
    config["runner"].update(
        split_interval=size.interval, split_per_pass=1, start_day=DAY, end_day=DAY, data_sleep_second=0.2,
        checkpoint_per_pass=size.checkpoint_every, model_dir=str(MODEL), train_batch_size=256,
    )  # fmt: skip
    config["hyper_parameters"]["slot_num"] = size.slots
    for section, values in changes.items():
        config.setdefault(section, {}).update(values)
    path = folder / "config_online.yaml"
    path.write_text(yaml.safe_dump(config))
    return load_config(path)


@contextmanager
def released(config: JobConfig) -> Iterator[None]:
    """Meanwhile splits are finished, AHEAD of the pass that is trained."""
    ended = threading.Event()
    splits = [Path(config.data_dir) / split.path / DONEFILE for split in config.schedule.splits()]

    def release() -> None:
        while not ended.is_set():
            trained = len(Journal(config.model_save_path).read())
            for donefile in splits[: trained + AHEAD]:
                donefile.touch()
            ended.wait(0.1)

    thread = threading.Thread(target=release)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
