"""Where the source files are. For the recount alone."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol


class Logs(Protocol):
    """The tree of logs, of which one split at a time is on the local disk. Raises Unreadable."""

    @property
    def root(self) -> Path:
        """The files of a split are below root/split, once hold() has been called."""

    def splits(self) -> list[str]:
        """`day/HHMM` of every split that is there, sorted."""

    def hold(self, split: str) -> None:
        """Has the split's files below `root`; those of others may be gone."""

    def sizes(self, split: str) -> dict[str, int] | None:
        """Bytes of each file of the split by its path below it, without having the files; None: look at them."""


class LocalLogs:
    """A folder of this machine."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def splits(self) -> list[str]:
        found = self.root.glob("[0-9]" * 8 + "/" + "[0-9]" * 4)
        return sorted(f"{folder.parent.name}/{folder.name}" for folder in found)

    def hold(self, split: str) -> None:
        pass

    def sizes(self, split: str) -> dict[str, int] | None:  # noqa: ARG002
        return None
