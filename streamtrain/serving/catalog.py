"""What the donefiles list, as chains: a full model, or the empty one, and the incremental ones over it. Pure, but for
`read`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, ValidationError

from streamtrain.serving.files import Files

BASE_DONEFILE = "base_donefile.txt"
PATCH_DONEFILE = "patch_donefile.txt"


class Ref(BaseModel):
    """An inference model, by name and by the SHA-256 of its manifest.json."""

    model_config = ConfigDict(frozen=True)

    day: str
    pass_id: int
    digest: str


class Entry(Ref):
    """A line of a donefile. path: relative to it."""

    kind: Literal["full", "incremental"]
    path: str
    base: Ref | None = None
    previous: Ref | None = None
    published: float = 0.0

    @property
    def age(self) -> tuple[str, int, float]:
        """Greater is newer."""
        return self.day, self.pass_id, self.published


#: A full model or the empty one's first incremental, then incremental ones, each over the one before.
Chain: TypeAlias = tuple[Entry, ...]


@dataclass(frozen=True)
class Listing:
    """The donefiles' lines, in their order, each digest once. problems: lines that are none."""

    entries: tuple[Entry, ...]
    problems: tuple[str, ...] = ()


def read(files: Files) -> Listing | None:
    """None when there is no donefile. Raises CheckpointError when one cannot be read."""
    texts = {name: files.find(name) for name in (BASE_DONEFILE, PATCH_DONEFILE)}
    if all(text is None for text in texts.values()):
        return None
    return parse({files.name(name): text for name, text in texts.items() if text is not None})


def parse(texts: dict[str, bytes]) -> Listing:
    """texts: a donefile's bytes by its name, which problems then say."""
    entries: dict[str, Entry] = {}
    problems = []
    for name, text in texts.items():
        for number, line in enumerate(text.splitlines(), 1):
            if not line.strip():
                continue
            try:
                entry = Entry.model_validate_json(line)
            except ValidationError as error:
                first = error.errors()[0]
                key = ".".join(map(str, first["loc"]))
                problems.append(f"{name}, line {number} is passed over: {key + ': ' if key else ''}{first['msg']}")
                continue
            entries[entry.digest] = entry
    return Listing(tuple(entries.values()), tuple(problems))


def chains(entries: Sequence[Entry]) -> Iterator[Chain]:
    """Every model that can be put together, freshest first, each with all that it is made of.

    So after a chain come the same without its last models, and those of older full ones: what to fall back to.
    An incremental model whose `previous` is not listed cannot be put together.
    """
    previous = _linked(entries)
    for entry in sorted((e for e in entries if e.digest in previous), key=lambda e: e.age, reverse=True):
        chain = [entry]
        while (before := previous[chain[-1].digest]) is not None:
            chain.append(before)
        yield tuple(reversed(chain))


def unlinked(entries: Sequence[Entry]) -> list[Entry]:
    """Those that no chain reaches: a model below them is not listed."""
    previous = _linked(entries)
    return [e for e in entries if e.digest not in previous]


def _linked(entries: Sequence[Entry]) -> dict[str, Entry | None]:
    """The model right below each that can be put together, by digest; None below a chain's first."""
    above: dict[str, list[Entry]] = {}
    for entry in entries:
        if entry.kind == "incremental" and entry.previous is not None:
            above.setdefault(entry.previous.digest, []).append(entry)
    firsts = [e for e in entries if e.kind == "full" or (e.base is None and e.previous is None)]
    found: dict[str, Entry | None] = {e.digest: None for e in firsts}
    reached = list(firsts)
    while reached:
        entry = reached.pop()
        base = entry.digest if entry.kind == "full" else _digest(entry.base)
        for next_ in above.get(entry.digest, ()):
            if next_.digest not in found and _digest(next_.base) == base:
                found[next_.digest] = entry
                reached.append(next_)
    return found


def _digest(ref: Ref | None) -> str | None:
    return ref.digest if ref else None
