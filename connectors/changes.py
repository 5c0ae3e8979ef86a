"""What happened to the files of a bridged split, told by their content.

A marker has each file's size and SHA-256, so a file is known whatever its name: renamed, copied or compressed files
have no new rows. A file that begins with what was bridged grew. Files that moved to another split are not recognised.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from streamtrain.connectors.ledger import Bridged
from streamtrain.connectors.source import SourceReader
from streamtrain.connectors.tree import FileState, Tree
from streamtrain.contracts.marker import SourceFile
from streamtrain.errors import DataError, Unreadable
from streamtrain.schedule import Split

Kind = Literal["same", "new", "grown", "renamed", "copied", "packed", "rewritten", "unclear"]
#: All rows of such a file are in Kafka.
KNOWN: frozenset[Kind] = frozenset({"same", "renamed", "copied", "packed"})
_PACKED_NAMES = (".gz", ".gzip", ".z")


@dataclass(frozen=True)
class Change:
    """file is, by `kind`, what became of the bridged file `of`. ended: a plain file's bytes up to the last line end."""

    file: FileState
    kind: Kind
    of: SourceFile | None = None
    ended: int | None = None

    @property
    def has_whole_lines(self) -> bool:
        """Whether there is a line with its line end after what was bridged."""
        return self.ended is None or self.ended > (self.of.bytes if self.of else 0)


@dataclass
class Content:
    """A file's bytes. bytes, sha256: as stored. prefixes: SHA-256 of the first n unpacked bytes, a size n asked for.

    unpacked: bytes. ended: unpacked bytes up to the last line end.
    """

    packed: bool
    bytes: int = 0
    sha256: str = ""
    unpacked: int = 0
    ended: int = 0
    prefixes: dict[int, str] = field(default_factory=dict)

    def is_of(self, file: SourceFile) -> bool:
        """Whether it is that file as bridged, or its compressed form."""
        return self.sha256 == file.sha256 or (self.unpacked == file.bytes and self.begins_with(file))

    def begins_with(self, file: SourceFile) -> bool:
        return self.prefixes.get(file.bytes) == file.sha256


def read_content(tree: Tree, split: Split, path: str, sizes: Iterable[int]) -> Content:
    """Reads the whole file. Raises Unreadable, DataError when it does not unpack."""
    wanted = sorted(set(sizes), reverse=True)
    digest = hashlib.sha256()
    with tree.open(split, path) as raw:
        source = SourceReader(raw, tree.name(split, path))
        content = Content(source.is_packed())
        for block in source.blocks():
            begin = 0
            while wanted and wanted[-1] <= content.unpacked + len(block):
                end = wanted.pop() - content.unpacked
                digest.update(memoryview(block)[begin:end])
                content.prefixes[content.unpacked + end] = digest.hexdigest()
                begin = end
            digest.update(memoryview(block)[begin:])
            if last := block.rfind(b"\n") + 1:
                content.ended = content.unpacked + last
            content.unpacked += len(block)
        content.bytes, content.sha256 = source.size, source.sha256
    if wanted and wanted[-1] == 0:
        content.prefixes[0] = hashlib.sha256().hexdigest()
    return content


def changes(tree: Tree, split: Split, bridged: Bridged, listed: Iterable[FileState], suspects: Iterable[FileState]
            ) -> list[Change]:  # fmt: skip
    """What became of each suspect; those that are as they were are left out, and not looked at again.

    Raises Unreadable.
    """
    present = {file.path for file in listed}
    vanished = {path: file for path, file in bridged.files.items() if path not in present}
    found = []
    for file in suspects:
        change = _change(tree, split, bridged, vanished, file)
        if change.kind == "same":
            bridged.looked_at(file)
        else:
            found.append(change)
    return found


def _change(tree: Tree, split: Split, bridged: Bridged, vanished: Mapping[str, SourceFile], file: FileState) -> Change:
    before = bridged.files.get(file.path)
    try:
        content = read_content(tree, split, file.path, {f.bytes for f in bridged.history})
    except DataError as error:
        if before is not None:
            return Change(file, "rewritten", before)
        # no donefile says that a late file is complete: it may be half a gzip file
        raise Unreadable(error.message, remedy="Is it still being written? It is looked at again.") from error
    ended = None if content.packed else content.ended
    if (before is not None and content.is_of(before)) or not content.bytes:
        rewritten = before is not None and before.bytes > 0 and not content.bytes
        return Change(file, "rewritten" if rewritten else "same", before)
    known = [f for f in bridged.history if f.bytes and content.is_of(f)]
    if known:
        of = next((f for f in known if f.path in vanished), known[0])
        packed = content.sha256 != of.sha256
        return Change(file, "packed" if packed else "renamed" if of.path in vanished else "copied", of)
    if before is not None:
        grown = not content.packed and content.unpacked > before.bytes and content.begins_with(before)
        return Change(file, "grown" if grown else "rewritten", before, ended)
    return _new(file, content, vanished, ended)


def _new(file: FileState, content: Content, vanished: Mapping[str, SourceFile], ended: int | None) -> Change:
    """Of a name that was not bridged, with content that was not."""
    begins = [f for f in vanished.values() if f.bytes and content.begins_with(f)]
    if begins:
        longest = max(begins, key=lambda f: f.bytes)
        return Change(file, "unclear" if content.packed else "grown", longest, ended)
    for path, of in vanished.items():
        if _stem(path) == _stem(file.path) and (content.packed or _stem(path) != path):
            return Change(file, "unclear", of)
    return Change(file, "new", None, ended)


def _stem(path: str) -> str:
    """Without the endings that compressing programs add."""
    ending = next((e for e in _PACKED_NAMES if path.lower().endswith(e)), "")
    return path[: len(path) - len(ending)]


def described(tree: Tree, split: Split, change: Change) -> tuple[str, str]:
    """(what it is, what to do) of a change that is not allowed."""
    name = tree.name(split, change.file.path)
    of = change.of.path if change.of else ""
    in_kafka = "its rows are in Kafka already"
    return {
        "same": (name, ""),
        "new": (f"{name} is new", "Move it away"),
        "grown": (f"{name} grew" if of == change.file.path else f"{of} was renamed to {name} and grew",
                  "Restore it as it was"),
        "renamed": (f"{of} was renamed to {name}: {in_kafka}", "Rename it back"),
        "copied": (f"{name} is a copy of {of}: {in_kafka}", "Remove it"),
        "packed": (f"{name} is {of}, compressed: {in_kafka}", f"Restore {of} in its place"),
        "rewritten": (f"{name} was rewritten after it was bridged: its rows cannot be withdrawn", "Restore it"),
        "unclear": (f"{of} is gone and {name} came: whether this has rows of that which are in Kafka already cannot be "
                    "told", f"Restore {of} in its place"),
    }[change.kind]  # fmt: skip
