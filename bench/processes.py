"""Processor seconds of a program and all that it starts, by part."""

from __future__ import annotations

import contextlib
import threading
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager

import psutil

#: What the command line of each part has in it; the first that fits counts.
PARTS = (
    ("Kafka", "kafka.Kafka"), ("dry build", "dry_build.py"), ("bridge", " bridge "), ("supervisor", " run "),
)  # fmt: skip
_ROLES = {"PSERVER": "servers", "TRAINER": "workers"}
_EVERY_S = 0.25


@contextmanager
def counted(pid: int) -> Iterator[dict[str, float]]:
    """Seconds by part, as far as they were seen: what a process does in its last quarter of a second is not."""
    seconds: dict[str, float] = defaultdict(float)
    last: dict[tuple[int, float], tuple[str, float]] = {}
    ended = threading.Event()

    def look() -> None:
        with contextlib.suppress(psutil.Error):
            family = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
            for process in family:
                with contextlib.suppress(psutil.Error):
                    times = process.cpu_times()
                    last[process.pid, process.create_time()] = (part_of(process), times.user + times.system)

    def watch() -> None:
        while not ended.wait(_EVERY_S):
            look()

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield seconds
    finally:
        ended.set()
        thread.join()
        for part, spent in last.values():
            seconds[part] += spent


def part_of(process: psutil.Process) -> str:
    """Raises psutil.Error."""
    line = " ".join(process.cmdline())
    for part, words in PARTS:
        if words in f"{line} ":
            return part
    return _ROLES.get(process.environ().get("TRAINING_ROLE", ""), "others")
