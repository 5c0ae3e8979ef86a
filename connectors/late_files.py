"""Bridged splits, looked at again: late files are appended or refused, as stream.changed_split says."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from itertools import chain
from typing import TypeAlias

from streamtrain.config import JobConfig
from streamtrain.connectors.changes import KNOWN, Change, changes, described
from streamtrain.connectors.ledger import Ledger
from streamtrain.connectors.rounds import Rounds
from streamtrain.connectors.tree import Tree
from streamtrain.contracts.marker import SourceFile
from streamtrain.errors import DataError, Unreadable
from streamtrain.schedule import Split

log = logging.getLogger("streamtrain.bridge")

#: Seconds between two looks at bridged splits.
CHECK_S = 30.0
#: Splits that could not be seen and are looked at in each round.
UNSEEN = 100

#: (split, paths, revision, what is skipped of each path)
Publish: TypeAlias = Callable[[Split, list[str], int, Mapping[str, SourceFile]], None]


class LateFiles:
    """unseen: why a bridged split could not be looked at, by its sequence: that stops no other split."""

    def __init__(self, config: JobConfig, tree: Tree, stop: threading.Event) -> None:
        self._policy = config.stream.changed_split
        self._tree = tree
        self._stop = stop
        self._rounds = Rounds()
        self._next_check = 0.0
        self.unseen: dict[int, str] = {}

    def check(self, ledger: Ledger, publish: Publish, *, last: bool = False) -> None:
        """Looks whether files of bridged splits changed, as stream.changed_split says; at most twice a minute, and not
        at all of them each time. last: no later look follows, so at all of them.

        Raises DataError for a change that is not allowed.
        """
        if self._policy == "ignore" or (time.monotonic() < self._next_check and not last):
            return
        unseen = list(self.unseen)[:UNSEEN]
        for sequence in chain(unseen, self._rounds.next(ledger.next_sequence, all_of_them=last)):
            if self._stop.is_set():
                return
            try:
                self._check_split(ledger, ledger.split(sequence), publish)
                self.unseen.pop(sequence, None)
            except Unreadable as error:
                self.unseen[sequence] = f"bridged split {ledger.split(sequence).path}: {error.message}"
        if self.unseen:
            more = f" and {len(self.unseen) - 1} more splits" if len(self.unseen) > 1 else ""
            log.warning("whether it changed cannot be seen: %s%s", next(iter(self.unseen.values())), more)
        self._next_check = time.monotonic() + CHECK_S

    def _check_split(self, ledger: Ledger, split: Split, publish: Publish) -> None:
        bridged = ledger.splits[split.sequence]
        listed = self._tree.files(split)
        suspects = ledger.suspects(split.sequence, listed)
        found = changes(self._tree, split, bridged, listed, suspects) if suspects else []
        if not found:
            return
        if self._policy == "fail":
            texts = [described(self._tree, split, change) for change in found]
            mixed = "Revert the changes" if len({remedy for _, remedy in texts}) > 1 else texts[0][1]
            other = any(change.kind not in KNOWN for change in found)
            raise DataError(
                f"split {split.path} changed after it was bridged: {'; '.join(text for text, _ in texts[:3])}",
                remedy=mixed + (", or set stream.changed_split to append (new rows only) or ignore." if other else "."),
            )
        self._append(ledger, split, found, publish)

    def _append(self, ledger: Ledger, split: Split, found: list[Change], publish: Publish) -> None:
        """New rows alone: of new files, and of plain files that grew."""
        bridged = ledger.splits[split.sequence]
        late = []
        for change in found:
            text, remedy = described(self._tree, split, change)
            if change.kind in ("rewritten", "unclear"):
                raise DataError(
                    text, remedy=f"{remedy}; stream.changed_split: append takes new files, and plain files that grew."
                )
            if change.kind in KNOWN:
                log.warning("split %s: %s", split.path, text)
                bridged.looked_at(change.file)
            elif not change.has_whole_lines:
                log.warning("%s: its last line has no line end and waits", self._tree.name(split, change.file.path))
                bridged.looked_at(change.file)
            else:
                late.append(change)
        if not late:
            return
        log.warning("split %s: %d files are new or grew: appended", split.path, len(late))
        skip = {change.file.path: change.of for change in late if change.of is not None}
        publish(split, [change.file.path for change in late], bridged.revision + 1, skip)
