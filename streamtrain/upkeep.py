"""After each checkpoint: old checkpoints and inference models are deleted, new models uploaded."""

from __future__ import annotations

import logging
import time
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import datetime
from pathlib import Path

from streamtrain.checkpoint.mirror import Mirror
from streamtrain.checkpoint.models import DONEFILES, DoneLine
from streamtrain.checkpoint.retention import Keep, old_checkpoints, old_models
from streamtrain.checkpoint.store import Checkpoint, CheckpointStore
from streamtrain.config import JobConfig, KeepConfig

log = logging.getLogger("streamtrain.upkeep")


class Upkeep:
    """Worker 0's. The store must have been taken over. Raises ConfigError for a URL that cannot be opened."""

    def __init__(self, config: JobConfig, store: CheckpointStore) -> None:
        self._store = store
        self._keep_checkpoints = _keep(config.stream.keep_checkpoints)
        self._keep_models = _keep(config.stream.keep_inference_models)
        url = config.models_url
        self._mirror = Mirror(url, store.root, store.check_taken_over) if url is not None else None
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="upload")
        self._uploads: list[Future[bool]] = []

    def run(self) -> None:
        """Deletes at once, uploads in a thread. Raises Fenced, CheckpointError."""
        now = time.time()
        lines = [line for kind in DONEFILES for line in self._store.read_donefile(kind)]
        gone: list[DoneLine] = old_models(lines, self._keep_models, now) if self._keep_models else []
        kept = [line for line in lines if line not in gone]
        if gone:
            self._store.write_donefiles(kept)
            log.info("inference models no longer kept: %s", ", ".join(line.path for line in gone))
        if self._mirror is not None:
            self._raise_of_uploads()
            self._uploads.append(self._pool.submit(self._upload, self._mirror, kept, [x.path for x in gone]))
        else:
            self._delete([self._store.root / line.path for line in gone])
        if self._keep_checkpoints:
            made = {c.of: c for c in self._store.list()}
            ages = [(of, _made(c)) for of, c in made.items()]
            old = [made[of].path for of in old_checkpoints(ages, self._keep_checkpoints, now)]
            self._delete(old)
            if old:
                log.info("checkpoints no longer kept: %s", ", ".join(f"{p.parent.name}/{p.name}" for p in old))

    def close(self) -> None:
        """Waits for the uploads that are under way. Raises what they raised: Fenced."""
        self._pool.shutdown(wait=True)
        self._raise_of_uploads(wait=True)

    def _upload(self, mirror: Mirror, lines: list[DoneLine], gone: list[str]) -> bool:
        done = mirror.run(lines, gone)
        self._delete([self._store.root / path for path in gone])
        return done

    def _raise_of_uploads(self, *, wait: bool = False) -> None:
        for upload in self._uploads:
            if wait or upload.done():
                upload.result()
        self._uploads = [u for u in self._uploads if not u.done()]

    def _delete(self, paths: list[Path]) -> None:
        for path in paths:
            self._store.remove(path)


def _keep(config: KeepConfig | None) -> Keep | None:
    return Keep(config.count, config.hours * 3600) if config is not None else None


def _made(checkpoint: Checkpoint) -> float:
    """When it was made; of a damaged one its directory's time."""
    if checkpoint.manifest is not None:
        return datetime.fromisoformat(checkpoint.manifest.created).timestamp()
    return checkpoint.path.stat().st_mtime
