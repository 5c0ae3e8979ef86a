"""Checkpoints on a store: pointers read and put, attempts uploaded, fetched and deleted. contracts/pointer.py has the
layout.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from streamtrain.checkpoint.runs import refusals
from streamtrain.checkpoint.store import Checkpoint, Problem
from streamtrain.contracts.json_codec import UnknownFormatError
from streamtrain.contracts.manifest import NAME, FileEntry, Manifest, digest
from streamtrain.contracts.pointer import CHECKPOINTS, COMMITS, NOTHING, REWINDS, Pointer, PointerName, Rewound
from streamtrain.errors import UnknownFormat
from streamtrain.object_store import THREADS, ObjectStore
from streamtrain.schedule import PassId

log = logging.getLogger("streamtrain.checkpoint")


class RemoteCheckpoints:
    """The checkpoints of a job's store. Raises CheckpointError for what the store refuses, after retries."""

    def __init__(self, objects: ObjectStore) -> None:
        self.objects = objects
        self._pointers: dict[PointerName, Pointer | None] = {}

    def names(self) -> Iterator[list[PointerName]]:
        """The pointers of each pass, the newest pass first; of a pass the newest run first. Those that came after a
        rewind that has ended their run, or after a newer one has begun from nothing, are left out."""
        rewinds = list(filter(None, map(Rewound.parse, self.objects.directories(REWINDS))))
        for day in reversed(self.objects.directories(COMMITS)):
            if not re.fullmatch(r"[0-9]{8}", day):
                continue
            found: dict[PassId, list[PointerName]] = {}
            for name in self.objects.directories(f"{COMMITS}/{day}"):
                pointer = PointerName.parse(day, name)
                if pointer is not None and not any(rewind.ends(pointer) for rewind in rewinds):
                    found.setdefault(pointer.id, []).append(pointer)
            for pass_id in sorted(found, reverse=True):
                yield sorted(found[pass_id], key=lambda p: (p.run, p.short), reverse=True)

    def is_used(self) -> bool:
        """Whether a job has begun here, though a rewind has set all of its checkpoints aside."""
        return bool(self.objects.directories(REWINDS)) or next(self.names(), None) is not None

    def end_older(self, run: int, at: PassId | None) -> None:
        """What runs older than `run` put for passes after `at`, for any pass for None, counts no more, however late it
        comes. To be called once they can commit no more."""
        self.objects.put(Rewound(run, at or NOTHING).path, b"older runs have ended\n")

    def newest_first(self) -> Iterator[PointerName]:
        """One pointer a pass, the newest pass first: as far as it can be told without the witness in Kafka.

        Of a pass the newest run's. A run that is older than the one of an earlier pass was replaced before it came to
        its own pass: its pointer came late, and does not count.
        """
        before: PointerName | None = None
        for names in self.names():
            if before is not None and names[0].run <= before.run:
                yield before
            before = names[0]
        if before is not None:
            yield before

    def names_of(self, pass_id: PassId) -> list[PointerName]:
        """The pointers of that pass."""
        found = (PointerName.parse(pass_id.day, name) for name in self.objects.directories(f"{COMMITS}/{pass_id.day}"))
        return [name for name in found if name is not None and name.id == pass_id]

    def pointer(self, name: PointerName) -> Pointer | None:
        """None for one that is cut, damaged, or gone meanwhile. Raises UnknownFormat for one of a newer version."""
        if name not in self._pointers:
            self._pointers[name] = self._read(name)
        return self._pointers[name]

    def _read(self, name: PointerName) -> Pointer | None:
        try:
            pointer = Pointer.decode(self.objects.get(name.path))
        except FileNotFoundError:
            return None
        except UnknownFormatError as error:
            raise UnknownFormat(f"{self.objects.name(name.path)}: {error}", remedy=UnknownFormat.REMEDY) from error
        except ValueError as error:
            log.error("%s is SKIPPED: %s", self.objects.name(name.path), error)
            return None
        if pointer.name != name:
            log.error("%s is SKIPPED: it is that of %s", self.objects.name(name.path), pointer.name.path)
            return None
        return pointer

    def put(self, pointer: Pointer) -> None:
        self.objects.put(pointer.name.path, pointer.encode())

    def upload(self, pointer: Pointer, staged: Path, models: Mapping[str, Path]) -> None:
        """The attempt's files. models: directories of inference models, by their names below the attempt."""
        root = pointer.name.directory
        self.objects.put_files(
            (f"{root}/{at}{file.relative_to(directory).as_posix()}", file)
            for at, directory in {"": staged, **{f"models/{name}/": path for name, path in models.items()}}.items()
            for file in sorted(directory.rglob("*"))
            if file.is_file()
        )

    def read_manifest(self, name: PointerName, wanted: str) -> tuple[bytes, Manifest | None, Problem | None]:
        """(its bytes, decoded, what is wrong). wanted: its digest by the pointer."""
        file = f"{name.directory}/{NAME}"
        shown = self.objects.name(file)
        try:
            data = self.objects.get(file)
        except FileNotFoundError:
            return b"", None, Problem("damaged", f"{shown} does not exist")
        if digest(data) != wanted:
            return data, None, Problem("damaged", f"{shown} is damaged: its SHA-256 is not the pointer's")
        try:
            return data, Manifest.decode(data), None
        except UnknownFormatError as error:
            return data, None, Problem("unknown", f"{shown}: {error}")
        except ValueError as error:
            return data, None, Problem("damaged", f"{shown}: {error}")

    def fetch(self, root: str, files: tuple[FileEntry, ...], into: Path) -> Problem | None:
        """Copies the files of a directory `root` of the store into a local one, and compares each with its entry; what
        is wrong with the first that is not as it should be."""

        def fetch(entry: FileEntry) -> Problem | None:
            shown, target = self.objects.name(f"{root}/{entry.path}"), into / entry.path
            with refusals(target, "cannot be made"):
                target.parent.mkdir(parents=True, exist_ok=True)
            try:
                actual = self.objects.get_file(f"{root}/{entry.path}", target)
            except FileNotFoundError:
                return Problem("damaged", f"{shown} does not exist")
            if actual != entry.sha256:
                return Problem("damaged", f"{shown} is damaged: its SHA-256 is not the manifest's")
            return None

        with ThreadPoolExecutor(THREADS, thread_name_prefix="store") as pool:
            return next((problem for problem in pool.map(fetch, files) if problem is not None), None)

    def remove(self, name: PointerName) -> None:
        """The pointer first: what no pointer names is no checkpoint."""
        self.objects.delete(name.path)
        self.objects.delete_all(name.directory)
        self._pointers.pop(name, None)

    def attempts(self, pass_id: PassId) -> list[str]:
        """Names of all attempts at the pass, those that no pointer names too."""
        return self.objects.directories(f"{CHECKPOINTS}/{pass_id.day}/{pass_id.pass_id}")

    def checkpoint(self, pointer: Pointer, path: Path) -> tuple[Checkpoint, bytes]:
        """By its manifest; path: where it is, or would be, on the local disk."""
        data, manifest, problem = self.read_manifest(pointer.name, pointer.digest)
        return Checkpoint(path, pointer.id, manifest, pointer.digest if manifest else "", problem), data
