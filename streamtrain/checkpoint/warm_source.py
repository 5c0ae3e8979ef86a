"""The source of a warm start: found, verified, its tables and dense parameters named; nothing of it is changed.

It is a checkpoint of this software, of this job's format: a directory day/pass_id, or a model_save_path, whose newest
valid one is taken; or a directory that PaddleRec's trainer has saved (fleet.save_persistables): a folder a table by
Paddle's ids, 000, 001 and so on, the last one the dense table's.
"""

from __future__ import annotations

import gzip
import hashlib
import logging
import re
import shutil
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Literal, cast

import numpy as np
import numpy.typing as npt

from streamtrain.checkpoint.identity import identity_of
from streamtrain.checkpoint.store import Checkpoint, CheckpointStore
from streamtrain.contracts import identity
from streamtrain.contracts.json_codec import UnknownFormatError
from streamtrain.contracts.manifest import NAME, Manifest, digest
from streamtrain.contracts.table_text import PartMeta, shard_directory
from streamtrain.contracts.tensors import read_tensor
from streamtrain.contracts.warm_plan import TableShape
from streamtrain.contracts.warmup import KEY
from streamtrain.errors import CheckpointError, ConfigError, UnknownFormat, Unreadable
from streamtrain.files import look, names, not_plain, read_bytes, sha256

log = logging.getLogger("streamtrain.checkpoint")

_GZIP = b"\x1f\x8b"
_WANTED = (
    "Give a checkpoint (model_save_path/day/pass_id), a model_save_path, or a folder that PaddleRec's trainer has "
    "saved (with 000/part-*)."
)
#: Of a source that this version may not understand.
_OTHER_VERSION = "Warm up with the version that wrote it, or from another checkpoint."


@dataclass(frozen=True)
class Copies:
    """Of what is on a store. folder: of this process. shown: what it is a copy of, for messages."""

    folder: Path
    shown: str

    @contextmanager
    def named(self) -> Iterator[None]:
        """Errors name what is there, not its copy."""
        try:
            yield
        except (CheckpointError, ConfigError, UnknownFormat, Unreadable) as error:
            raise type(error)(error.message.replace(str(self.folder), self.shown), remedy=error.remedy) from error

    def remove(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)


@dataclass(frozen=True)
class Source:
    """tables: shapes by name; of a PaddleRec source those of the config, since its files do not say them. files: part
    files of each table. dense: shapes of the parameters by name, None for a PaddleRec source. dense_files: of the dense
    table with its optimizer's state. optimizer: what that state is of, None where nobody says it. where: its path as
    messages and the checkpoints name it. copies: where copies of the files are; None: they are the source's own."""

    path: Path
    kind: Literal["checkpoint", "paddlerec"]
    digest: str
    tables: Mapping[str, TableShape]
    files: Mapping[str, tuple[Path, ...]]
    dense: Mapping[str, tuple[int, ...]] | None = None
    dense_files: tuple[Path, ...] = ()
    optimizer: tuple[object, object] | None = None
    values_of: Mapping[str, Path] = field(default_factory=dict)
    where: str = ""
    copies: Copies | None = None

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """Around what reads its files: errors name them as they are at the source. Copies are removed at the end."""
        if self.copies is None:
            yield
            return
        try:
            with self.copies.named():
                yield
        finally:
            self.copies.remove()

    def values(self, name: str) -> npt.NDArray[np.float32]:
        """Of a dense parameter of a checkpoint. Raises CheckpointError, Unreadable."""
        file = self.values_of[name]
        try:
            return np.array(read_tensor(read_bytes(file, limit=None)), np.float32)
        except (OSError, ValueError) as error:
            raise _damaged(file, error) from error


def open_source(path: Path, wanted: Mapping[str, TableShape]) -> Source:
    """Verified: every file is what its manifest says. wanted: the config's tables, in the order of their names.

    Raises ConfigError when there is nothing of the kind, CheckpointError when it is damaged, UnknownFormat when a newer
    version wrote it, Unreadable.
    """
    found = names(path)
    if NAME in found:
        return _of_checkpoint(_read(path), wanted)
    if "000" in found:
        return _of_paddlerec(path, wanted)
    if any(re.fullmatch("[0-9]{8}", name) for name in found):
        return newest_of(CheckpointStore(path), wanted)
    raise no_source(str(path), found)


def no_source(where: str, found: Sequence[str]) -> ConfigError:
    """found: the names that are there."""
    what = "is no checkpoint and has none" if found else "is not there, or is empty"
    return ConfigError(f"{KEY}: {where} {what}", remedy=_WANTED)


def _read(path: Path) -> Checkpoint:
    try:
        data = read_bytes(path / NAME)
        if b'"kind"' in data and b'"marker_offset"' not in data:
            raise ConfigError(f"{KEY}: {path} is an inference model, without its statistics", remedy=_WANTED)
        manifest = Manifest.decode(data)
    except UnknownFormatError as error:
        raise UnknownFormat(f"{KEY}: {path / NAME}: {error}", remedy=_OTHER_VERSION) from error
    except (OSError, ValueError) as error:
        raise _damaged(path / NAME, error) from error
    checkpoint = Checkpoint(path, manifest.id, manifest, digest(data), None)
    if (problem := CheckpointStore(path).verify(checkpoint)) is not None:
        if problem.kind == "unreadable":
            raise Unreadable(f"{KEY}: {problem}", remedy="Check the disk, the mount and the permissions.")
        raise CheckpointError(f"{KEY}: {problem}", remedy="Restore the checkpoint, or begin from another one.")
    return checkpoint


def newest_of(store: CheckpointStore, wanted: Mapping[str, TableShape]) -> Source:
    """The newest valid one; damaged ones are skipped and named, as a restart does. Raises as open_source()."""
    for checkpoint, problem in store.newest_first():
        if problem is None:
            return _of_checkpoint(checkpoint, wanted)
        if problem.kind == "unknown":
            raise UnknownFormat(f"{KEY}: {problem}", remedy=_OTHER_VERSION)
        if problem.kind == "unreadable":
            raise Unreadable(f"{KEY}: {problem}", remedy="Check the disk, the mount and the permissions.")
        log.warning("%s: checkpoint %s is SKIPPED: %s", KEY, checkpoint.id, problem)
    raise ConfigError(f"{KEY}: {store.where} has no checkpoint that is whole", remedy=_WANTED)


def _of_checkpoint(checkpoint: Checkpoint, wanted: Mapping[str, TableShape]) -> Source:
    manifest = checkpoint.manifest
    assert manifest is not None  # verified
    known = identity_of(checkpoint)
    fixed = known.fixed if known is not None else {}
    listed = sorted(entry.path for entry in manifest.files)
    tables, files = {}, {}
    # a version that wrote no identity knew one table, and not its name
    of_tables = [table.name for table in known.tables] if known is not None else list(wanted)[:1]
    for name in of_tables:
        folder = shard_directory(name, len(of_tables))
        parts = [path for path in listed if re.fullmatch(re.escape(folder) + r"/part-[^/]*\.txt", path)]
        metas = [path for path in listed if path.startswith(f"{folder}/") and path.endswith(".meta")]
        if not parts or not metas:
            raise CheckpointError(f"{KEY}: {checkpoint.path / folder} has no part files", remedy="Take another one.")
        files[name] = tuple(checkpoint.path / part for part in parts)
        key = f"table_parameters.{name}.accessor"
        rules = (str(fixed.get(f"{key}.embed_sgd_param.name", "")), str(fixed.get(f"{key}.embedx_sgd_param.name", "")))
        tables[name] = _shape_of(name, checkpoint.path / metas[0], rules)
    top = [path for path in listed if "/" not in path and path != identity.NAME]
    values_of = {name: checkpoint.path / name for name in top}
    dense = dict(known.dense) if known is not None and known.dense else {}
    if not dense:
        dense = {name: _tensor_shape(file) for name, file in values_of.items()}
    dense = {name: shape for name, shape in dense.items() if name in values_of}
    state = tuple(checkpoint.path / path for path in listed if path.startswith(".dense/"))
    optimizer = (
        (fixed.get("hyper_parameters.optimizer.class"), fixed.get("hyper_parameters.adam_d2sum")) if fixed else None
    )
    return Source(
        checkpoint.path, "checkpoint", checkpoint.digest, tables, files, dense, state, optimizer, values_of,
        str(checkpoint.path),
    )  # fmt: skip


def _shape_of(name: str, meta: Path, rules: tuple[str, str]) -> TableShape:
    try:
        found = PartMeta.decode(read_bytes(meta))
    except (OSError, ValueError) as error:
        raise _damaged(meta, error) from error
    places = [i for i, column in enumerate(found.names) if re.fullmatch("embedx_[0-9]+", column)]
    embedx = (places[0], places[-1] + 1) if places else (len(found.names), len(found.names))
    return TableShape(name, found.names, embedx, found.accessor or "", rules)


def _tensor_shape(file: Path) -> tuple[int, ...]:
    try:
        return tuple(read_tensor(read_bytes(file, limit=None)).shape)
    except (OSError, ValueError) as error:
        raise _damaged(file, error) from error


def _of_paddlerec(path: Path, wanted: Mapping[str, TableShape]) -> Source:
    """Its sparse tables by id, in the order of the config's names; the dense table comes after them."""
    folders = [name for name in names(path) if re.fullmatch("[0-9]{3}", name)]
    expected = [f"{number:03d}" for number in range(len(wanted) + 1)]
    if folders != expected:
        raise ConfigError(
            f"{KEY}: {path} has the tables {', '.join(folders)}, this job's are {', '.join(wanted)} (000 ..) and the "
            f"dense table ({expected[-1]})",
            remedy="table_parameters must name the tables of the network that was trained.",
        )
    digests = hashlib.sha256()
    files: dict[str, tuple[Path, ...]] = {}
    for folder in folders:
        parts = tuple(path / folder / name for name in names(path / folder) if name.startswith("part-"))
        if not parts:
            raise ConfigError(f"{KEY}: {path / folder} has no part files", remedy=_WANTED)
        files[folder] = parts
        for part in parts:
            digests.update(f"{folder}/{part.name} {_check_part(path, part)}\n".encode())
    of_tables = {name: files[folder] for name, folder in zip(wanted, folders, strict=False)}
    of_dense = files[folders[-1]]
    return Source(path, "paddlerec", digests.hexdigest(), dict(wanted), of_tables, None, of_dense, where=str(path))


def _check_part(root: Path, part: Path) -> str:
    """Its size and digest. Raises CheckpointError for one that is cut or is not gzip to its end."""
    try:
        if why := not_plain(root, f"{part.parent.name}/{part.name}"):
            raise CheckpointError(f"{KEY}: {why}", remedy="Restore it.")
        size = look(part, lambda: part.stat().st_size)
        found = look(part, lambda: sha256(part))
    except FileNotFoundError as error:
        raise CheckpointError(f"{KEY}: {part} is not there any more", remedy="Restore it.") from error
    last = b"\n"
    for block in blocks(part):
        last = block[-1:]
    if last != b"\n":
        raise CheckpointError(f"{KEY}: the last line of {part} is cut", remedy="Restore it.")
    return f"{size} {found}"


@contextmanager
def reading(part: Path) -> Iterator[IO[bytes]]:
    """A part file, plain or gzip by its content. Raises CheckpointError for gzip that is cut, Unreadable."""
    try:
        with part.open("rb") as raw:
            packed = raw.read(2) == _GZIP
            raw.seek(0)
            yield cast("IO[bytes]", gzip.GzipFile(fileobj=raw)) if packed else raw
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise CheckpointError(f"{KEY}: {part} is damaged: {error}", remedy="Restore it.") from error
    except OSError as error:
        raise Unreadable(f"{KEY}: {part} cannot be read: {error.strerror}", remedy="Check the disk.") from error


def blocks(part: Path, size: int = 1 << 20) -> Iterator[bytes]:
    """Its content. Errors of whoever reads them are not taken for the file's. Raises as reading()."""
    with reading(part) as file:
        while block := file.read(size):
            yield block


def _damaged(file: Path, error: Exception) -> CheckpointError:
    return CheckpointError(f"{KEY}: {file} cannot be read: {error}", remedy="Restore it, or begin from another one.")
