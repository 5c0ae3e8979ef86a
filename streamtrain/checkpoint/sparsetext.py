"""Paddle's text of the sparse table, and the shorter one of inference models. Pure but for reading and writing files.

    key slot unseen_days delta_score show click embed_w state.. [embedx.. state..]     Paddle's, a line a key
    key embed_w embedx..                                                               an inference model's

state: what the optimizer keeps, by its rule: one number for AdaGrad.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import orjson

from streamtrain.errors import CheckpointError

#: Bytes of text that are worked on at once.
BLOCK = 16 << 20
KEY, UNSEEN_DAYS, SHOW, CLICK, EMBED_W = 0, 2, 4, 5, 6  # columns of Paddle's


@dataclass(frozen=True)
class TextColumns:
    """embedx_dim: weights; embed_state, embedx_state: numbers of optimizer state after embed_w and after embedx."""

    embedx_dim: int
    embed_state: int = 1
    embedx_state: int = 1

    @property
    def short(self) -> int:
        """Columns of a key that has no embedx; also where embedx begins."""
        return EMBED_W + 1 + self.embed_state

    @property
    def end(self) -> int:
        """After embedx."""
        return self.short + self.embedx_dim

    @property
    def whole(self) -> int:
        return self.end + self.embedx_state


@dataclass(frozen=True)
class Thresholds:
    """What a key must reach to be in an inference model, as PaddleRec has it: its score, (show - click) *
    nonclk_coeff + click * click_coeff, at least base_threshold, and unseen_days at most delta_keep_days."""

    nonclk_coeff: float
    click_coeff: float
    base_threshold: float
    delta_threshold: float
    delta_keep_days: float

    def passes(self, columns: list[bytes]) -> bool:
        show, click = float(columns[SHOW]), float(columns[CLICK])
        score = (show - click) * self.nonclk_coeff + click * self.click_coeff
        return score >= self.base_threshold and float(columns[UNSEEN_DAYS]) <= self.delta_keep_days


def shorten(data: bytes, text: TextColumns) -> tuple[bytes, int]:
    """Whole lines of Paddle's text as those of an inference model, and how many there are.

    A key without embedx gets zeros. Raises ValueError for a line that is none.
    """
    zeros = [b"0"] * text.embedx_dim
    short, end, whole = text.short, text.end, text.whole
    out = []
    for line in data.splitlines():
        columns = line.split()
        if len(columns) not in (whole, short):
            raise ValueError(f"a line of {len(columns)} columns: {line[:80].decode('ascii', 'replace')}")
        weights = columns[short:end] or zeros
        out.append(b" ".join((columns[KEY], columns[EMBED_W], *weights)))
    out.append(b"")
    return b"\n".join(out), len(out) - 1


def filtered(data: bytes, thresholds: Thresholds) -> bytes:
    """The lines of the keys that pass."""
    return b"".join(line for line in data.splitlines(keepends=True) if thresholds.passes(line.split()))


def blocks(path: Path) -> Iterator[bytes]:
    """The file's whole lines, in blocks. Raises CheckpointError when its last line is cut."""
    rest = b""
    with path.open("rb") as file:
        while data := file.read(BLOCK):
            end = data.rfind(b"\n") + 1
            if not end:
                rest += data
                continue
            yield rest + data[:end]
            rest = data[end:]
    if rest:
        raise CheckpointError(f"the last line of {path} is cut", remedy="Is the disk of runner.model_save_path full?")


def write_short(source: Path, target: Path, text: TextColumns, thresholds: Thresholds | None = None) -> int:
    """Appends the keys of Paddle's part file to `target` as an inference model's; returns how many.

    Raises CheckpointError naming the file.
    """
    count = 0
    with target.open("ab") as out:
        for block in blocks(source):
            try:
                short, lines = shorten(filtered(block, thresholds) if thresholds else block, text)
            except ValueError as error:
                raise CheckpointError(f"{source}: {error}", remedy="Look at log/serverlog.*.") from error
            out.write(short)
            count += lines
    return count


def write_meta(part: Path, embedx_dim: int, keys: int) -> None:
    """The .meta beside a part file of an inference model."""
    columns = [{"name": "key", "type": "uint64"}]
    columns += [{"name": n, "type": "float32"} for n in ("embed_w", *(f"embedx_{i}" for i in range(embedx_dim)))]
    value = {"columns": columns, "separator": " ", "embedx_dim": embedx_dim, "keys": keys}
    part.with_suffix(".meta").write_bytes(orjson.dumps(value, option=orjson.OPT_INDENT_2) + b"\n")


def keys_of(path: Path) -> npt.NDArray[np.uint64]:
    """The first column of any of these files."""
    found = [np.zeros(0, np.uint64)]
    found += [
        np.array([x.split(b" ", 1)[0] for x in block.splitlines()], "S20").astype(np.uint64) for block in blocks(path)
    ]
    return np.concatenate(found)


def follow_embedx(part: Path, keys: set[bytes]) -> None:
    """Puts the keys of an inference model's part that have an embedx into `keys`, takes those that have none out."""
    for block in blocks(part):
        for line in block.splitlines():
            key, _, rest = line.partition(b" ")
            if rest.partition(b" ")[2].strip(b"0 "):
                keys.add(key)
            else:
                keys.discard(key)


def without_embedx(part: Path, text: TextColumns, keys: set[bytes]) -> bytes:
    """The lines of Paddle's part of those `keys` that have no embedx."""
    return b"".join(
        line
        for block in blocks(part)
        for line in block.splitlines(keepends=True)
        if line.partition(b" ")[0] in keys and len(line.split()) == text.short
    )
