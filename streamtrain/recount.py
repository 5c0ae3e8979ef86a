"""The proof, from outside: every key's rows in the source files against `show` in the checkpoint.

It shares no code with the bridge's or the trainer's way of reading: the day and split arithmetic, the
lines, the manifest and the table are read here once more, from the files alone.
"""

from __future__ import annotations

import gzip
import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from streamtrain.errors import CheckpointError, DataError

#: (label, slots, feasigns) of a line, or an error of any kind: the line is rejected.
ParseFunction = Callable[[bytes], tuple[int, Sequence[int], Sequence[int]]]
_PAIR = re.compile(rb"(\d+):(\d+)\Z")
_EXACT_TEXT = 10**6  # Paddle writes 6 significant digits: larger counts cannot be compared exactly


@dataclass
class Recount:
    """What the sources say and what the checkpoint says.

    occurrences: of all keys. lost, duplicated: occurrences too few, too many in `show`. wrong_clicks: keys
    whose click is not the number of their occurrences in clicked rows. unknown_keys: in the checkpoint
    alone. rows_in_manifest: as the trainer counted them. examples: (key, expected show, found show).
    """

    checkpoint: str
    day: str
    pass_id: int
    rows: int = 0
    rejected: int = 0
    keys: int = 0
    occurrences: int = 0
    lost: int = 0
    duplicated: int = 0
    missing_keys: int = 0
    unknown_keys: int = 0
    wrong_clicks: int = 0
    rows_in_manifest: int = 0
    examples: list[tuple[int, int, float]] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        wrong = (self.lost, self.duplicated, self.missing_keys, self.unknown_keys, self.wrong_clicks)
        return not any(wrong) and self.rows == self.rows_in_manifest

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "ok": self.ok}


def recount(
    data_dir: Path,
    model_save_path: Path,
    *,
    split_interval: int,
    split_per_pass: int,
    start_day: str,
    slots: Sequence[int],
    line_format: str = "feasign_slot",
    donefile: str = "",
    parse: ParseFunction | None = None,
    reject_unknown: bool = False,
    progress: Callable[[int, int], None] = lambda _done, _of: None,
) -> Recount:
    """Recounts the splits from start_day's first up to the newest checkpoint's pass.

    split_interval: minutes. slots: the model's. parse: for a format of the user's. progress(splits done, of).
    Raises CheckpointError when there is no readable checkpoint, DataError for a file that cannot be read.
    """
    path, day, pass_id, rows = _newest(model_save_path)
    result = Recount(str(path), day, pass_id, rows_in_manifest=rows)
    shown: Counter[int] = Counter()
    clicked: Counter[int] = Counter()
    wanted = frozenset(slots)
    per_split = list(_splits(start_day, day, pass_id, split_interval, split_per_pass))
    for number, split in enumerate(per_split, 1):
        for file in _files(data_dir / split, donefile):
            for line in _lines(file):
                try:
                    label, keys = _row(line, line_format, slots, wanted, parse, reject_unknown)
                except (ValueError, TypeError, IndexError, KeyError, OverflowError):
                    result.rejected += 1
                    continue
                result.rows += 1
                shown.update(keys)
                if label:
                    clicked.update(keys)
        progress(number, len(per_split))
    result.keys = len(shown)
    result.occurrences = sum(shown.values())
    _compare(result, shown, clicked, path)
    return result


def _newest(root: Path) -> tuple[Path, str, int, int]:
    """Path, day, pass_id and rows of the newest checkpoint."""
    found = []
    for manifest in root.glob("*/*/manifest.json"):
        folder = manifest.parent
        if folder.parent.name.isdigit() and folder.name.isdigit():
            found.append((folder.parent.name, int(folder.name), folder))
    if not found:
        raise CheckpointError(f"{root} has no checkpoint", remedy="Train first; the first pass saves one.")
    day, pass_id, folder = max(found)
    try:
        rows = int(json.loads((folder / "manifest.json").read_text())["rows"])
    except (ValueError, KeyError, OSError) as error:
        raise CheckpointError(f"{folder / 'manifest.json'} cannot be read: {error}") from error
    return folder, day, pass_id, rows


def _splits(start: str, day: str, pass_id: int, interval: int, per_pass: int) -> Iterator[str]:
    at = datetime.strptime(start, "%Y%m%d")
    end = datetime.strptime(day, "%Y%m%d") + timedelta(minutes=interval * per_pass * pass_id)
    while at < end:
        yield at.strftime("%Y%m%d/%H%M")
        at += timedelta(minutes=interval)


def _files(folder: Path, donefile: str) -> list[Path]:
    if not folder.is_dir():
        return []
    names = (p for p in folder.iterdir() if p.is_file() and p.name != donefile and p.name[:1] not in "._")
    return sorted(names, key=lambda p: p.name)


def _lines(file: Path) -> Iterator[bytes]:
    try:
        with gzip.open(file) if file.suffix == ".gz" else file.open("rb") as stream:
            for line in stream:
                if text := line.strip():
                    yield text
    except (OSError, EOFError) as error:
        raise DataError(f"{file} cannot be read: {error}") from error


def _row(
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


def _compare(result: Recount, shown: Counter[int], clicked: Counter[int], checkpoint: Path) -> None:
    seen = 0
    for key, show, click in _table(checkpoint / "embedding.shard"):
        expected = shown.get(key, 0)
        if not expected:
            result.unknown_keys += 1
            _note(result, key, 0, show)
            continue
        seen += 1
        difference = show - expected
        if expected >= _EXACT_TEXT and abs(difference) <= expected * 1e-5:
            continue
        if difference:
            result.lost += max(0, round(-difference)) or (1 if difference < 0 else 0)
            result.duplicated += max(0, round(difference)) or (1 if difference > 0 else 0)
            _note(result, key, expected, show)
        elif click != clicked.get(key, 0):
            result.wrong_clicks += 1
    if seen != len(shown):
        present = {key for key, _, _ in _table(checkpoint / "embedding.shard")}
        for key, expected in shown.items():
            if key not in present:
                result.missing_keys += 1
                result.lost += expected
                _note(result, key, expected, 0.0)


def _note(result: Recount, key: int, expected: int, found: float) -> None:
    if len(result.examples) < 10:
        result.examples.append((key, expected, found))


def _table(shard: Path) -> Iterator[tuple[int, float, float]]:
    """(key, show, click): columns 1, 5 and 6 of the part files."""
    for part in sorted(shard.glob("part-*.txt*")):
        for line in _lines(part):
            columns = line.split(None, 6)
            yield int(columns[0]), float(columns[4]), float(columns[5])
