"""One inference model's directory, read and verified against its manifest. docs/models.md has the format."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import NoReturn

import numpy as np

from streamtrain.contracts.feature_text import U64
from streamtrain.contracts.inference_models import DELETED, PARAMS, PROGRAM
from streamtrain.contracts.manifest import NAME, FileEntry
from streamtrain.contracts.network_manifest import AnyManifest, decode_manifest
from streamtrain.contracts.served_network import ServedNetwork, TableShape, sparse_directory
from streamtrain.contracts.table_text import SEPARATOR, PartMeta
from streamtrain.errors import CheckpointError
from streamtrain.serving.extra import need
from streamtrain.serving.files import Files
from streamtrain.serving.table import F32


@dataclass(frozen=True)
class BundleTable:
    """keys, [n], in the files' order; values, [n, width]; deleted, [m]."""

    keys: U64
    values: F32
    deleted: U64


@dataclass(frozen=True)
class Bundle:
    """A directory's content. tables: by their directory."""

    manifest: AnyManifest
    digest: str
    network: ServedNetwork
    program: bytes
    params: bytes
    dense: dict[str, bytes]
    tables: dict[str, BundleTable]


def read_manifest(files: Files, path: str, digest: str | None = None) -> tuple[AnyManifest, str]:
    """The manifest of a directory (path; '' is the root itself) and its digest.

    Raises CheckpointError naming the file, and the key that is missing or wrong; also when its digest differs from
    `digest`.
    """
    name = _join(path, NAME)
    data = files.read(name)
    actual = hashlib.sha256(data).hexdigest()
    if digest is not None and actual != digest:
        raise CheckpointError(f"{files.name(name)} is damaged: its SHA-256 is not the donefile's")
    try:
        return decode_manifest(data), actual
    except ValueError as error:
        raise CheckpointError(f"{files.name(name)}: {error}") from error


def open_bundle(files: Files, path: str, digest: str | None = None) -> Bundle:
    """Reads all of a directory and compares every file with the manifest.

    Raises CheckpointError naming the file that is damaged or missing.
    """
    manifest, digest = read_manifest(files, path, digest)
    entries = {entry.path: entry for entry in manifest.files}
    for needed in (PROGRAM, PARAMS, *(f"dense/{name}" for name in manifest.dense)):
        if needed not in entries:
            _damaged(files, path, NAME, f"does not list {needed}")
    try:
        network = manifest.network
    except ValueError as error:
        _damaged(files, path, NAME, f"cannot be used: {error}")
    shapes = {sparse_directory(name, len(network.tables)): shape for name, shape in network.tables.items()}
    texts = {text: table for table in shapes for text in sorted(_texts(entries, table))}
    others = [p for p in entries if p not in texts]
    with ThreadPoolExecutor(min(8, (os.cpu_count() or 1) + 1)) as pool:
        small = dict(zip(others, pool.map(lambda p: _read(files, path, entries[p]), others), strict=True))
        for text, table in texts.items():
            _check_meta(files, path, text, small.get(f"{text.removesuffix('.txt')}.meta"), shapes[table])
        # a part is parsed as soon as it is read, so that its text does not stay in memory
        parsed = list(pool.map(lambda p: _parse(files, path, entries[p], shapes[texts[p]].width), texts))
    tables = {}
    for table, expected in manifest.directories.items():
        own = [part for text, part in zip(texts, parsed, strict=True) if texts[text] == table]
        keys = np.concatenate([np.zeros(0, np.uint64), *(k for k, _ in own)])
        values = np.concatenate([np.zeros((0, shapes[table].width), np.float32), *(v for _, v in own)])
        deleted = _parse_deleted(files, path, f"{table}/{DELETED}", small.get(f"{table}/{DELETED}", b""))
        for what, count, said in (
            ("keys", len(keys), expected.keys), ("deleted keys", len(deleted), expected.deleted)
        ):  # fmt: skip
            if count != said:
                _damaged(files, path, NAME, f"says {said} {what}, the files have {count}{_of(table)}")
        tables[table] = BundleTable(keys, values, deleted)
    dense = {name: small[f"dense/{name}"] for name in manifest.dense}
    return Bundle(manifest, digest, network, small[PROGRAM], small[PARAMS], dense, tables)


def _texts(entries: Iterable[str], table: str) -> Iterator[str]:
    """The part files of a table's directory."""
    for name in entries:
        folder, _, file = name.rpartition("/")
        if folder == table and file.startswith("part-") and file.endswith(".txt"):
            yield name


def _of(table: str) -> str:
    """For a message: nothing where there is one table."""
    return f" in {table}" if "/" in table else ""


def _read(files: Files, path: str, entry: FileEntry) -> bytes:
    data = files.read(_join(path, entry.path), max(entry.bytes, 0))
    if len(data) != entry.bytes:
        _damaged(files, path, entry.path, f"has {len(data)} bytes, the manifest says {entry.bytes}")
    if hashlib.sha256(data).hexdigest() != entry.sha256:
        _damaged(files, path, entry.path, "is damaged: its SHA-256 is not the manifest's")
    return data


def _check_meta(files: Files, path: str, text: str, meta: bytes | None, shape: TableShape) -> None:
    name = f"{text.removesuffix('.txt')}.meta"
    if meta is None:
        _damaged(files, path, NAME, f"does not list {name}")
    try:
        columns = PartMeta.decode(meta)
    except ValueError as error:
        _damaged(files, path, name, f"cannot be used: {error}")
    expected = shape.columns
    if columns.names != expected or columns.separator != SEPARATOR:
        _damaged(files, path, name, f"has other columns than {' '.join(expected)}, separated by a blank")


def _parse(files: Files, path: str, entry: FileEntry, width: int) -> tuple[U64, F32]:
    data = _read(files, path, entry)
    if not data:
        return np.zeros(0, np.uint64), np.zeros((0, width), np.float32)
    arrow, csv = need("pyarrow"), need("pyarrow.csv")
    names = ["key", *(f"v{i}" for i in range(width))]
    types = {name: arrow.float32() for name in names} | {"key": arrow.uint64()}
    try:
        table = csv.read_csv(
            arrow.py_buffer(data),
            csv.ReadOptions(column_names=names),
            csv.ParseOptions(delimiter=SEPARATOR, quote_char=False, ignore_empty_lines=False),
            csv.ConvertOptions(column_types=types, null_values=[], check_utf8=False),
        )
    except arrow.ArrowInvalid as error:
        _damaged(files, path, entry.path, f"does not parse: {error}")
    values = np.empty((table.num_rows, width), np.float32)
    for column, name in enumerate(names[1:]):
        values[:, column] = table[name].to_numpy()
    return table["key"].to_numpy(), values


def _parse_deleted(files: Files, path: str, name: str, data: bytes) -> U64:
    try:
        return np.array([int(line) for line in data.split()], np.uint64)
    except (ValueError, OverflowError) as error:
        _damaged(files, path, name, f"does not parse: {error}")


def _damaged(files: Files, path: str, file: str, why: str) -> NoReturn:
    raise CheckpointError(f"{files.name(_join(path, file))} {why}")


def _join(path: str, file: str) -> str:
    return f"{path}/{file}" if path else file
