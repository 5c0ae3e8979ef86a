"""Whether a split is complete, and what it has."""

from __future__ import annotations

import logging

from streamtrain.config import JobConfig
from streamtrain.connectors.settling import AHEAD, Settling
from streamtrain.connectors.tree import Listing, Tree
from streamtrain.errors import DataError, Unreadable
from streamtrain.schedule import Split

log = logging.getLogger("streamtrain.bridge")


class Lookout:
    """Looks at splits that are not bridged yet."""

    def __init__(self, config: JobConfig, tree: Tree) -> None:
        self._tree = tree
        self._schedule = config.schedule
        self._donefile = config.runner.data_donefile
        self._settling = Settling(0.0 if self._donefile else config.stream.settle_second)
        self._left_out: set[str] = set()

    def look(self, split: Split) -> tuple[Listing | None, str]:
        """What the split has, and why it is not complete: '' when it is. Raises Unreadable, DataError."""
        listing = self._tree.listing(split) if self._tree.is_ready(split) else None
        if listing is None:
            return None, f"no {self._donefile or 'directory'}"
        if self._settling.settle_s:
            unchanged = self._settling.unchanged_s(split.sequence, listing)
            self._look_ahead(split.sequence)
            if unchanged < self._settling.settle_s:
                return listing, f"it may still change: stream.settle_second = {self._settling.settle_s:g}"
            self._settling.forget(range(split.sequence))
        self._name_left_out(split, listing)
        return listing, ""

    def _name_left_out(self, split: Split, listing: Listing) -> None:
        """Once a split; not the hidden ones, which every writer leaves behind."""
        names = [file.path for file in listing.ignored if file.path.rpartition("/")[2][0] not in "._"]
        if names and split.path not in self._left_out:
            self._left_out.add(split.path)
            shown = ", ".join(self._tree.name(split, name) for name in names[:3])
            log.warning("split %s: stream.ignore_files leaves out %d files: %s", split.path, len(names), shown)

    def _look_ahead(self, sequence: int) -> None:
        """The splits after this one settle meanwhile."""
        for later in range(sequence + 1, min(sequence + 1 + AHEAD, self._schedule.total_splits)):
            split = self._schedule.split(later)
            try:
                listing = self._tree.listing(split) if self._tree.is_ready(split) else None
            except (Unreadable, DataError):
                listing = None  # reported when it is this split's turn
            if listing is None:
                self._settling.forget([later])
                return
            self._settling.unchanged_s(later, listing)
