"""What Paddle has freed goes back to the system.

A pass frees its rows and the trainer's operators in small pieces, between which the C library's heap keeps holes. It
gives them back when it is asked to (malloc_trim of glibc; elsewhere nothing is done).
"""

from __future__ import annotations

import ctypes
import time

#: Seconds between two calls: a short pass must not pay for each.
EVERY_S = 10.0


class Heap:
    """This process's."""

    def __init__(self) -> None:
        self._trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        self._last = time.monotonic()

    def give_back(self) -> None:
        """Where a pass has ended; does nothing within EVERY_S of the last call that did."""
        now = time.monotonic()
        if self._trim is not None and now - self._last >= EVERY_S:
            self._last = now
            self._trim(0)
