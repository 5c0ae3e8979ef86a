"""Which bridged splits are looked at when: late changes come to young splits, and a look costs the same at any age."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

#: The newest splits, looked at in each round.
NEWEST = 100
#: Seconds that a round may take for the older ones, which take their turns.
ROUND_S = 0.5


class Rounds:
    """next() gives each round's sequences: the newest, then older ones, from where the last round ended."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._turn = 0

    def next(self, bridged: int, *, all_of_them: bool = False) -> Iterator[int]:
        """bridged: splits 0 .. bridged - 1 are. all_of_them: without a limit."""
        older = max(0, bridged - NEWEST)
        yield from range(bridged - 1, older - 1, -1)
        end = self._now() + ROUND_S
        for _ in range(older):
            if not all_of_them and self._now() >= end:
                return
            self._turn %= older
            yield self._turn
            self._turn += 1
