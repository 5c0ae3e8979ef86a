"""What is deleted of a store: old checkpoints, pointers of replaced trainers, attempts that no pointer names, and what
was on its way between machines."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import datetime

from streamtrain.checkpoint.remote import RemoteCheckpoints
from streamtrain.checkpoint.remote_rewind import attempts_set_aside
from streamtrain.checkpoint.retention import Keep, old_checkpoints
from streamtrain.checkpoint.runs import Run
from streamtrain.checkpoint.store import DONEFILE, donefile_without
from streamtrain.contracts.pointer import CHECKPOINTS, EXCHANGE, PointerName
from streamtrain.schedule import PassId

log = logging.getLogger("streamtrain.upkeep")


@dataclass(frozen=True)
class _Made:
    """Of a checkpoint's manifest: when it was made, seconds since 1970, and whether models were published with it."""

    created: float
    has_models: bool


class RemoteRetention:
    """Worker 0's. The run must have taken over. Raises Fenced once a newer run has, CheckpointError for what the store
    refuses: what is left is deleted by the next call."""

    def __init__(self, run: Run) -> None:
        assert run.remote is not None
        self._run = run
        self._objects = run.remote.objects
        self._remote = RemoteCheckpoints(self._objects)
        self._made: dict[PointerName, _Made | None] = {}

    def sweep(self, since: str) -> None:
        """Deletes what older runs have uploaded and not committed, from the day `since` on, and what was on its way
        between machines. What a rewind has set aside stays. This run copies nothing meanwhile."""
        on_their_way = self._objects.directories(EXCHANGE)
        self._run.check_newest()  # so they are none of a newer one's, which copies nothing before it has taken over
        for token in on_their_way:
            self._objects.delete_all(f"{EXCHANGE}/{token}")
        kept = attempts_set_aside(self._objects)
        number = self._run.remote.number if self._run.remote is not None else 0
        for day in self._objects.directories(CHECKPOINTS):
            if day < since:
                continue
            for text in self._objects.directories(f"{CHECKPOINTS}/{day}"):
                directory = f"{CHECKPOINTS}/{day}/{text}"
                for attempt in self._objects.directories(directory):
                    name = PointerName.parse(day, f"{text}-{attempt}.json")
                    if name is None or name.run >= number or name in kept:
                        continue
                    if not self._objects.exists(name.path):
                        self._run.check_newest()  # a newer one may be a rewind, which has set the pointer aside
                        log.info("%s is removed: it was never committed", self._objects.name(name.directory))
                        self._objects.delete_all(name.directory)

    def delete(self, keep: Keep, newest: PassId, now: float) -> None:
        """Deletes the checkpoints up to `newest` that are no longer kept. Besides the newest ones, the one that was
        last published with an inference model is kept: its manifest names that model. Pointers of replaced trainers go,
        but for the pass `newest`: without the witness it cannot be told which one of it was taken."""
        counting = {name.id: name for name in self._remote.newest_first() if name.id <= newest}
        made = {pass_id: found for pass_id, name in counting.items() if (found := self._of(name)) is not None}
        with_models = sorted(pass_id for pass_id, found in made.items() if found.has_models)
        times = [(pass_id, found.created) for pass_id, found in made.items()]
        old = old_checkpoints(times, keep, now, with_models[-1:])
        late = [
            name
            for names in self._remote.names()
            for name in names
            if name.id < newest and counting.get(name.id, name) != name
        ]
        if not old and not late:
            return
        self._run.check_newest()
        if old:
            self._unlist(old)
        for name in [*(counting[pass_id] for pass_id in old), *late]:
            self._run.check_newest()  # a newer one may go back to it
            self._remote.remove(name)
            self._made.pop(name, None)
        if old:
            log.info("checkpoints no longer kept on the store: %s", ", ".join(map(str, old)))

    def _unlist(self, old: list[PassId]) -> None:
        try:
            data = self._objects.get(DONEFILE)
        except FileNotFoundError:
            return
        if (kept := donefile_without(data, old)) != data:
            self._objects.put(DONEFILE, kept)

    def _of(self, name: PointerName) -> _Made | None:
        """None for a checkpoint whose manifest cannot be read: it does not count against what is kept."""
        if name not in self._made:
            pointer = self._remote.pointer(name)
            manifest = self._remote.read_manifest(name, pointer.digest)[1] if pointer is not None else None
            created = datetime.fromisoformat(manifest.created).timestamp() if manifest is not None else 0.0
            self._made[name] = _Made(created, bool(manifest.models)) if manifest is not None else None
        return self._made[name]
