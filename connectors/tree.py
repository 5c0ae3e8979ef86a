"""The tree of logs: train_data_dir/YYYYMMDD/HHMM/files, on any file system that fsspec knows.

What cannot be seen is not absent: every error of looking is Unreadable and names the path. Absent is what a directory
that can be listed does not have.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import IO, Protocol, cast

from fsspec.implementations.local import LocalFileSystem

from streamtrain.config import IGNORED_FILES
from streamtrain.connectors.folders import DATA_KEY, Entry, Folders, LocalFolders, RemoteFolders, looking
from streamtrain.errors import ConfigError, DataError, Unreadable
from streamtrain.locations import Location, is_remote, location
from streamtrain.masking import printable
from streamtrain.schedule import Schedule

#: Directories below a split's, at most: a chain of links must end.
MAX_DEPTH = 32


class Directory(Protocol):
    """Of a tree: a split's, or another one of that path; '' is the tree itself."""

    @property
    def path(self) -> str: ...


@dataclass(frozen=True)
class FileState:
    """A file as listed: path below the split's directory, size in bytes, modification time (s or 0)."""

    path: str
    bytes: int
    modified: float


@dataclass(frozen=True)
class Listing:
    """A split's files by path; ignored: those that stream.ignore_files leaves out."""

    files: tuple[FileState, ...]
    ignored: tuple[FileState, ...]


class Tree:
    """The data tree below a local folder, or a location.

    ignore: glob patterns of the names of files and directories that are left out. key: the config's, for messages. Its
    methods raise Unreadable, which
    names the path, for whatever the file system refuses, and DataError for what is there and is no file of logs.
    """

    def __init__(
        self, root: str | Path | Location, donefile: str, ignore: Sequence[str] = IGNORED_FILES, key: str = DATA_KEY
    ) -> None:
        self._key = key
        if isinstance(root, str) and is_remote(root):
            root = location(key, root)
        if isinstance(root, Location):
            fs, path = root.open()
            local = isinstance(fs, LocalFileSystem)
            self._folders: Folders = LocalFolders(path, key) if local else RemoteFolders(fs, path, key)
            self._url = root.shown
        else:
            self._folders = LocalFolders(str(root), key)
            self._url = str(root)
        self._donefile = donefile
        self._ignore = tuple(ignore)

    def check(self) -> None:
        """Raises ConfigError when the tree's root does not exist. A root that cannot be seen is reported later, by
        the first look at a split."""
        try:
            entry = self._folders.stat("")
        except Unreadable as error:
            if not isinstance(error.__cause__, FileNotFoundError):
                return
            entry = None
        if entry is None or entry.kind != "directory":
            raise ConfigError(
                f"{self._key}: {self._url} is not a directory",
                remedy="Create it, or correct the path (relative paths start at the config's folder).",
            )

    def days(self) -> list[str]:
        """Names YYYYMMDD at its top, in their order. Raises Unreadable."""
        return sorted(name for name in self._folders.names("") if re.fullmatch(r"[0-9]{8}", name))

    def unscheduled(self, schedule: Schedule) -> list[str]:
        """Directories day/HHMM that are no split of the schedule, in its first and its last days that are there: the
        rows of such ones are never read. Raises Unreadable."""
        first, last = schedule.start_day, schedule.end_day
        days = [name for name in self.days() if first <= name <= last]
        times = {schedule.split(number).time for number in range(schedule.splits_a_day)}
        return [
            f"{day}/{name}"
            for day in sorted({*days[:3], *days[-3:]})
            for name in self._folders.names(day)
            if re.fullmatch(r"([01][0-9]|2[0-3])[0-5][0-9]", name) and name not in times
        ]

    def is_ready(self, split: Directory) -> bool:
        """Whether the split's donefile exists, or its directory where no donefile is configured."""
        self._folders.refresh()
        if self._donefile:
            donefile = self._folders.stat(_below(split, self._donefile))
            if donefile is not None and donefile.kind == "directory":
                raise DataError(
                    f"{self.name(split, self._donefile)} is a directory, not a donefile",
                    remedy="Move it out of the split; nothing of the split was published.",
                )
            return donefile is not None
        entry = self._folders.stat(split.path)
        if entry is not None and entry.kind != "directory":
            raise DataError(
                f"{self.name(split)} is {entry.kind}, not the directory of a split",
                remedy=f"Move it out of {self._key}.",
            )
        return entry is not None

    def listing(self, split: Directory) -> Listing | None:
        """The split's files, those in deeper directories and behind links too; None when it has no directory."""
        self._folders.refresh()
        if self._folders.stat(split.path) is None:
            return None
        files: list[FileState] = []
        ignored: list[FileState] = []
        for path, entry, left_out in self._walk(split, "", ()):
            (ignored if left_out else files).append(FileState(path, entry.size, entry.modified))
        return Listing(tuple(sorted(files, key=lambda f: f.path)), tuple(sorted(ignored, key=lambda f: f.path)))

    def files(self, split: Directory) -> list[FileState]:
        """listing().files; none when the split has no directory."""
        listing = self.listing(split)
        return [] if listing is None else list(listing.files)

    def open(self, split: Directory, path: str) -> IO[bytes]:
        """Reads of it may raise anything that the file system does: SourceReader names the file."""
        with looking(self.name(split, path), "opened"):
            return cast(IO[bytes], self._folders.open(_below(split, path)))

    def name(self, split: Directory, path: str = "") -> str:
        """As messages show it."""
        return printable(f"{self._url}/{_below(split, path)}".rstrip("/"))

    def _walk(
        self, split: Directory, below: str, above: tuple[tuple[int, int], ...]
    ) -> Iterator[tuple[str, Entry, bool]]:
        """(path below the split's directory, entry, whether it is left out). above: directories that this one is in."""
        directory = _below(split, below)
        for name in self._folders.names(directory):
            path = f"{below}/{name}".lstrip("/")
            if name == self._donefile:
                continue
            left_out = any(fnmatchcase(name, pattern) for pattern in self._ignore)
            if left_out:
                # only its size matters, to tell whether somebody still writes: it may vanish at any moment
                yield path, self._folders.glance(_below(split, path)), True
                continue
            entry = self._folders.stat(_below(split, path))
            if entry is None:
                raise Unreadable(
                    f"{self.name(split, path)} was listed, and vanished before it was looked at",
                    remedy="Rename files into a split's directory before its donefile is written.",
                )
            self._refuse(split, path, entry, above)
            if entry.kind == "file":
                yield path, entry, False
            else:
                yield from self._walk(split, path, (*above, *([entry.identity] if entry.identity else [])))

    def _refuse(self, split: Directory, path: str, entry: Entry, above: tuple[tuple[int, int], ...]) -> None:
        name = self.name(split, path)
        try:
            path.encode()
        except UnicodeEncodeError as error:
            raise DataError(
                f"{name}: the name is not UTF-8", remedy="Rename it; nothing of its split was published."
            ) from error
        if entry.kind not in ("file", "directory"):
            raise DataError(
                f"{name} is {entry.kind}, not a file", remedy="Move it away, or add its name to stream.ignore_files."
            )
        if entry.kind == "directory" and (entry.identity in above or path.count("/") >= MAX_DEPTH):
            raise DataError(f"{name} leads back to a directory that it is in", remedy="Remove the link.")


def _below(directory: Directory, path: str) -> str:
    return "/".join(part for part in (directory.path, path) if part)
