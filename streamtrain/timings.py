"""How long the parts of a step take."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager


class Timings(dict[str, float]):
    """Seconds by part, in the order in which the parts were measured first: `with timings("sealed"): ..`.

    A part that is measured several times has the sum. A part that ends in an error is not recorded.
    """

    @contextmanager
    def __call__(self, part: str) -> Iterator[None]:
        begin = time.monotonic()
        yield
        self.add(part, time.monotonic() - begin)

    def add(self, part: str, seconds: float) -> None:
        self[part] = self.get(part, 0.0) + seconds
