"""Inference models under model_save_path: published, named in their donefiles, removed.

A model's directory is renamed into place before the checkpoint that it is committed with; its donefile line comes
after. docs/models.md has the files.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Collection, Sequence
from pathlib import Path

from streamtrain.checkpoint.runs import Run
from streamtrain.contracts import donefiles, inference_models
from streamtrain.contracts.donefiles import DoneLine
from streamtrain.contracts.json_codec import UnknownFormatError
from streamtrain.contracts.manifest import NAME, Kind, ModelChain, ModelRef, digest
from streamtrain.contracts.network_manifest import AnyManifest, decode_manifest
from streamtrain.errors import CheckpointError, UnknownFormat, Unreadable
from streamtrain.failpoints import failpoint
from streamtrain.files import lines_backwards, read_bytes
from streamtrain.schedule import PassId

log = logging.getLogger("streamtrain.checkpoint")


class PublishedModels:
    """The inference models of one model_save_path. Raises CheckpointError for what the file system refuses.

    Reading needs no run. What writes does so through `run`, which must have taken over, and raises Fenced, with
    nothing changed, once a newer run has.
    """

    def __init__(self, root: Path, run: Run | None = None) -> None:
        self.root = root
        self.run = run or Run(root)

    def path(self, model: ModelRef) -> Path:
        return self.root / model.day / inference_models.directory_name(model.pass_id)

    def publish(self, staged: Path, model: ModelRef) -> Path:
        """Renames a staged inference model into place; readers see it when its donefile names it."""
        path = self.run.publish(staged, self.path(model))
        failpoint("commit.model")
        return path

    def read_manifest(self, model: ModelRef) -> AnyManifest:
        """The model's manifest, if it is the one that is meant. Raises CheckpointError naming the file."""
        file = self.path(model) / NAME
        try:
            data = read_bytes(file)
            manifest = decode_manifest(data)
        except Unreadable as error:
            raise CheckpointError(error.message, remedy=error.remedy) from error
        except (OSError, ValueError) as error:
            raise CheckpointError(f"{file} cannot be read: {error}") from error
        if digest(data) != model.digest:
            raise CheckpointError(f"{file} is not the one that checkpoints name: its SHA-256 differs")
        return manifest

    def read_donefile(self, kind: Kind) -> list[DoneLine]:
        """The lines of the donefile of this kind; none when there is no file. Raises UnknownFormat for a line of a
        newer format, Unreadable, CheckpointError for a damaged line."""
        path = self.root / donefiles.DONEFILES[kind]
        try:
            data = read_bytes(path)
        except OSError:
            return []
        return list(_lines_of(path, data))

    def newest(self) -> DoneLine | None:
        """The newest line of both donefiles; the older ones are not read. Raises as read_donefile()."""
        found: list[DoneLine] = []
        for name in donefiles.DONEFILES.values():
            text = next((line for _, line in lines_backwards(self.root / name) if line.strip()), b"")
            valid, bad = donefiles.decode_donefile(text)
            found += valid if not bad else self.lines()  # which raises, naming the line
        return max(found, key=lambda line: line.published, default=None)

    def lines(self) -> list[DoneLine]:
        """Of both donefiles, the full ones first, each in its order. Raises CheckpointError."""
        return [line for kind in donefiles.DONEFILES for line in self.read_donefile(kind)]

    def write_donefiles(self, lines: Sequence[DoneLine]) -> None:
        """Replaces each donefile whose lines change."""
        for kind, name in donefiles.DONEFILES.items():
            path = self.root / name
            data = donefiles.encode_donefile(lines, kind)
            with self.run.guard(path, "cannot be read"):
                current = read_bytes(path) if path.exists() else b""
            if current != data:
                self.run.replace(path, data)

    def list_in_donefiles(self, published: Sequence[ModelRef]) -> None:
        """Adds models that are in place to the donefiles."""
        manifests = [(self.read_manifest(model), model.digest) for model in published]
        paths = {manifest.path for manifest, _ in manifests}
        lines = [line for line in self.lines() if line.path not in paths]
        for manifest, sha256 in manifests:
            lines.append(self._line(manifest, sha256, lines))
        self.write_donefiles(lines)

    def _line(self, manifest: AnyManifest, sha256: str, listed: Sequence[DoneLine]) -> DoneLine:
        """The line of a model that is published now. listed: the lines so far, that of its base among them."""
        base = manifest.base.digest if manifest.base is not None else None
        of_base = next((line.published for line in listed if line.digest == base), None)
        return manifest.line(sha256, time.time(), root=str(self.root), base=of_base)

    def settle(self, newest: PassId | None, published: Sequence[ModelRef]) -> None:
        """Makes the donefiles what checkpoint `newest` left: with the models published with it, without later ones."""
        lines = donefiles.kept_lines(self.lines(), newest)
        known = {line.digest for line in lines}
        for model in published:
            if model.digest in known:
                continue
            try:
                manifest = self.read_manifest(model)
            except CheckpointError as error:  # what a restart needs is in the checkpoint alone
                log.error("%s: it is NOT LISTED for serving", error)
                continue
            if manifest.base is None or manifest.base.digest in known:  # else retention has dropped it with its base
                lines.append(self._line(manifest, model.digest, lines))
                known.add(model.digest)
        self.write_donefiles(lines)

    def can_be_patched(self, chain: ModelChain, *, all_members: bool = False) -> bool:
        """Whether an incremental model can be published over the chain: every model from its base to its newest is
        listed, and those two (all_members: all of them) are on disk as they are named."""
        listed = {line.digest: line for line in self.lines()}
        members: list[ModelRef] = [chain.previous]
        while members[-1] != chain.base:
            line = listed.get(members[-1].digest)
            if line is None or line.previous is None or line.previous in members:  # lines may name each other
                return False
            members.append(line.previous)
        try:
            for model in members if all_members else (chain.base, chain.previous):
                self.read_manifest(model)
        except CheckpointError as error:
            log.warning("%s", error)
            return False
        return chain.base.digest in listed

    def members(self, chain: ModelChain) -> list[ModelRef]:
        """The chain's models from its base to its newest, by their manifests. Raises CheckpointError."""
        members = [chain.previous]
        while members[-1] != chain.base:
            before = self.read_manifest(members[-1]).previous
            if before is None:
                raise CheckpointError(f"{self.path(members[-1])} does not name the model that it patches")
            members.append(before)
        return members[::-1]

    def sweep(self, named: Collection[ModelRef]) -> None:
        """Removes inference models that no donefile names: a crash in the middle of deleting them leaves such ones.

        named: others that stay, in whatever state they are.
        """
        kept = {line.path for line in self.lines()}
        kept |= {str(self.path(model).relative_to(self.root)) for model in named}
        for path in self.root.glob("*/*"):
            name = str(path.relative_to(self.root))
            if donefiles.is_directory(name) and path.is_dir() and name not in kept:
                log.info("%s is removed: no donefile names it", path)
                self.remove(name)

    def remove(self, path: str) -> None:
        """Deletes the model's directory `path` below the root."""
        if not self.run.remove(self.root / path):
            log.warning("%s is gone already", self.root / path)


#: The donefiles as last read by this process: reading a line costs more than comparing it, and most are read again.
_READ: dict[Path, tuple[bytes, list[DoneLine]]] = {}


def _lines_of(path: Path, data: bytes) -> list[DoneLine]:
    """Raises as _decoded()."""
    before, lines = _READ.get(path, (b"", []))
    if before != data:
        added: list[DoneLine] = []
        bad: object = True
        if before.endswith(b"\n") and data.startswith(before):
            added, bad = donefiles.decode_donefile(data[len(before) :])
        lines = _decoded(path, data) if bad else [*lines, *added]
        _READ[path] = data, lines
    return lines


def _decoded(path: Path, data: bytes) -> list[DoneLine]:
    """Lines of a donefile. Raises UnknownFormat, CheckpointError naming the file."""
    try:
        return donefiles.decode_valid_donefile(data)
    except UnknownFormatError as error:
        raise UnknownFormat(
            f"{path}, {error}",
            remedy=UnknownFormat.REMEDY,
        ) from error
    except ValueError as error:
        raise CheckpointError(
            f"{path} cannot be read: {error}",
            remedy="Restore it, or remove it: then the next inference model is full, and listed.",
        ) from error
