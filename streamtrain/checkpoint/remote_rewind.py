"""A rewind on a store: what came later loses its pointers and lines, and keeps its files.

`rewind.json` on the store says where to, so any machine finishes what a crash interrupted. The pointers go to
`set-aside/<time>/commits/`, the journal and the donefiles are copied there.
"""

from __future__ import annotations

from collections.abc import Callable

from streamtrain.checkpoint.remote import RemoteCheckpoints
from streamtrain.checkpoint.remote_records import JOURNAL, read_donefile
from streamtrain.checkpoint.rewind import NAME, Intent, decode_intent
from streamtrain.checkpoint.store import DONEFILE, donefile_up_to
from streamtrain.contracts.donefiles import DONEFILES, encode_donefile, kept_lines
from streamtrain.contracts.pointer import PointerName
from streamtrain.object_store import ObjectStore

SET_ASIDE = "set-aside"


class RemoteRewind:
    """check(): raises when a newer run has taken over, which then may have committed, or have gone back elsewhere; it
    comes before each step. Raises CheckpointError for what the store refuses: the next start finishes it."""

    def __init__(self, objects: ObjectStore, check: Callable[[], None] = lambda: None) -> None:
        self._objects = objects
        self._check = check
        self._remote = RemoteCheckpoints(objects)

    def interrupted(self) -> Intent | None:
        """The rewind that a crash interrupted. Raises UnknownFormat, CheckpointError for one that is damaged."""
        try:
            data = self._objects.get(NAME)
        except FileNotFoundError:
            return None
        return decode_intent(data, self._objects.name(NAME))

    def begin(self, intent: Intent) -> None:
        self._check()
        self._objects.put(NAME, intent.encode())

    def set_aside(self, intent: Intent, run: int) -> None:
        """The lines first: no reader begins with what is about to go. run: this one's number."""
        self._check()
        to, aside = intent.newest, _aside(intent)
        for kind, donefile in DONEFILES.items():
            self._copy(donefile, aside)
            lines = read_donefile(self._objects, donefile)
            self._objects.put(donefile, encode_donefile(kept_lines(lines, to), kind))
        if (data := self._copy(DONEFILE, aside)) is not None:
            self._objects.put(DONEFILE, donefile_up_to(data, to))
        for names in self._remote.names():
            self._check()
            for name in names:
                if to is None or name.id > to:
                    self._copy(name.path, aside)
                    self._objects.delete(name.path)
        self._remote.end_older(run, to)

    def finish(self, intent: Intent, journal: bytes) -> None:
        """journal: the lines of the day that is gone back to."""
        self._check()
        to, aside = intent.newest, _aside(intent)
        for name in self._objects.directories(JOURNAL):
            if to is None or name[:8] >= to.day:
                self._copy(f"{JOURNAL}/{name}", aside)
                if to is not None and name[:8] == to.day:
                    self._objects.put(f"{JOURNAL}/{name}", journal)
                else:
                    self._objects.delete(f"{JOURNAL}/{name}")
        self._copy(NAME, aside)
        self._objects.delete(NAME)

    def _copy(self, name: str, aside: str) -> bytes | None:
        """As it was before the rewind, once. None when it does not exist."""
        try:
            data = self._objects.get(name)
        except FileNotFoundError:
            return None
        if not self._objects.exists(f"{aside}/{name}"):
            self._objects.put(f"{aside}/{name}", data)
        return data


def attempts_set_aside(objects: ObjectStore) -> set[PointerName]:
    """The attempts that pointers of earlier rewinds name."""
    found = set()
    for path in objects.objects(SET_ASIDE):
        parts = path.split("/")
        if len(parts) == 4 and (name := PointerName.parse(parts[2], parts[3])) is not None:
            found.add(name)
    return found


def _aside(intent: Intent) -> str:
    return f"{SET_ASIDE}/{intent.aside.rpartition('/')[2]}"
