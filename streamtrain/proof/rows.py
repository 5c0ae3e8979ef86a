"""The source files once more: their lines, and what Paddle counts of each. For the recount alone."""

from __future__ import annotations

import gzip
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from streamtrain.errors import DataError

#: (label, slots, feasigns) of a line, or an error of any kind: the line is rejected.
ParseFunction = Callable[[bytes], tuple[int, Sequence[int], Sequence[int]]]
_PAIR = re.compile(rb"(\d+):(\d+)\Z")


def files(folder: Path, donefile: str) -> list[Path]:
    if not folder.is_dir():
        return []
    names = (p for p in folder.iterdir() if p.is_file() and p.name != donefile and p.name[:1] not in "._")
    return sorted(names, key=lambda p: p.name)


def lines(file: Path) -> Iterator[bytes]:
    try:
        with gzip.open(file) if file.suffix == ".gz" else file.open("rb") as stream:
            for line in stream:
                if text := line.strip():
                    yield text
    except (OSError, EOFError) as error:
        raise DataError(f"{file} cannot be read: {error}") from error


def row_of(
    line: bytes,
    line_format: str,
    slots: Sequence[int],
    wanted: frozenset[int],
    parse: ParseFunction | None,
    reject_unknown: bool,
) -> tuple[int, list[int]]:
    """Label and the feasigns that Paddle counts: those of the model's slots, 0 left out. ValueError: no row."""
    if parse is not None:
        label, names, values = parse(line)
        pairs = list(zip(values, names, strict=True))
        if any(not 0 <= feasign < 1 << 64 for feasign, _ in pairs):
            raise ValueError("feasign")
    elif line_format == "feasign_slot":
        pairs, label = [], -1
        for token in line.split():
            match = _PAIR.match(token)
            if match is None or len(match[1]) > 25 or len(match[2]) > 10:
                raise ValueError(token[:50])
            feasign, slot = int(match[1]), int(match[2])
            if feasign >= 1 << 64 or not 0 < slot < 1 << 16:
                raise ValueError(token)
            if slot == 1:
                if label >= 0:
                    raise ValueError("two labels")
                label = feasign
            else:
                pairs.append((feasign, slot))
    else:
        pairs, label = _multislot(line, slots)
    if label not in (0, 1):
        raise ValueError("label")
    if reject_unknown and any(slot not in wanted for _, slot in pairs):
        raise ValueError("unknown slot")
    return label, [feasign for feasign, slot in pairs if slot in wanted and feasign]


def _multislot(line: bytes, slots: Sequence[int]) -> tuple[list[tuple[int, int]], int]:
    numbers = iter(line.split())

    def take() -> list[int]:
        count = int(next(numbers, b""))
        if count < 1:
            raise ValueError("count")
        return [int(next(numbers, b"")) for _ in range(count)]

    show, click = take(), take()
    pairs = [(feasign, slot) for slot in slots for feasign in take()]
    if next(numbers, None) is not None or show != [1] or len(click) != 1:
        raise ValueError("show, click or the end")
    if any(not 0 <= f < 1 << 64 for f, _ in pairs):
        raise ValueError("feasign")
    return pairs, click[0]
