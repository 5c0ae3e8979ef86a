"""Inference models on a store: uploaded from the local folder, their donefiles last.

Each run() makes the store's content what the local donefiles list, so the next one completes what a crash interrupted
or an unreachable store refused.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path

from streamtrain.contracts.donefiles import DONEFILES, DoneLine, decode_valid_donefile, encode_donefile
from streamtrain.contracts.manifest import NAME
from streamtrain.errors import CheckpointError, Fenced
from streamtrain.locations import Location
from streamtrain.object_store import ObjectStore

log = logging.getLogger("streamtrain.checkpoint")


class Mirror:
    """The models at `location`, a copy of those below `root`.

    check(): raises when a newer trainer has taken over; nothing is listed then. problem: why the last run() failed;
    None: it did not. Raises ConfigError when the location cannot be opened.
    """

    def __init__(self, location: Location, root: Path, check: Callable[[], None]) -> None:
        self._store = ObjectStore(location)
        #: The location as it may be shown.
        self.shown = location.shown
        self._root = root
        self._check = check
        self._listed: set[str] | None = None
        self._removed: set[str] = set()
        self.problem: str | None = None

    def run(self, lines: Sequence[DoneLine], removed: Sequence[str] = ()) -> bool:
        """Uploads the models that are missing, replaces the donefiles, then deletes the directories `removed`.

        lines: all of the local donefiles. When the store fails, the failure is logged, False is returned, and the next
        call tries again. Raises Fenced.
        """
        self._removed |= set(removed)
        try:
            self._run(lines)
        except Fenced:
            raise
        except CheckpointError as error:
            self.problem = error.message
            log.error("%s; inference models are NOT PUBLISHED there, tried again with the next one", self.problem)
            return False
        self.problem = None
        return True

    def _run(self, lines: Sequence[DoneLine]) -> None:
        listed = self._read_listed() if self._listed is None else self._listed
        self._listed = None  # until all is done: after a failure in the middle it is not known
        if listed - {line.digest for line in lines}:  # before their directories are overwritten
            self._list([line for line in lines if line.digest in listed])
        for line in lines:
            if line.digest not in listed:
                self._check()
                self._upload(line.path)
        self._list(lines)
        self._listed = {line.digest for line in lines}
        for path in sorted(self._removed - {line.path for line in lines}):
            self._store.delete_all(path)
        self._removed.clear()

    def _list(self, lines: Sequence[DoneLine]) -> None:
        self._check()
        here = [line.moved(str(self._root), self.shown) for line in lines]
        for kind, name in DONEFILES.items():
            self._store.put(name, encode_donefile(here, kind))

    def _read_listed(self) -> set[str]:
        """Digests of the models that the URL's donefiles list."""
        digests: set[str] = set()
        for name in DONEFILES.values():
            try:
                lines = decode_valid_donefile(self._store.get(name))
            except FileNotFoundError:
                continue
            except ValueError as error:
                log.error("%s: %s; it is rewritten", self._store.name(name), error)
                continue
            digests |= {line.digest for line in lines}
        return digests

    def _upload(self, path: str) -> None:
        """The manifest last; then other files there, of an interrupted upload, are removed."""
        local = self._root / path
        names = sorted(str(p.relative_to(local)) for p in local.rglob("*") if p.is_file() and p.name != NAME)
        self._store.put_files((f"{path}/{name}", local / name) for name in names)
        self._store.put_file(f"{path}/{NAME}", local / NAME)
        for name in self._store.objects(path):
            if name not in (*names, NAME):
                self._store.delete(f"{path}/{name}")
