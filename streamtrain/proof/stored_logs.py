"""Logs behind fsspec, for the recount: a split at a time is copied to the local disk. What a copy holds is compared
with the markers' SHA-256, as any file is."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from streamtrain.errors import CheckpointError, Unreadable
from streamtrain.locations import Location
from streamtrain.object_store import ObjectStore

_DAY, _TIME = re.compile("[0-9]{8}"), re.compile("[0-9]{4}")


class StoredLogs:
    """The tree at `location`. root: an empty local folder for copies.

    hold() copies a split, and removes the one before it. Raises ConfigError when the location cannot be opened,
    Unreadable for what the store refuses, after retries.
    """

    def __init__(self, location: Location, root: Path) -> None:
        self.root = root
        self._objects = ObjectStore(location)
        self._held = ""

    def named(self, text: str) -> str:
        """A message that has names of copies, with those of their objects."""
        return text.replace(f"{self.root}/", self._objects.name(""))

    def splits(self) -> list[str]:
        with _looking():
            days = [day for day in self._objects.directories("") if _DAY.fullmatch(day)]
            return [f"{day}/{time}" for day in days for time in self._objects.directories(day) if _TIME.fullmatch(time)]

    def hold(self, split: str) -> None:
        if split == self._held:
            return
        self._held = ""
        for before in self.root.iterdir():
            shutil.rmtree(before)
        with _looking():
            self._objects.fetch_all(split, self.root / split)
        self._held = split

    def sizes(self, split: str) -> dict[str, int] | None:
        with _looking():
            return self._objects.sizes(split)


@contextmanager
def _looking() -> Iterator[None]:
    try:
        yield
    except CheckpointError as error:
        raise Unreadable(error.message, remedy="Check the store and the rights there; then recount again.") from error
