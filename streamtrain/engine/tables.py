"""Saving and loading the servers' tables as a checkpoint's files.

    embedding.shard/part-*.txt    every key with its optimizer statistics (Paddle's save mode 4: no side effect)
    embedding.shard/part-*.meta   what the columns are, how many keys; <table>.shard/ each where there are several
    <var_name>                    one binary tensor a dense parameter
    .dense/part-*                 the dense table with its optimizer state

Paddle's saves and loads report failures in C++ logs only, so files are counted before and after.
"""

from __future__ import annotations

import ctypes
import os
import re
import shutil
import tempfile
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from streamtrain.contracts.paths import plain_path
from streamtrain.contracts.table_text import (
    ACCESSORS,
    CTR_DEFAULTS,
    CVM_ACCESSOR,
    DEFAULT_ACCESSOR,
    DEFAULT_EMBEDX_THRESHOLD,
    DEFAULT_SHARDS,
    TableColumns,
    checkpoint_meta,
    shard_directory,
)
from streamtrain.engine.soundness import REMEDY, find_unsound, unsound_key
from streamtrain.errors import BadModel, CheckpointError, ConfigError
from streamtrain.files import link_or_copy

DENSE_DIR = ".dense"
#: Seconds that Paddle may take to print how many keys there are.
PRINT_S = 20.0


class TableFormat:
    """What the config says of a sparse table. Raises ConfigError for an optimizer's rule that Paddle lacks.

    id: Paddle's, the place of its name among the tables' names. directory: of its part files in a checkpoint. width:
    numbers of an embedding.
    """

    def __init__(self, name: str, table: Mapping[str, Any], number: int = 0, tables: int = 1) -> None:
        accessor = table.get("accessor") or {}
        self.name = name
        self.id = number
        self.directory = shard_directory(name, tables)
        self.shard_num = int(table.get("shard_num", DEFAULT_SHARDS))
        self.accessor = str(accessor.get("accessor_class", DEFAULT_ACCESSOR))
        try:
            self.columns = TableColumns.of_accessor(accessor)
        except ValueError as error:
            raise ConfigError(f"table_parameters.{name}: {error}", remedy="Use one of these.") from error
        if self.accessor not in ACCESSORS:
            raise ConfigError(
                f"table_parameters.{name}.accessor.accessor_class: {self.accessor}",
                remedy=f"Tables are trained with {' or '.join(ACCESSORS)}.",
            )
        self.width = self.columns.embedx_dim + ACCESSORS[self.accessor]
        self.thresholds: Mapping[str, Any] = {**CTR_DEFAULTS, **(accessor.get("ctr_accessor_param") or {})}
        decay = float(self.thresholds["show_click_decay_rate"])
        #: Whether a day's end changes embeddings of keys that were not touched.
        self.changes_untouched = decay < 1 and self.accessor == CVM_ACCESSOR
        #: Whether a shrink can take keys below embedx_threshold: the servers keep and use their embedx, which the
        #: saved text leaves out.
        self.forgets_embedx = decay < 1 and float(accessor.get("embedx_threshold", DEFAULT_EMBEDX_THRESHOLD)) > 0

    def all_touched(self) -> dict[str, float]:
        """Thresholds by which a delta has exactly the keys that were touched: one show adds a coefficient to
        delta_score. Raises ConfigError when a coefficient of 0 keeps that from working."""
        least = min(float(self.thresholds[key]) for key in ("nonclk_coeff", "click_coeff"))
        if least <= 0:
            raise ConfigError(
                f"table_parameters.{self.name}.accessor.ctr_accessor_param: nonclk_coeff and click_coeff must be over "
                "0 for inference models of all keys",
                remedy="Set both, or stream.inference_keys: thresholds, or stream.inference_model: none.",
            )
        return {"base_threshold": 0.0, "delta_threshold": least / 2, "delta_keep_days": 1e9}

    def meta(self, keys: int) -> bytes:
        """The .meta beside a part file of so many keys."""
        return checkpoint_meta(self.columns, keys, self.shard_num, self.accessor).encode()


def table_formats(raw: Mapping[str, Any]) -> dict[str, TableFormat]:
    """Of the config's table_parameters, in the order of their names. Raises ConfigError."""
    configured = raw.get("table_parameters") or {}
    for name, table in configured.items():
        if not isinstance(table, Mapping):
            raise ConfigError(f"table_parameters.{name}: must be a mapping")
    names = sorted(configured)
    return {name: TableFormat(name, configured[name], number, len(names)) for number, name in enumerate(names)}


def arrange_sparse(raw: Path, directory: Path, table: TableFormat, expected: int) -> None:
    """Moves Paddle's part files of a table to its directory in the checkpoint and writes their .meta.

    expected: keys in the servers. Raises CheckpointError when Paddle wrote another number of files than
    shard_num, or of keys: of a full disk it says nothing but in its log.
    """
    parts = check_parts(raw, table)
    shard = directory / table.directory
    shard.mkdir()
    total = 0
    for part in parts:
        name = part.name.removesuffix(".txt")
        keys = _count_sound_lines(part, table)
        part.rename(shard / f"{name}.txt")
        (shard / f"{name}.meta").write_bytes(table.meta(keys))
        total += keys
    if total != expected:
        raise CheckpointError(
            f"Paddle saved {total} keys of table {table.name}, the servers hold {expected}",
            remedy="Is the disk of runner.model_save_path full? Read log/serverlog.*.",
        )


def check_parts(raw: Path, table: TableFormat) -> list[Path]:
    """The part files that Paddle wrote. Raises CheckpointError when they are not shard_num."""
    parts = sorted(p for p in raw.iterdir() if p.is_file()) if raw.is_dir() else []
    if len(parts) != table.shard_num:
        raise CheckpointError(
            f"Paddle saved {len(parts)} part files of table {table.name}, its shard_num is {table.shard_num}",
            remedy="Is the disk of runner.model_save_path full? Or a server failed: read log/serverlog.*.",
        )
    return parts


def arrange_dense(raw: Path, directory: Path, servers: int, values: int) -> None:
    """Moves Paddle's files of the dense table to .dense/: a line of text a value, with its optimizer's state.

    servers: each saves a file. values: that they hold. Raises CheckpointError when a file or a line is missing, or cut,
    as by a full disk: Paddle says nothing then; BadModel when a number is not finite.
    """
    parts = sorted(p for p in raw.iterdir() if p.is_file()) if raw.is_dir() else []
    lines = unsound = 0
    whole = len(parts) == servers
    for part in parts:
        block, own, blanks = b"\n", 0, 0
        with part.open("rb") as file:
            of_a_line = file.readline().count(b" ")
            file.seek(0)
            while more := file.read(1 << 20):
                block = more
                own += block.count(b"\n")
                blanks += block.count(b" ")
                unsound += block.count(b"n") + block.count(b"N")  # of nan and inf, whatever their case
        whole = whole and block.endswith(b"\n") and blanks == own * of_a_line
        lines += own
    if unsound:
        raise BadModel(
            f"the optimizer's state of the dense parameters has {unsound} numbers that are not finite", remedy=REMEDY
        )
    if not whole or lines != values:
        raise CheckpointError(
            f"Paddle saved {lines} lines of the dense table in {len(parts)} files, the {servers} servers hold {values} "
            "values",
            remedy="Is the disk of runner.model_save_path full? Or a server failed: read log/serverlog.*.",
        )
    raw.rename(directory / DENSE_DIR)


def _count_sound_lines(path: Path, table: TableFormat) -> int:
    """Raises BadModel for a key with a number that is not finite, or out of all bounds."""
    lines, rest = 0, b""
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            lines += block.count(b"\n")
            text = rest + block
            if (line := find_unsound(text)) is not None:
                raise unsound_key(line, table.columns.names, table.name)
            rest = text[text.rfind(b"\n") + 1 :]
    return lines


@contextmanager
def paddle_layout(
    directory: Path, scratch: Path, formats: Collection[TableFormat], files: Collection[str] | None = None
) -> Iterator[Path]:
    """A temporary directory as Paddle's load wants it: for each table, by its id, a folder such as 000/ with exactly
    shard_num files, then the dense one's.

    scratch: where it is made, on the checkpoint's file system, for hard links: Paddle does not see symbolic
    ones, and crashes without files. files: the checkpoint's, below `directory`, by its manifest; None: all that are
    there.

    One file too many, a .meta even, makes Paddle load nothing and say nothing.
    """
    folders = {}
    for table in formats:
        parts = _plain_parts(directory, table.directory, "part-*.txt", files)
        if len(parts) != table.shard_num:
            raise CheckpointError(
                f"{directory / table.directory} has {len(parts)} part files, "
                f"table_parameters.{table.name}.shard_num is {table.shard_num}",
                remedy="shard_num of a job must not change: restore it in the config.",
            )
        folders[table.id] = parts
    dense = _plain_parts(directory, DENSE_DIR, "part-*", files)
    if not dense:
        raise CheckpointError(f"{directory / DENSE_DIR} has no part file")
    temporary = Path(tempfile.mkdtemp(prefix="load-", dir=scratch))
    try:
        for number, sources in {**folders, len(folders): dense}.items():
            (folder := temporary / f"{number:03d}").mkdir()
            for file in sources:
                link_or_copy(file, folder / file.name.removesuffix(".txt"))
        yield temporary
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _plain_parts(directory: Path, folder: str, pattern: str, files: Collection[str] | None) -> list[Path]:
    """In the order of their names, which Paddle gives to a shell. files: see paddle_layout. Raises CheckpointError for
    one that is not plain."""
    parts = sorted((directory / folder).glob(pattern))
    parts = [part for part in parts if files is None or f"{folder}/{part.name}" in files]
    for part in parts:
        try:
            plain_path(part.name)
        except ValueError as error:
            raise CheckpointError(
                f"{part.parent} has a part file that Paddle cannot be given: {error}",
                remedy="This software writes no such name: restore the checkpoint.",
            ) from error
    return parts


def count_keys(print_stat: Any) -> int:
    """Runs Paddle's print_table_stat and reads its "feasign size: N", which goes to file descriptor 1.

    Raises CheckpointError when nothing of that kind was printed.
    """
    with tempfile.TemporaryFile() as out:
        saved = os.dup(1)
        sizes: list[bytes] = []
        try:
            os.dup2(out.fileno(), 1)
            print_stat()
            deadline = time.monotonic() + PRINT_S
            # the answer's own thread prints it, now and then after print_stat has returned
            while not sizes and time.monotonic() < deadline:
                ctypes.CDLL(None).fflush(None)  # C++'s output is in stdio's buffer
                sizes = re.findall(rb"feasign size: (\d+),", os.pread(out.fileno(), 1 << 20, 0))
                if not sizes:
                    time.sleep(0.002)
        finally:
            os.dup2(saved, 1)
            os.close(saved)
    if not sizes:
        raise CheckpointError("Paddle did not say how many keys the servers hold")
    return int(sizes[-1])
