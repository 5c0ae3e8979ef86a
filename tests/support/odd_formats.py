"""Parse functions of a user's, for the tests of the bridge."""

import os
import signal
import time
from typing import Any


def csv(line: bytes) -> tuple[int, list[int], list[int]] | None:
    """label,feasign of slot 2; no row of a header."""
    if line.startswith(b"label"):
        return None
    label, feasign = line.split(b",")
    return int(label), [2], [int(feasign)]


def tabs(line: bytes) -> tuple[int, list[int], list[int]]:
    """Three columns, of which the last may be empty."""
    label, first, second = line.split(b"\t")
    return int(label), [2, 3], [int(first), int(second or 0)]


def slow(_line: bytes) -> tuple[int, list[int], list[int]]:
    time.sleep(0.05)
    return 1, [2], [5]


def counts(lines: list[bytes]) -> list[Any]:
    """Breaks the rule of functions by batches: a line's row has its place in the batch."""
    return [(1, [2], [place]) for place, _ in enumerate(lines)]


counts.batch = True  # type: ignore[attr-defined]


def hungry(line: bytes) -> tuple[int, list[int], list[int]] | None:
    """Has no memory for feasign 300."""
    if line.endswith(b",300"):
        raise MemoryError
    return csv(line)


def deadly(_line: bytes) -> None:
    os.kill(os.getpid(), signal.SIGKILL)
