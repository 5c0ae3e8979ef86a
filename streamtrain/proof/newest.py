"""The newest checkpoint, read once more: its manifest, the journal beside it, its table. For the recount alone."""

from __future__ import annotations

import contextlib
import json
import re
from array import array
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from streamtrain.errors import CheckpointError, UnknownFormat, Unreadable
from streamtrain.proof.rows import lines

_FORMAT = 1


@dataclass(frozen=True)
class Newest:
    """The newest checkpoint and what its manifest says. marker_offset: -1 when it says none."""

    path: Path
    day: str
    pass_id: int
    rows: int
    shrinks: int
    late_rows: int
    untrained: frozenset[str]
    marker_offset: int
    topic_id: str
    metrics: dict[str, Any]

    @property
    def id(self) -> str:
        return f"{self.day}/{self.pass_id}"


def newest(root: Path) -> Newest:
    """Raises CheckpointError when there is none, or its manifest is damaged; UnknownFormat."""
    manifests = []
    for manifest in root.glob("*/*/manifest.json"):
        folder = manifest.parent
        if _is_day(folder.parent.name) and re.fullmatch("[0-9]{1,9}", folder.name):
            manifests.append((folder.parent.name, int(folder.name), folder))
    if not manifests:
        raise CheckpointError(f"{root} has no checkpoint", remedy="Train first; the first pass saves one.")
    day, pass_id, folder = max(manifests)
    path = folder / "manifest.json"
    try:
        if not path.is_file():  # a pipe would be waited for without end
            raise CheckpointError(f"{path} is not a file", remedy="Use an older checkpoint.")
        values = json.loads(path.read_bytes())
        if values.get("format", _FORMAT) != _FORMAT:
            raise UnknownFormat(
                f"{path} is of format {values['format']}, this version knows {_FORMAT}",
                remedy="Recount with the version that wrote it.",
            )
        metrics = values.get("metrics")
        return Newest(
            folder, day, pass_id, int(values["rows"]), int(values.get("shrinks", 0)), int(values.get("late_rows", 0)),
            frozenset(map(str, values.get("untrained", ()))), int(values.get("marker_offset", -1)),
            str(values.get("splits_topic_id", "")), metrics if isinstance(metrics, dict) else {},
        )  # fmt: skip
    except OSError as error:
        raise Unreadable(f"{path} cannot be read: {error.strerror}", remedy="Make it readable.") from error
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise CheckpointError(f"{path} cannot be read: {error!r}", remedy="Use an older checkpoint.") from error


def _is_day(name: str) -> bool:
    try:
        return bool(re.fullmatch("[0-9]{8}", name)) and datetime.strptime(name, "%Y%m%d") is not None
    except ValueError:
        return False


def rows_by_pass(root: Path, of: Newest) -> dict[str, int]:
    """Rows trained by pass (day/pass_id), as passes.jsonl and the manifest say, up to the checkpoint; what is not there
    or cannot be read is left out."""
    found: dict[str, int] = {}
    records: list[bytes] = []
    journal = root / "passes.jsonl"
    with contextlib.suppress(OSError):
        records = journal.read_bytes().splitlines() if journal.is_file() else []
    for record in (*records, json.dumps(of.metrics, default=str).encode()):
        try:
            values = json.loads(record)
            day, pass_id, rows = str(values["day"]), int(values["pass_id"]), int(values["rows"])
        except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
            continue
        if (day, pass_id) <= (of.day, of.pass_id) and f"{day}/{pass_id}" not in of.untrained:
            found[f"{day}/{pass_id}"] = rows
    return found


def table(shard: Path) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """key, show and click, sorted by key: columns 1, 5 and 6 of the part files. Raises CheckpointError, Unreadable."""
    keys, shows, clicks = array("Q"), array("d"), array("d")
    for part in sorted(shard.glob("part-*.txt*")):
        if part.is_symlink() or shard.is_symlink():  # it may lead outside
            raise CheckpointError(
                f"{part if part.is_symlink() else shard} is a symbolic link, not the checkpoint's own",
                remedy="Restore the checkpoint, or use an older one.",
            )
        for number, line in enumerate(lines(part), 1):
            if line.text == b"":
                continue
            try:
                columns = (line.text or b"").split(None, 6)
                if not columns[0].isdigit():
                    raise ValueError("key")
                keys.append(int(columns[0]))
                shows.append(float(columns[4]))
                clicks.append(float(columns[5]))
            except (ValueError, IndexError, OverflowError) as error:
                raise CheckpointError(
                    f"{part}, line {number}: {(line.text or b'')[:60]!r} is not a line of the table",
                    remedy="The checkpoint is damaged: `streamtrain checkpoints verify` says more.",
                ) from error
    if not (np.isfinite(shows).all() and np.isfinite(clicks).all()):
        raise CheckpointError(f"{shard} has a show or click that is not a number", remedy="Use an older checkpoint.")
    order = np.argsort(np.array(keys, np.uint64), kind="stable")
    return np.array(keys, np.uint64)[order], np.array(shows)[order], np.array(clicks)[order]
