"""Single keys of a checkpoint's sparse table, read from its text by the columns that the .meta names."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import orjson

from streamtrain.errors import CheckpointError

SHARD = "embedding.shard"


@dataclass(frozen=True)
class KeyState:
    """A key's line. embedx: without numbers for a key below embedx_threshold."""

    key: int
    slot: int
    show: float
    click: float
    unseen_days: int
    delta_score: float
    embed_w: float
    embedx: tuple[float, ...]


def read_columns(meta: Path) -> tuple[str, ...]:
    """The names of the columns beside a part file, in order. Raises CheckpointError."""
    try:
        return tuple(str(column["name"]) for column in orjson.loads(meta.read_bytes())["columns"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(
            f"{meta} cannot be read: {error}", remedy="`streamtrain checkpoints verify` says what is damaged."
        ) from error


def parse_line(line: bytes, columns: Sequence[str]) -> KeyState:
    """A line without embedx may end before it. Raises ValueError for one that is no line of these columns."""
    values = line.split()
    first = next((i for i, name in enumerate(columns) if name.startswith("embedx_")), len(columns))
    if len(values) not in (first, len(columns)):
        raise ValueError(f"it has {len(values)} columns, {len(columns)} were expected")
    found = dict(zip(columns, values, strict=False))
    try:
        return KeyState(
            key=int(found["key"]),
            slot=int(float(found["slot"])),
            show=float(found["show"]),
            click=float(found["click"]),
            unseen_days=int(float(found["unseen_days"])),
            delta_score=float(found["delta_score"]),
            embed_w=float(found["embed_w"]),
            embedx=tuple(float(v) for name, v in found.items() if name[:7] == "embedx_" and name[7:].isdigit()),
        )
    except KeyError as error:
        raise ValueError(f"it has no column {error}") from error
    except OverflowError as error:
        raise ValueError(str(error)) from error


def find_keys(checkpoint: Path, keys: Collection[int]) -> dict[int, KeyState]:
    """Those of the keys that the checkpoint has. Reads its lines one after the other, keeping none.

    Raises CheckpointError naming file and line of what cannot be read.
    """
    wanted = {str(key).encode() for key in keys}
    parts = sorted((checkpoint / SHARD).glob("part-*.txt"))
    if not parts:
        raise CheckpointError(f"{checkpoint / SHARD} has no part file", remedy="Name another checkpoint with --pass.")
    found: dict[int, KeyState] = {}
    for part in parts:
        for state in _states(part, wanted):
            found[state.key] = state
            if len(found) == len(wanted):
                return found
    return found


def _states(part: Path, wanted: Collection[bytes]) -> Iterator[KeyState]:
    columns = read_columns(part.with_suffix(".meta"))
    try:
        with part.open("rb") as file:
            for number, line in enumerate(file, 1):
                if line[: line.find(b" ")] not in wanted:
                    continue
                try:
                    state = parse_line(line, columns)
                except ValueError as error:
                    raise CheckpointError(
                        f"{part}, line {number}: {error}",
                        remedy="`streamtrain checkpoints verify` says what is damaged.",
                    ) from error
                yield state
    except OSError as error:
        raise CheckpointError(f"{part} cannot be read: {error.strerror}") from error
