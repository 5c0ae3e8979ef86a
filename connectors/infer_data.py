"""The data set of runner.infer_data_dir, which is predicted after a pass: its files, and the rows in them.

With days at its top it is a tree day/HHMM/files, as in PaddleRec, and a pass has the files of its own splits. Else it
is one data set, and each pass has all of it.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from streamtrain.connectors.lines import numbered_lines, parsed
from streamtrain.connectors.rows import LineParser, RejectError, Row
from streamtrain.connectors.source import SourceReader
from streamtrain.connectors.tree import Directory, FileState, Tree
from streamtrain.errors import DataError, TrainingError
from streamtrain.locations import Location
from streamtrain.schedule import Split

KEY = "runner.infer_data_dir"
#: Lines of a file that go to one worker, then to the next.
CHUNK = 256
_REMEDY = f"Correct it below {KEY}; the pass was not saved, and the next start trains it again."


@dataclass(frozen=True)
class _Whole:
    path: str = ""


@dataclass(frozen=True)
class InferFile:
    """number: its place among the files of its directory, by path, from 0."""

    directory: Directory
    number: int
    state: FileState

    @property
    def ids(self) -> str:
        """What the ids of its rows begin with: its number, and before it the split, if it is in one."""
        return _joined(self.directory.path, str(self.number))

    @property
    def path(self) -> str:
        """Below runner.infer_data_dir."""
        return _joined(self.directory.path, self.state.path)


class InferData:
    """donefile, ignore: those of the logs. parse: what makes rows of its lines.

    Its methods raise Unreadable for what the file system refuses, DataError for what is no file of rows: both name the
    path.
    """

    def __init__(self, place: str | Path | Location, donefile: str, ignore: Sequence[str], parse: LineParser) -> None:
        self._tree = Tree(place, donefile, ignore, KEY)
        self._donefile = donefile
        self._parse = parse

    def awaited(self, splits: Sequence[Split]) -> str | None:
        """The first of a pass's splits whose donefile is missing; None when all rows are there."""
        if not self._donefile or not self._tree.days():
            return None
        return next((self._tree.name(split) for split in splits if not self._tree.is_ready(split)), None)

    def files(self, splits: Sequence[Split]) -> list[InferFile]:
        """Those of a pass that has these splits."""
        with _of_this_data():
            directories: Sequence[Directory] = splits if self._tree.days() else [_Whole()]
            return [
                InferFile(directory, number, state)
                for directory in directories
                for number, state in enumerate(self._tree.files(directory))
            ]

    def rows(self, file: InferFile, worker: int, workers: int) -> Iterator[tuple[int, Row]]:
        """The rows that worker `worker` of `workers` has of a file, each with its line's number from 1; afterwards
        digest() knows the file.

        Raises DataError for a line that does not parse, TrainingError for a file that has another size than it had.
        """
        name = self._tree.name(file.directory, file.state.path)
        with _of_this_data(), self._tree.open(file.directory, file.state.path) as raw:
            source = SourceReader(raw, name)
            numbered = numbered_lines(source, None, name, self._parse)
            own = ((n, line) for n, line in numbered if owner(file.number, n, workers) == worker)
            for number, _, result in parsed(own, self._parse, name):
                if isinstance(result, RejectError):
                    raise DataError(f"{name}, line {number}: {result}")
                if result is not None:
                    yield number, result
        if source.size != file.state.bytes:
            raise changed(name)
        self._digest.update(f"{file.path}\0{source.sha256}\0".encode("utf-8", "surrogateescape"))

    def begin(self) -> None:
        """Before the files of a pass are read."""
        self._digest = hashlib.sha256()

    def digest(self) -> int:
        """40 bits of the digest of all files that were read since begin()."""
        return int.from_bytes(self._digest.digest()[:5], "big")


def owner(file: int, line: int, workers: int) -> int:
    """The worker that a line belongs to: files are split, so that one large file keeps all workers busy."""
    return (file + line // CHUNK) % workers


def changed(name: str) -> TrainingError:
    """For data that was written to while it was read."""
    return TrainingError(
        f"{name} changed while it was read",
        remedy=f"Rename complete files into {KEY}; the pass was not saved, a restart trains it again.",
    )


@contextlib.contextmanager
def _of_this_data() -> Iterator[None]:
    """The connectors speak of splits that are published: here a pass is what is lost."""
    try:
        yield
    except DataError as error:
        raise DataError(error.message, remedy=_REMEDY) from error


def _joined(*parts: str) -> str:
    return "/".join(part for part in parts if part)
