"""The runs and checkpoints of a config's job: in its folder, or on its store."""

from __future__ import annotations

from pathlib import Path

from streamtrain.checkpoint.journal import Journal
from streamtrain.checkpoint.published import PublishedModels
from streamtrain.checkpoint.remote_runs import RemoteRuns
from streamtrain.checkpoint.remote_view import StoredCheckpoints
from streamtrain.checkpoint.runs import Run
from streamtrain.checkpoint.store import Checkpoint, CheckpointStore
from streamtrain.config import JobConfig
from streamtrain.object_store import ObjectStore


def run_of(config: JobConfig) -> Run:
    """A run that owns nothing yet. Raises ConfigError when the store cannot be opened."""
    store = config.store
    return Run(config.model_save_path, RemoteRuns(ObjectStore(store)) if store is not None else None)


class Readable:
    """What can be read of a job; nothing of it is changed. Raises ConfigError when the store cannot be opened.

    checkpoints: by their manifests; fetch() has the files of one. records() comes before journal and models.
    """

    def __init__(self, config: JobConfig) -> None:
        store = config.store
        self._stored = StoredCheckpoints(store, config.model_save_path) if store is not None else None
        self.checkpoints: CheckpointStore = self._stored or CheckpointStore(config.model_save_path)
        self.journal = Journal(self.checkpoints.root)
        self._local = config.model_save_path

    @property
    def root(self) -> Path:
        """Where checkpoints, journal and donefiles are, or their copies."""
        return self.checkpoints.root

    def records(self, days: int = 0) -> None:
        """Has the journal and the donefiles as they are now; on a store, the journal of its last `days` alone, 0 for
        all. The local journal, of a trainer on this machine, is newer
        than the store's, which gets its lines with each checkpoint."""
        if self._stored is None:
            return
        self._stored.fetch_records(days)
        here, there = Journal(self._local).newest(), self.journal.newest()
        newest = next(self._stored.ids_newest_first(), None)
        if here is not None and (there is None or here.id >= there.id) and (newest is None or here.id >= newest):
            self.journal = Journal(self._local)

    def fetch(self, checkpoint: Checkpoint) -> Checkpoint:
        """Has all files of the checkpoint at its path. Raises CheckpointError."""
        return checkpoint if self._stored is None else self._stored.fetch(checkpoint)

    def release(self, checkpoint: Checkpoint) -> None:
        """The files of a checkpoint are not needed any more."""
        if self._stored is not None:
            self._stored.release(checkpoint)

    def has_model(self, directory: str) -> bool:
        return (self.root / directory).is_dir() if self._stored is None else self._stored.has(directory)

    @property
    def models(self) -> PublishedModels:
        return PublishedModels(self.root)
