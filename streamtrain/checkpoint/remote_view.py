"""What a reader sees of a job whose checkpoints are on a store: copies in a folder of the process's own, made as they
are asked for.

A reader does not ask Kafka, so it may show a checkpoint whose trainer has just crashed before the witness followed: the
next start takes that one. It never touches the folder of a running trainer.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

from streamtrain.checkpoint.journal import NAME as PASSES
from streamtrain.checkpoint.remote import RemoteCheckpoints
from streamtrain.checkpoint.remote_records import read_donefile, read_journal
from streamtrain.checkpoint.runs import refusals
from streamtrain.checkpoint.store import Checkpoint, CheckpointStore, Problem
from streamtrain.checkpoint.views import view_folder
from streamtrain.contracts.donefiles import DONEFILES, encode_donefile
from streamtrain.contracts.identity import NAME as IDENTITY
from streamtrain.contracts.manifest import NAME, FileEntry
from streamtrain.contracts.pointer import PointerName
from streamtrain.errors import CheckpointError
from streamtrain.files import link_or_copy
from streamtrain.locations import Location
from streamtrain.object_store import ObjectStore
from streamtrain.schedule import PassId


class StoredCheckpoints(CheckpointStore):
    """The checkpoints of a store, read only. cache: the job's local folder, whose files are taken where they are the
    same. root: where copies are put; by default a folder of this process, below the cache.

    read() has the manifest and the job's identity at the checkpoint's path, verify() and fetch() all files. Raises
    CheckpointError for what the store refuses.
    """

    def __init__(self, location: Location, cache: Path, root: Path | None = None) -> None:
        super().__init__(root or view_folder(cache))
        self._remote = RemoteCheckpoints(ObjectStore(location))
        self._cache = CheckpointStore(cache)
        self._names: dict[PassId, PointerName] = {}

    @property
    def where(self) -> str:
        return self._remote.objects.location.shown

    def ids_newest_first(self) -> Iterator[PassId]:
        for name in self._remote.newest_first():
            self._names[name.id] = name
            yield name.id

    def read(self, pass_id: PassId) -> Checkpoint:
        path = self.path(pass_id)
        name = self._names.get(pass_id) or max(self._remote.names_of(pass_id), key=lambda n: n.run, default=None)
        if name is None:
            return Checkpoint(path, pass_id, None, "", Problem("damaged", f"{self.where} has no checkpoint {pass_id}"))
        self._names[pass_id] = name
        if path.exists():
            copied = super().read(pass_id)
            if copied.digest[:16] == name.short:
                return copied
            shutil.rmtree(path, ignore_errors=True)  # another attempt has taken its place
        pointer = self._remote.pointer(name)
        if pointer is None:
            return Checkpoint(path, pass_id, None, "", Problem("damaged", f"pointer {name.path} cannot be read"))
        checkpoint, data = self._remote.checkpoint(pointer, path)
        if checkpoint.manifest is not None:
            with refusals(path, "cannot be made"):
                path.mkdir(parents=True, exist_ok=True)
            self._fetch(name, [entry for entry in checkpoint.manifest.files if entry.path == IDENTITY])
            with refusals(path, "cannot be written"):
                (path / NAME).write_bytes(data)
        return checkpoint

    def verify(self, checkpoint: Checkpoint) -> Problem | None:
        """Of the store's files. Those that are copied stay until release()."""
        if checkpoint.manifest is None:
            return checkpoint.problem
        return self._fetch(self._names[checkpoint.id], list(checkpoint.manifest.files))

    def fetch(self, checkpoint: Checkpoint) -> Checkpoint:
        """Has all of its files at its path. Raises CheckpointError when it is damaged."""
        if checkpoint.manifest is None:
            raise CheckpointError(f"checkpoint {checkpoint.id} of {self.where} cannot be read: {checkpoint.problem}")
        cached = self._cache.read(checkpoint.id)
        if cached.digest == checkpoint.digest and self._cache.verify(cached) is None:
            with refusals(checkpoint.path, "cannot be written"):
                for entry in checkpoint.manifest.files:
                    target = checkpoint.path / entry.path
                    target.parent.mkdir(parents=True, exist_ok=True)
                    if not target.exists():
                        link_or_copy(cached.path / entry.path, target)
        elif (problem := self.verify(checkpoint)) is not None:
            refusal = problem.refusal(checkpoint.id)
            raise refusal or CheckpointError(f"checkpoint {checkpoint.id} of {self.where} is damaged: {problem}")
        return checkpoint

    def release(self, checkpoint: Checkpoint) -> None:
        """Removes the copies of its files."""
        shutil.rmtree(checkpoint.path, ignore_errors=True)

    def fetch_records(self, days: int = 0) -> None:
        """passes.jsonl and the inference models' donefiles, as they are now. days: see read_journal()."""
        objects = self._remote.objects
        with refusals(self.root, "cannot be written"):
            (self.root / PASSES).write_bytes(read_journal(objects, days=days))
            for kind, name in DONEFILES.items():
                (self.root / name).write_bytes(encode_donefile(read_donefile(objects, name), kind))

    def has(self, directory: str) -> bool:
        """Whether there is an inference model."""
        return self._remote.objects.exists(f"{directory}/{NAME}")

    def _fetch(self, name: PointerName, entries: list[FileEntry]) -> Problem | None:
        return self._remote.fetch(name.directory, tuple(entries), self.path(name.id))
