"""Without a donefile: a split is complete once its directory has not changed for stream.settle_second."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

from streamtrain.connectors.tree import Listing

#: Splits ahead of the next one that are looked at as well, so that a backlog does not wait for each of its splits.
AHEAD = 64


class Settling:
    """Since when the listing of each split is what it is. Pure but for the clock."""

    def __init__(self, settle_s: float, now: Callable[[], float] = time.monotonic) -> None:
        self.settle_s = settle_s
        self._now = now
        self._seen: dict[int, tuple[Listing, float]] = {}

    def unchanged_s(self, sequence: int, listing: Listing) -> float:
        """Seconds for which the split has been as listed now."""
        known = self._seen.get(sequence)
        if known is None or known[0] != listing:
            self._seen[sequence] = (listing, self._now())
            return 0.0
        return self._now() - known[1]

    def forget(self, sequences: Iterable[int]) -> None:
        for sequence in sequences:
            self._seen.pop(sequence, None)
