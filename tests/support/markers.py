"""Marker logs for the recount's tests: what a bridge would have written for a tree, in memory."""

import hashlib
from dataclasses import dataclass, field, replace
from pathlib import Path

from streamtrain.proof.markers import Entry, Log, Source


@dataclass
class Bridged:
    """Bridges splits of a tree as they are now, one marker each."""

    data: Path
    entries: list[Entry] = field(default_factory=list)
    written: float = 4e9  # after everything that a test writes
    _bytes: dict[tuple[str, str], int] = field(default_factory=dict)

    def add(self, split: str, *files: str, rejected: int = 0, rows: dict[str, int] | None = None) -> Entry:
        """The split's files, or those named. A split's second marker is a revision with what was added."""
        folder = self.data / split
        names = files or sorted(p.name for p in folder.iterdir() if p.is_file() and p.name != "data.done")
        sources = []
        for name in names:
            data = (folder / name).read_bytes()
            new = data[self._bytes.get((split, name), 0) :]
            self._bytes[split, name] = len(data)
            count = (rows or {}).get(name, sum(bool(line.strip()) for line in new.splitlines()))
            sources.append(Source(name, len(data), count, hashlib.sha256(data).hexdigest()))
        splits = list(dict.fromkeys(e.split for e in self.entries))
        sequence = splits.index(split) if split in splits else len(splits)
        revision = sum(e.split == split for e in self.entries)
        total = sum(s.rows for s in sources)
        offset = 2 * len(self.entries)  # the transactions' own records lie between
        self.entries.append(Entry(offset, split, sequence, revision, total, rejected, tuple(sources), self.written))
        return self.entries[-1]

    @property
    def log(self) -> Log:
        return Log(tuple(self.entries), topic_id="the-topic")

    @property
    def position(self) -> int:
        """The marker-log offset of a checkpoint that has all of them."""
        return self.entries[-1].offset + 1 if self.entries else 0

    def change(self, at: int, **changes: object) -> None:
        self.entries[at] = replace(self.entries[at], **changes)  # type: ignore[arg-type]
