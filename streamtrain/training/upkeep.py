"""After each checkpoint: old checkpoints and inference models are deleted, new models uploaded."""

from __future__ import annotations

import logging
import time
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import datetime

from streamtrain.checkpoint.published import PublishedModels
from streamtrain.checkpoint.remote_retention import RemoteRetention
from streamtrain.checkpoint.retention import Keep, old_checkpoints, old_models
from streamtrain.checkpoint.runs import Run
from streamtrain.checkpoint.store import CheckpointStore
from streamtrain.config import JobConfig, KeepConfig
from streamtrain.contracts import reports
from streamtrain.contracts.donefiles import DoneLine
from streamtrain.contracts.manifest import Manifest
from streamtrain.errors import CheckpointError
from streamtrain.schedule import PassId
from streamtrain.training.mirror import Mirror

log = logging.getLogger("streamtrain.upkeep")


class Upkeep:
    """Worker 0's. The run must have taken over before begin(). Raises ConfigError for a URL that cannot be opened."""

    def __init__(self, config: JobConfig, run: Run) -> None:
        self._run = run
        self._store = CheckpointStore(run.root, run)
        self._models = PublishedModels(run.root, run)
        self._keep_checkpoints = _keep(config.stream.keep_checkpoints)
        self._keep_models = _keep(config.stream.keep_inference_models)
        self._mirror = Mirror(config.models, run.root, run.check_newest) if config.models is not None else None
        self._remote = RemoteRetention(run) if run.remote is not None else None
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="upload")
        self._uploads: list[Future[None]] = []
        self._unlisted: list[str] = []  # models to delete once the uploaded donefiles do not list them either
        self._newest_upload = 0

    def begin(self, newest: Manifest | None) -> None:
        """After a restore of checkpoint `newest`: completes what a crash interrupted. Raises Fenced, CheckpointError.

        When a damaged checkpoint was skipped, nothing is swept: it may still be repaired by hand.
        """
        if self._keep_models and newest is not None and all(pass_id <= newest.id for pass_id in self._store.ids()):
            self._models.sweep(newest.models)
        if self._remote is not None:
            self._remote.sweep("" if self._keep_checkpoints or newest is None else newest.day)
        self.run(newest.id if newest is not None else None)

    def run(self, newest: PassId | None) -> None:
        """Deletes at once, uploads in a thread. Raises Fenced, CheckpointError.

        newest: the checkpoint that was restored or just published; later ones are damaged, and are left as they are.
        """
        now = time.time()
        lines = self._models.lines()
        old: list[DoneLine] = old_models(lines, self._keep_models, now) if self._keep_models else []
        kept = [line for line in lines if line not in old]
        if old:
            self._models.write_donefiles(kept)
            log.info("inference models no longer kept: %s", ", ".join(line.path for line in old))
        if self._mirror is not None:
            self._raise_of_uploads()
            self._unlisted += [line.path for line in old]
            self._newest_upload += 1
            self._uploads.append(self._pool.submit(self._upload, self._mirror, self._newest_upload, kept))
        else:
            self._delete_models([line.path for line in old])
        if self._keep_checkpoints and newest is not None and self._remote is not None:
            self._remote.delete(self._keep_checkpoints, newest, now)
        elif self._keep_checkpoints and newest is not None:
            self._delete_checkpoints(self._keep_checkpoints, newest, now)

    def close(self) -> None:
        """Waits for running uploads. Raises CheckpointError when the last one failed, Fenced."""
        self._pool.shutdown(wait=True)
        self._raise_of_uploads()
        if self._mirror is not None and self._mirror.problem is not None:
            raise CheckpointError(self._mirror.problem, remedy="Fix the store: a restart uploads what is missing.")

    def _delete_checkpoints(self, keep: Keep, newest: PassId, now: float) -> None:
        """Besides the newest ones, the one that was last published with an inference model is kept: its manifest names
        that model."""
        made: dict[PassId, float] = {}
        with_models: list[PassId] = []
        for checkpoint in self._store.list():
            if checkpoint.manifest is not None and checkpoint.id <= newest:
                made[checkpoint.id] = datetime.fromisoformat(checkpoint.manifest.created).timestamp()
                with_models += [checkpoint.id] if checkpoint.manifest.models else []
        old = old_checkpoints(list(made.items()), keep, now, with_models[-1:])
        if old:
            self._store.drop_from_donefile(old)
            for pass_id in old:
                self._store.remove(pass_id)
            log.info("checkpoints no longer kept: %s", ", ".join(map(str, old)))

    def _upload(self, mirror: Mirror, number: int, lines: list[DoneLine]) -> None:
        if number != self._newest_upload:
            return  # a later upload waits, and has all of its lines
        unlisted, self._unlisted = self._unlisted, []
        mirror.run(lines, unlisted)
        report = {"url": mirror.shown, "problem": mirror.problem or "", "time": time.time()}
        self._run.replace(self._run.root / reports.UPLOAD, reports.encode(report))
        self._delete_models(unlisted)

    def _raise_of_uploads(self) -> None:
        done = [upload for upload in self._uploads if upload.done()]
        self._uploads = [upload for upload in self._uploads if upload not in done]
        for upload in done:
            upload.result()

    def _delete_models(self, paths: list[str]) -> None:
        for path in paths:
            self._models.remove(path)


def _keep(config: KeepConfig | None) -> Keep | None:
    return Keep(config.count, config.hours * 3600) if config is not None else None
