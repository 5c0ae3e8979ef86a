"""Worker 0's side of a store: what it has is the truth, the local folder a cache of it.

At a start the local folder is made what the store says: the newest checkpoint that counts, its inference models, the
journal. Which pointers count, by the witness in Kafka (pass W, digest D):

- of a later pass: one whose parent is D. Its trainer was fenced in before it put it, and crashed before the witness
  followed: it is rolled forward. Any other is of a trainer that was replaced, and came late.
- of pass W: the one of digest D, no other.
- of earlier passes, when those are damaged: D's parents, then any.

With a commit: files under the attempt's own prefix, the fence in Kafka, the pointer, the witness; the records (journal,
donefile.txt) by whole objects after it.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime, timezone
from pathlib import Path

from streamtrain.checkpoint.journal import PassRecord
from streamtrain.checkpoint.published import PublishedModels
from streamtrain.checkpoint.remote import RemoteCheckpoints
from streamtrain.checkpoint.remote_records import RemoteRecords
from streamtrain.checkpoint.remote_rewind import RemoteRewind
from streamtrain.checkpoint.rewind import SET_ASIDE, Intent
from streamtrain.checkpoint.runs import Run, write_synced
from streamtrain.checkpoint.store import Checkpoint, CheckpointStore, Problem
from streamtrain.contracts.inference_models import directory_name
from streamtrain.contracts.manifest import NAME, Manifest, ModelRef, Witness
from streamtrain.contracts.pointer import Pointer
from streamtrain.errors import CheckpointError
from streamtrain.failpoints import failpoint
from streamtrain.schedule import PassId

log = logging.getLogger("streamtrain.checkpoint")

#: Checkpoints that stay in the local folder.
CACHED = 2


class RemoteJob:
    """run: this run's, on the local folder and the store.

    Raises CheckpointError for what the store or the local disk refuses, Fenced once a newer run has taken over.
    """

    def __init__(self, run: Run) -> None:
        assert run.remote is not None
        self._objects = run.remote.objects
        self.runs = run.remote
        self.checkpoints = RemoteCheckpoints(self._objects)
        self.rewind = RemoteRewind(self._objects, run.check_newest)
        self._records = RemoteRecords(self._objects, run)
        self._run = run
        self._local = CheckpointStore(run.root, run)
        self._models = PublishedModels(run.root, run)
        self._parent: Pointer | None = None  # of the newest committed checkpoint

    @property
    def where(self) -> str:
        """The store, for messages."""
        return self._objects.location.shown

    def pull(
        self, witness: Witness | None, is_ours: Callable[[Manifest], bool]
    ) -> tuple[Checkpoint | None, list[tuple[Checkpoint, Problem]]]:
        """Makes the local folder what the store says. Returns the checkpoint to start from, which is verified, and
        those that count, are newer and are damaged.

        is_ours: whether a checkpoint that only the local folder has is one of this job. Raises UnknownFormat for one
        that this version cannot judge.
        """
        skipped: list[tuple[Checkpoint, Problem]] = []
        chosen = None
        self._adopt(witness, is_ours)
        for pointer in self._candidates(witness):
            problem = self._bring(pointer)
            if problem is None:
                chosen = pointer
                break
            if (refusal := problem.refusal(pointer.id)) is not None:
                raise refusal
            log.error("checkpoint %s of %s is SKIPPED: %s", pointer.id, self._objects.location.shown, problem)
            skipped.append((Checkpoint(self._local.path(pointer.id), pointer.id, None, "", problem), problem))
        self._parent = chosen
        if chosen is None:
            self._records.fetch_donefiles()
        self._set_aside(chosen.id if chosen is not None else None)
        failpoint("store.fetched")
        return (self._local.read(chosen.id) if chosen is not None else None), skipped

    def begin_from_nothing(self) -> None:
        """To be called when there is no checkpoint, and none has gone. A trainer that was replaced before the first one
        may still put its pointer, whose files sweep() deletes: it would be one that cannot be loaded."""
        self.checkpoints.end_older(self.runs.number, None)

    def bring(self, pass_id: PassId) -> Checkpoint:
        """Has that checkpoint in the local folder. Raises CheckpointError when there is none, or it is damaged."""
        pointer = next((p for name in self.checkpoints.newest_first() if name.id == pass_id
                        and (p := self.checkpoints.pointer(name)) is not None), None)  # fmt: skip
        if pointer is None:
            raise CheckpointError(
                f"{self._objects.location.shown} has no checkpoint {pass_id}",
                remedy="`streamtrain checkpoints list` lists them.",
            )
        if (problem := self._bring(pointer)) is not None:
            refusal = problem.refusal(pass_id)
            raise refusal or CheckpointError(
                f"checkpoint {pass_id} is damaged: {problem}", remedy="Choose another, or restore it from a copy."
            )
        return self._local.read(pass_id)

    def finish_rewind(self, intent: Intent) -> None:
        """The local folder is rewound: its journal's last day is the store's."""
        to = intent.newest
        self.rewind.finish(intent, self._records.journal_of(to.day).get(to.day, b"") if to is not None else b"")

    def upload(self, staged: Path, manifest: Manifest, digest: str, models: Mapping[ModelRef, Path]) -> Pointer:
        """The attempt's files, manifest.json among them; nobody sees them yet. Returns the pointer to be put."""
        self.runs.check_newest()
        parent = self._parent.digest if self._parent is not None else ""
        pointer = Pointer(manifest.day, manifest.pass_id, self.runs.number, digest, parent)
        named = {f"{model.day}-{directory_name(model.pass_id)}": path for model, path in models.items()}
        self.checkpoints.upload(pointer, staged, named)
        # of the passes before this one, which a crash may have kept from record()
        self._records.put_journal(self._parent.day if self._parent is not None else pointer.day)
        failpoint("store.uploaded")
        return pointer

    def point(self, pointer: Pointer) -> None:
        """The commit point: from here on the checkpoint counts."""
        self.runs.check_newest()
        failpoint("store.pointing")
        self.checkpoints.put(pointer)
        failpoint("store.pointed")

    def record(self, pointer: Pointer, manifest: Manifest) -> None:
        """After the commit: the journal and donefile.txt; older checkpoints leave the local folder."""
        self._parent = pointer
        self.runs.check_newest()  # whose lines it would take away
        self._records.put_journal(pointer.day, PassRecord.of_manifest(manifest))
        self._records.append_donefile(pointer, int(time.time()))
        for pass_id in self._local.ids()[:-CACHED]:
            self._local.remove(pass_id)
        failpoint("store.recorded")

    def settle(self, manifest: Manifest) -> None:
        """At a start, of the checkpoint that pull() chose: the lines that a crash has kept from record()."""
        assert self._parent is not None
        self.runs.check_newest()
        if (record := PassRecord.of_manifest(manifest)) is not None:
            self._records.add_to_journal(record)
        self._records.append_donefile(self._parent, int(time.time()))

    def _candidates(self, witness: Witness | None) -> Iterator[Pointer]:
        """The pointers that count, in the order in which they are to be taken."""
        if witness is None:
            yield from filter(None, map(self.checkpoints.pointer, self.checkpoints.newest_first()))
            return
        older: list[Pointer] = []
        expected = witness.digest
        for names in self.checkpoints.names():
            for pointer in filter(None, map(self.checkpoints.pointer, names)):
                if pointer.digest == expected:
                    yield pointer
                    expected = pointer.parent
                elif pointer.id > witness.id and pointer.parent == witness.digest:
                    yield pointer
                elif pointer.id >= witness.id:
                    log.warning(
                        "%s does not count: a trainer that was replaced has put it",
                        self._objects.name(pointer.name.path),
                    )
                else:
                    older.append(pointer)
        yield from older

    def _bring(self, pointer: Pointer) -> Problem | None:
        """Has the checkpoint in the local folder, verified. What is wrong with it on the store, None if nothing."""
        path = self._local.path(pointer.id)
        cached = self._local.read(pointer.id)
        if cached.digest == pointer.digest and self._local.verify(cached) is None:
            return None
        checkpoint, data = self.checkpoints.checkpoint(pointer, path)
        if checkpoint.manifest is None:
            return checkpoint.problem
        log.info("checkpoint %s is fetched from %s", pointer.id, self._objects.name(pointer.name.directory))
        staged = self._run.empty("fetched")
        problem = self.checkpoints.fetch(pointer.name.directory, checkpoint.manifest.files, staged)
        if problem is not None:
            return problem
        write_synced(staged / NAME, data)
        if path.exists():
            self._move_aside(path)
        self._local.publish(staged, pointer.id)
        self._records.fetch(pointer.id)
        self._fetch_models(pointer, checkpoint.manifest)
        return None

    def _fetch_models(self, pointer: Pointer, manifest: Manifest) -> None:
        """Those that were published with the checkpoint, and those that the next incremental one patches. One that is
        not there is no obstacle: the next one is full then."""
        models = f"{pointer.name.directory}/models"
        own = {m: f"{models}/{m.day}-{directory_name(m.pass_id)}" for m in manifest.models}
        wanted = [*manifest.models, *([manifest.chain.previous, manifest.chain.base] if manifest.chain else [])]
        seen: set[ModelRef] = set()
        while wanted:
            model = wanted.pop(0)
            if model in seen:
                continue
            seen.add(model)
            public = str(self._models.path(model).relative_to(self._run.root))
            try:
                read = self._records.fetch_model(model, own.get(model, public), self._models.path(model))
            except CheckpointError as error:
                log.warning("%s: the next inference model is full", error)
                continue
            if read.previous is not None:
                wanted.append(read.previous)

    def _adopt(self, witness: Witness | None, is_ours: Callable[[Manifest], bool]) -> None:
        """A job whose checkpoints were in the local folder alone: the one that the witness names, or the newest when
        there is none and the store never had one, is brought to the store. Where a rewind has gone back to nothing, the
        folders of machines that did not take part still have what it has left behind."""
        if witness is None and self.checkpoints.is_used():
            return
        ids = self._local.ids_newest_first() if witness is None else iter([witness.id])
        for checkpoint in map(self._local.read, ids):
            manifest = checkpoint.manifest
            if manifest is None or not is_ours(manifest) or self._local.verify(checkpoint) is not None:
                continue
            if witness is not None and checkpoint.digest != witness.digest:
                continue
            if checkpoint.digest[:16] in {name.short for name in self.checkpoints.names_of(checkpoint.id)}:
                return
            log.warning(
                "checkpoint %s is in %s alone: it is uploaded to %s",
                checkpoint.id, self._run.root, self._objects.location.shown,
            )  # fmt: skip
            models = {m: self._models.path(m) for m in manifest.models if self._models.path(m).is_dir()}
            self.point(self.upload(checkpoint.path, manifest, checkpoint.digest, models))
            return

    def _set_aside(self, newest: PassId | None) -> None:
        """What the local folder has and the store has not is not committed."""
        for pass_id in self._local.ids():
            short = self._local.read(pass_id).digest[:16]
            known = short in {name.short for name in self.checkpoints.names_of(pass_id)}
            if not known or newest is None or pass_id > newest:
                self._move_aside(self._local.path(pass_id))

    def _move_aside(self, path: Path) -> None:
        aside = self._run.root / SET_ASIDE / datetime.now(timezone.utc).strftime("cache-%Y%m%dT%H%M%S.%fZ")
        log.warning("%s is not what the store has: it is set aside, below %s", path, aside)
        self._run.set_aside(path, aside / path.relative_to(self._run.root))
