"""Part files of the sparse table, Paddle's and those of inference models: read in blocks, shortened, searched."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from streamtrain.contracts import table_text
from streamtrain.contracts.table_text import (
    DEFAULT_ACCESSOR,
    PULLED,
    SHARD,
    KeyState,
    PartMeta,
    TableColumns,
    Thresholds,
)
from streamtrain.errors import CheckpointError, Unreadable
from streamtrain.files import not_plain, read_bytes

#: Bytes of text that are processed at once.
BLOCK = 16 << 20
#: Bytes of the longest line: 65,536 numbers of up to 24 characters fit.
MAX_LINE = 16 << 20
_VERIFY = "`streamtrain checkpoints verify` reports what is damaged."


def blocks(path: Path) -> Iterator[bytes]:
    """The file's lines, in blocks of complete ones. Raises CheckpointError when its last line is cut, or one is too
    long."""
    rest = b""
    with path.open("rb") as file:
        while data := file.read(BLOCK):
            end = data.rfind(b"\n") + 1
            if not end:
                rest += data
                if len(rest) > MAX_LINE:
                    raise CheckpointError(f"{path} has a line of more than {MAX_LINE} bytes", remedy=_VERIFY)
                continue
            yield rest + data[:end]
            rest = data[end:]
    if rest:
        raise CheckpointError(f"the last line of {path} is cut", remedy="Is the disk of runner.model_save_path full?")


def write_short(
    source: Path,
    target: Path,
    columns: TableColumns,
    thresholds: Thresholds | None = None,
    pulls: Sequence[str] = PULLED[DEFAULT_ACCESSOR],
) -> int:
    """Appends the keys of Paddle's part file to `target` as an inference model's text; returns how many.

    thresholds: what keys must pass; None: all keys. pulls: as shorten() takes it. Raises CheckpointError naming
    the file.
    """
    count = 0
    with target.open("ab") as out:
        for block in blocks(source):
            try:
                data = table_text.filtered(block, thresholds) if thresholds else block
                short, lines = table_text.shorten(data, columns, pulls)
            except ValueError as error:
                raise CheckpointError(f"{source}: {error}", remedy="Check log/serverlog.*.") from error
            out.write(short)
            count += lines
    return count


def write_meta(part: Path, embedx_dim: int, keys: int, pulls: Sequence[str] = PULLED[DEFAULT_ACCESSOR]) -> None:
    """The .meta beside a part file of an inference model."""
    part.with_suffix(".meta").write_bytes(table_text.inference_meta(embedx_dim, keys, pulls).encode())


def keys_of(path: Path) -> npt.NDArray[np.uint64]:
    """The first column of a part file of either kind, or of deleted.txt: the keys, [n]."""
    parts = [np.zeros(0, np.uint64)]
    parts += [
        np.array([x.split(b" ", 1)[0] for x in block.splitlines()], "S20").astype(np.uint64) for block in blocks(path)
    ]
    return np.concatenate(parts)


def follow_embedx(part: Path, keys: set[bytes]) -> None:
    """Adds the keys of an inference model's part that have an embedx to `keys`, and removes those that have none."""
    for block in blocks(part):
        for line in block.splitlines():
            key, _, rest = line.partition(b" ")
            if rest.partition(b" ")[2].strip(b"0 "):
                keys.add(key)
            else:
                keys.discard(key)


def without_embedx(part: Path, columns: TableColumns, keys: Collection[bytes]) -> bytes:
    """The lines of Paddle's part file whose key is one of `keys` and has no embedx."""
    return b"".join(
        line
        for block in blocks(part)
        for line in block.splitlines(keepends=True)
        if line.partition(b" ")[0] in keys and len(line.split()) == columns.embedx_begin
    )


def find_keys(
    checkpoint: Path, keys: Collection[int], files: Collection[str] | None = None, directory: str = SHARD
) -> dict[int, KeyState]:
    """The states of those keys that a table of the checkpoint has. Reads its part files line by line.

    files: the checkpoint's, by its manifest; None: all that are there. directory: the table's.

    Raises CheckpointError naming file and line of what cannot be read.
    """
    wanted = {str(key).encode() for key in keys}
    parts = sorted((checkpoint / directory).glob("part-*.txt"))
    parts = [part for part in parts if files is None or f"{directory}/{part.name}" in files]
    if not parts:
        raise CheckpointError(
            f"{checkpoint / directory} has no part file", remedy="Name another checkpoint with --pass."
        )
    states: dict[int, KeyState] = {}
    for part in parts:
        if why := not_plain(checkpoint, f"{directory}/{part.name}"):
            raise CheckpointError(why, remedy=_VERIFY)
        for state in _states(part, wanted):
            states[state.key] = state
            if len(states) == len(wanted):
                return states
    return states


def _states(part: Path, wanted: Collection[bytes]) -> Iterator[KeyState]:
    columns = _read_columns(part.with_suffix(".meta"))
    try:
        with part.open("rb") as file:
            for number, line in enumerate(iter(lambda: file.readline(MAX_LINE), b""), 1):
                if line[: line.find(b" ")] not in wanted:
                    continue
                try:
                    state = table_text.parse_line(line, columns)
                except ValueError as error:
                    raise CheckpointError(f"{part}, line {number}: {error}", remedy=_VERIFY) from error
                yield state
    except OSError as error:
        raise CheckpointError(f"{part} cannot be read: {error.strerror}") from error


def _read_columns(meta: Path) -> tuple[str, ...]:
    """The names of the columns of the part file beside it, in order. Raises CheckpointError."""
    try:
        return PartMeta.decode(read_bytes(meta)).names
    except (OSError, Unreadable, ValueError) as error:
        raise CheckpointError(f"{meta} cannot be read: {error}", remedy=_VERIFY) from error
