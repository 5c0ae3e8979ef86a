"""What a store has beside checkpoints: the journal, an object a day, since a store has no append; donefile.txt; copies
of the inference models' donefiles and models, which training/mirror.py uploads."""

from __future__ import annotations

import logging
import re
import shutil
from pathlib import Path

from streamtrain.checkpoint.journal import NAME as PASSES
from streamtrain.checkpoint.journal import Journal, PassRecord, decode, encode
from streamtrain.checkpoint.remote import RemoteCheckpoints
from streamtrain.checkpoint.runs import Run, write_synced
from streamtrain.checkpoint.store import DONEFILE, donefile_with
from streamtrain.contracts.donefiles import DONEFILES, DoneLine, decode_donefile, encode_donefile
from streamtrain.contracts.manifest import NAME, ModelRef, digest
from streamtrain.contracts.network_manifest import AnyManifest, decode_manifest
from streamtrain.contracts.pointer import Pointer
from streamtrain.errors import CheckpointError, UnknownFormat
from streamtrain.object_store import ObjectStore
from streamtrain.schedule import PassId

log = logging.getLogger("streamtrain.checkpoint")

JOURNAL = "journal"


class RemoteRecords:
    """Raises CheckpointError for what the store or the local disk refuses."""

    def __init__(self, objects: ObjectStore, run: Run) -> None:
        self._objects = objects
        self._run = run

    def fetch(self, newest: PassId) -> None:
        """The journal and the models' donefiles, in place of the local ones. newest: the checkpoint that is taken."""
        self._run.replace(self._run.root / PASSES, read_journal(self._objects, newest.day))
        self.fetch_donefiles()

    def fetch_donefiles(self) -> None:
        """Those of the inference models, in place of the local ones."""
        for kind, name in DONEFILES.items():
            lines = read_donefile(self._objects, name)
            local = [line.moved(self._objects.location.shown.rstrip("/"), str(self._run.root)) for line in lines]
            self._run.replace(self._run.root / name, encode_donefile(local, kind))

    def fetch_model(self, model: ModelRef, directory: str, path: Path) -> AnyManifest:
        """Copies an inference model to `path`, unless it is there; returns its manifest. Raises CheckpointError when it
        is not the one that is meant."""
        try:
            data = self._objects.get(f"{directory}/{NAME}")
        except FileNotFoundError as error:
            raise CheckpointError(f"{self._objects.name(directory)} has no {NAME}") from error
        if digest(data) != model.digest:
            raise CheckpointError(f"{self._objects.name(f'{directory}/{NAME}')} is not the one that checkpoints name")
        try:
            manifest = decode_manifest(data)
        except ValueError as error:
            raise CheckpointError(f"{self._objects.name(f'{directory}/{NAME}')}: {error}") from error
        if (path / NAME).is_file() and (path / NAME).read_bytes() == data:
            return manifest
        staged = self._run.empty("fetched-model")
        problem = RemoteCheckpoints(self._objects).fetch(directory, manifest.files, staged)
        if problem is not None:
            shutil.rmtree(staged, ignore_errors=True)
            raise CheckpointError(problem.text)
        write_synced(staged / NAME, data)
        self._run.publish(staged, path)
        return manifest

    def put_journal(self, first: str, newest: PassRecord | None = None) -> None:
        """The lines of the local journal from the day `first` on, an object a day. newest: a pass that lacks a line."""
        days = self.journal_of(first)
        if newest is not None:
            days[newest.day] = days.get(newest.day, b"") + encode(newest)
        for day, lines in days.items():
            self._objects.put(f"{JOURNAL}/{day}.jsonl", lines)

    def journal_of(self, first: str) -> dict[str, bytes]:
        """The lines of the local journal from the day `first` on, by day."""
        days: dict[str, list[bytes]] = {}
        for record, line in Journal(self._run.root).lines_backwards():
            if record.day < first:
                break
            days.setdefault(record.day, []).append(line)
        return {day: b"".join(reversed(lines)) for day, lines in days.items()}

    def add_to_journal(self, record: PassRecord) -> None:
        """Its line, unless the store has it: of the newest pass, which nothing comes after."""
        name = f"{JOURNAL}/{record.day}.jsonl"
        data = self._get(name)
        lines = data.splitlines()
        if not any(found is not None and found.id == record.id for found in map(_decoded, reversed(lines))):
            self._objects.put(name, data + encode(record))

    def append_donefile(self, pointer: Pointer, base_key: int) -> None:
        data = self._get(DONEFILE)
        after = donefile_with(data, pointer.id, base_key, self._objects.name(pointer.name.directory))
        if after != data:
            self._objects.put(DONEFILE, after)

    def _get(self, name: str) -> bytes:
        try:
            return self._objects.get(name)
        except FileNotFoundError:
            return b""


def _decoded(line: bytes) -> PassRecord | None:
    """None for a line that is damaged, or a newer version's."""
    try:
        return decode(line)
    except ValueError:
        return None


def read_donefile(objects: ObjectStore, name: str) -> list[DoneLine]:
    """Raises UnknownFormat; a line that is damaged is left out."""
    try:
        lines, bad = decode_donefile(objects.get(name))
    except FileNotFoundError:
        return []
    for line in bad:
        where = f"{objects.name(name)}, line {line.number}: {line.reason}"
        if line.unknown:
            raise UnknownFormat(where, remedy=UnknownFormat.REMEDY)
        log.error("%s; it is left out", where)
    return lines


def read_journal(objects: ObjectStore, last: str = "99999999", *, days: int = 0) -> bytes:
    """The lines of all days up to `last`; days: of the last so many alone, 0 for all."""
    names = [name for name in objects.directories(JOURNAL) if re.fullmatch(r"[0-9]{8}\.jsonl", name)]
    parts = []
    for name in names[-days:]:
        if name[:8] <= last:
            try:
                parts.append(objects.get(f"{JOURNAL}/{name}"))
            except FileNotFoundError:
                continue
    return b"".join(parts)
