"""The source of a warm start that is behind fsspec: copied to the local disk, then as any other."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from streamtrain.checkpoint.remote_view import StoredCheckpoints
from streamtrain.checkpoint.store import Checkpoint, CheckpointStore
from streamtrain.checkpoint.views import view_folder
from streamtrain.checkpoint.warm_source import Copies, Source, newest_of, no_source, open_source
from streamtrain.contracts.manifest import NAME
from streamtrain.contracts.pointer import COMMITS
from streamtrain.contracts.warm_plan import TableShape
from streamtrain.locations import Location
from streamtrain.object_store import ObjectStore
from streamtrain.schedule import PassId


def open_stored(location: Location, cache: Path, wanted: Mapping[str, TableShape]) -> Source:
    """open_source() of a location, which may also be the model_save_path of a job whose checkpoints are on a store.

    cache: the job's local folder; copies are in a folder of this process below it, until the end of Source.in_use().
    Raises as open_source(), and ConfigError when the location cannot be opened.
    """
    objects = ObjectStore(location)
    copies = Copies(view_folder(cache) / "warmup", location.shown.rstrip("/"))
    copies.remove()
    try:
        with copies.named():
            source = _open(objects, copies.folder, wanted)
    except BaseException:
        copies.remove()
        raise
    where = objects.name(source.path.relative_to(copies.folder).as_posix()).removesuffix("/.")
    return replace(source, where=where, copies=copies)


def _open(objects: ObjectStore, copies: Path, wanted: Mapping[str, TableShape]) -> Source:
    there = objects.directories("")
    if COMMITS in there:
        return newest_of(StoredCheckpoints(objects.location, copies, copies), wanted)
    if NAME in there or "000" in there:
        objects.fetch_all("", copies, leave=("models",))
        return open_source(copies, wanted)
    if any(re.fullmatch("[0-9]{8}", name) for name in there):
        return newest_of(_Copied(objects, copies), wanted)
    raise no_source(objects.location.shown, there)


class _Copied(CheckpointStore):
    """Of a model_save_path that was uploaded as it was: a checkpoint is copied when it is read."""

    def __init__(self, objects: ObjectStore, copies: Path) -> None:
        super().__init__(copies)
        self._objects = objects

    def _listing(self, directory: str) -> list[str]:
        return self._objects.directories(directory)

    def read(self, pass_id: PassId) -> Checkpoint:
        self._objects.fetch_all(str(pass_id), self.path(pass_id))
        return super().read(pass_id)
