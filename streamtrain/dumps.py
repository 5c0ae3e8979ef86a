"""Dumps: what the model computed for every row, a line a row, as Paddle writes it and as it is read back.

A pass's dump appears by one rename, whole. Until then it lies beside its place, under a name that begins with a dot
and is its run's own. `part-WWW-00000` is worker WWW's.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from streamtrain.errors import ConfigError, DataError, DiskError, TrainingError
from streamtrain.failpoints import failpoint

#: Beside the parts: which file each number in the ins_ids is.
FILES = "_files"


@dataclass(frozen=True)
class Dump:
    """What one call of predict or train writes into `directory`: of every row the variables `fields`, each
    [rows, n]; of every batch the parameters `params`."""

    directory: Path
    fields: tuple[str, ...]
    params: tuple[str, ...] = ()


def read_dump(directory: Path) -> Iterator[tuple[str, dict[str, npt.NDArray[np.float32]]]]:
    """Every row of a dump: its ins_id, and its values by variable, [n] each. Lines of parameters are passed over.

    Raises DataError naming the file and the line for one that is not whole.
    """
    for path in sorted(directory.glob("part-*")):
        with path.open("rb") as lines:
            for number, line in enumerate(lines, 1):
                if line.startswith(b"("):
                    continue
                try:
                    ins_id, fields = _parse(line)
                    yield (
                        ins_id.decode(),
                        {name.decode(): np.array([float(x) for x in values], np.float32) for name, values in fields},
                    )
                except ValueError as error:
                    raise DataError(f"{path}, line {number} is no whole row of a dump: {error}") from error


def check_part(dump: Dump, worker: int) -> int:
    """Reads what `worker` has dumped, brings it to the disk, and returns how many rows it has.

    Raises TrainingError for a line that is not whole, ConfigError for a variable that Paddle did not write.
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
                    found = [name for name, _ in _parse(line)[1]]
                    if found != wanted:
                        _refuse_missing(dump, set(wanted) - set(found), sure=not rows)
                        raise ValueError("it has other variables than the rows before")
                except ValueError as error:
                    raise TrainingError(
                        f"{path}, line {number}: a row was not dumped whole: {error}",
                        remedy="Is the disk full? Nothing of this pass was saved.",
                    ) from error
                rows += 1
            os.fsync(lines.fileno())
    if rows:
        _refuse_missing(dump, {name.encode() for name in dump.params} - params, sure=True)
    return rows


def _refuse_missing(dump: Dump, missing: set[bytes], *, sure: bool) -> None:
    """Paddle passes over what it cannot dump without a word; from the first row on, then."""
    if missing and sure:
        names = ", ".join(sorted(name.decode() for name in missing))
        raise ConfigError(
            f"Paddle does not dump {names} of the model into {dump.directory}",
            remedy="Fields of a dump are variables of shape [rows, n] that predicting or training computes, and "
            "params dense parameters: take it off the model's lists.",
        )


def _parse(line: bytes) -> tuple[bytes, list[tuple[bytes, list[bytes]]]]:
    """ins_id, and each variable with its values. Raises ValueError when the line is not whole."""
    if not line.endswith(b"\n"):
        raise ValueError("its end is missing")
    ins_id, *fields = line[:-1].split(b"\t")
    if not ins_id or not fields or fields[0]:
        raise ValueError("it does not begin with an ins_id and two tabs")
    found = []
    for field in fields[1:]:
        name, length, text = field.rsplit(b":", 2)
        values = text.split(b",") if text else []
        if len(values) != int(length):
            raise ValueError(f"{name.decode('utf-8', 'replace')} has {len(values)} of {int(length)} values")
        found.append((name, values))
    return ins_id, found


class DumpFolder:
    """The folder that `key` of the config names: a directory {day}/{pass_id} a pass.

    Raises DiskError naming what cannot be written.
    """

    def __init__(self, root: Path, key: str) -> None:
        self.root = root
        self.key = key

    def staging(self, day: str, pass_id: int, run: int) -> Path:
        """Where the run numbered so dumps the pass."""
        return self.root / day / f".{pass_id}-{run}"

    def stage(self, day: str, pass_id: int, run: int) -> Path:
        """Makes it, empty; what runs before have left of this pass is removed."""
        staged = self.staging(day, pass_id, run)
        with self._refusals():
            staged.parent.mkdir(parents=True, exist_ok=True)
            for left in staged.parent.glob(f".{pass_id}-*"):
                shutil.rmtree(left)
            staged.mkdir()
        return staged

    def publish(self, day: str, pass_id: int, run: int, files: Iterable[tuple[str, str]]) -> Path:
        """Gives it its name; the dump that had it before is removed.

        files: an ins_id's beginning, up to the file's number, and that file's path.
        """
        staged = self.staging(day, pass_id, run)
        place = staged.parent / str(pass_id)
        aside = staged.parent / f".{pass_id}-{run}-before"
        with self._refusals():
            with (staged / FILES).open("w", encoding="utf-8") as out:
                out.writelines(f"{beginning}\t{path}\n" for beginning, path in files)
                out.flush()
                os.fsync(out.fileno())
            _fsync(staged)
            with contextlib.suppress(FileNotFoundError):
                place.rename(aside)
                failpoint("dump.aside")
            staged.rename(place)
            _fsync(place.parent)
            if aside.exists():
                shutil.rmtree(aside)
        return place

    @contextlib.contextmanager
    def _refusals(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            full = error.errno in (errno.ENOSPC, errno.EDQUOT)
            raise DiskError(
                f"{error.filename or self.root} ({self.key}) cannot be written: {error.strerror}",
                remedy=f"{'Free some space' if full else 'Look at its rights'}, or set {self.key}; "
                "nothing of the pass was saved.",
            ) from error


def _fsync(directory: Path) -> None:
    fd = os.open(directory, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
