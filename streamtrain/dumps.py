"""Dumps: what the model computed for every row, a line a row: as Paddle writes them, and read back.

A pass's dump appears complete, by one rename. Until then it is beside its place, under a name that begins with a dot
and is its run's own. `part-WWW-00000` is worker WWW's.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from streamtrain import files
from streamtrain.errors import ConfigError, DataError, DiskError, TrainingError
from streamtrain.failpoints import failpoint

#: Beside the parts: which file each number in the ins_ids is.
FILES = "_files"


@dataclass(frozen=True)
class Dump:
    """What one call of predict or train writes into `directory`: for each row the variables `fields`, each [rows, n];
    for each batch the parameters `params`."""

    directory: Path
    fields: tuple[str, ...]
    params: tuple[str, ...] = ()


def read_dump(directory: Path, whole: Collection[str] = ()) -> Iterator[tuple[str, dict[str, npt.NDArray[Any]]]]:
    """Every row of a dump: its ins_id, and its values by variable, float32 [n] each. Lines of parameters are skipped.

    whole: variables of whole numbers, such as the feed of a slot, which float32 would round: uint64 [n] each.

    Raises DataError naming the file and the line for one that is not complete.
    """
    kinds: dict[bytes, Any] = {name.encode(): (int, np.uint64) for name in whole}
    for path in sorted(directory.glob("part-*")):
        with path.open("rb") as lines:
            for number, line in enumerate(lines, 1):
                if line.startswith(b"("):
                    continue
                try:
                    ins_id, fields = _parse(line)
                    row = {}
                    for name, values in fields:
                        read, dtype = kinds.get(name, (float, np.float32))
                        row[name.decode()] = np.array([read(x) for x in values], dtype)
                    yield ins_id.decode(), row
                except ValueError as error:
                    raise DataError(f"{path}, line {number} is not a complete row of a dump: {error}") from error


def read_column(dump: Dump, worker: int, field: str) -> npt.NDArray[np.float32]:
    """The first value of a variable in each row that `worker` has dumped, [rows], in the order of its batches.

    Raises TrainingError for a line that is not complete.
    """
    before = b"\t" + field.encode() + b":"
    values: list[bytes] = []
    for path in sorted(dump.directory.glob(f"part-{worker:03d}-*")):
        with path.open("rb") as lines:
            for number, line in enumerate(lines, 1):
                if line.startswith(b"("):
                    continue
                length, _, text = line.partition(before)[2].partition(b":")
                if not length.isdigit() or not line.endswith(b"\n"):
                    raise TrainingError(
                        f"{path}, line {number}: a row was not dumped completely: it lacks {field}",
                        remedy="Is the disk full? Nothing of this pass was saved.",
                    )
                values.append(text.split(b"\t", 1)[0].split(b",", 1)[0])
    return np.array(values, np.bytes_).astype(np.float32) if values else np.zeros(0, np.float32)


def check_part(dump: Dump, worker: int) -> int:
    """Reads what `worker` has dumped, brings it to the disk, and returns its number of rows.

    Raises TrainingError for a line that is not complete, ConfigError for a variable that Paddle did not write.
    """
    rows = 0
    params: set[bytes] = set()
    wanted = [name.encode() for name in dump.fields]
    for path in sorted(dump.directory.glob(f"part-{worker:03d}-*")):
        with path.open("rb") as lines:
            for number, line in enumerate(lines, 1):
                if line.startswith(b"("):
                    params.add(line[1 : line.find(b")")].split(b",", 2)[-1])
                    continue
                try:
                    names = [name for name, _ in _parse(line)[1]]
                    if names != wanted:
                        _refuse_missing(dump, set(wanted) - set(names), sure=not rows)
                        raise ValueError("it has other variables than the rows before")
                except ValueError as error:
                    raise TrainingError(
                        f"{path}, line {number}: a row was not dumped completely: {error}",
                        remedy="Is the disk full? Nothing of this pass was saved.",
                    ) from error
                rows += 1
            os.fsync(lines.fileno())
    if rows:
        _refuse_missing(dump, {name.encode() for name in dump.params} - params, sure=True)
    return rows


def _refuse_missing(dump: Dump, missing: set[bytes], *, sure: bool) -> None:
    """Paddle leaves out what it cannot dump, without an error; from the first row on."""
    if missing and sure:
        names = ", ".join(sorted(name.decode() for name in missing))
        raise ConfigError(
            f"Paddle does not dump {names} of the model into {dump.directory}",
            remedy="Fields of a dump are variables of shape [rows, n] that predicting or training computes, and "
            "params dense parameters: remove it from the model's lists.",
        )


def _parse(line: bytes) -> tuple[bytes, list[tuple[bytes, list[bytes]]]]:
    """ins_id, and each variable with its values. Raises ValueError when the line is not complete."""
    if not line.endswith(b"\n"):
        raise ValueError("its end is missing")
    ins_id, *fields = line[:-1].split(b"\t")
    if not ins_id or not fields or fields[0]:
        raise ValueError("it does not begin with an ins_id and two tabs")
    variables = []
    for field in fields[1:]:
        name, length, text = field.rsplit(b":", 2)
        values = text.split(b",") if text else []
        if len(values) != int(length):
            raise ValueError(f"{name.decode('utf-8', 'replace')} has {len(values)} of {int(length)} values")
        variables.append((name, values))
    return ins_id, variables


class DumpFolder:
    """The folder that `key` of the config names: a directory {day}/{pass_id} a pass.

    Raises DiskError naming what cannot be written.
    """

    def __init__(self, root: Path, key: str) -> None:
        self.root = root
        self.key = key

    def staging(self, day: str, pass_id: int, run: int) -> Path:
        """Where the run of that number dumps the pass."""
        return self.root / day / f".{pass_id}-{run}"

    def stage(self, day: str, pass_id: int, run: int) -> Path:
        """Makes that directory, empty; what earlier runs have left of this pass is removed."""
        staged = self.staging(day, pass_id, run)
        with self._refusals():
            staged.parent.mkdir(parents=True, exist_ok=True)
            for left in staged.parent.glob(f".{pass_id}-*"):
                shutil.rmtree(left)
            staged.mkdir()
        return staged

    def publish(self, day: str, pass_id: int, run: int, sources: Iterable[tuple[str, str]]) -> Path:
        """Renames the staged dump into place; the dump that had the name before is removed.

        sources: the beginning of the ins_ids of a file, up to the file's number, and that file's path.
        """
        staged = self.staging(day, pass_id, run)
        place = staged.parent / str(pass_id)
        aside = staged.parent / f".{pass_id}-{run}-before"
        with self._refusals():
            with (staged / FILES).open("w", encoding="utf-8") as out:
                out.writelines(f"{beginning}\t{path}\n" for beginning, path in sources)
                out.flush()
                os.fsync(out.fileno())
            files.fsync(staged)
            with contextlib.suppress(FileNotFoundError):
                place.rename(aside)
                failpoint("dump.aside")
            staged.rename(place)
            files.fsync(place.parent)
            if aside.exists():
                shutil.rmtree(aside)
        return place

    def _refusals(self) -> contextlib.AbstractContextManager[None]:
        untouched = "nothing of the pass was saved."
        return files.refusals(
            DiskError,
            self.root,
            f"({self.key}) cannot be written",
            remedy=f"Check its permissions, or set {self.key}; {untouched}",
            full=f"Free some space, or set {self.key}; {untouched}",
        )
