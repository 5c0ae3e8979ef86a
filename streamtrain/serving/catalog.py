"""What the donefiles list, as chains: a full model, or the empty one, and the incremental ones over it. Pure, but for
`read`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from streamtrain.contracts.donefiles import DONEFILES, DoneLine, decode_donefile
from streamtrain.contracts.manifest import ModelRef
from streamtrain.serving.files import Files

#: A full model, or the first incremental one over the empty model; then incremental ones, each over the one before.
Chain: TypeAlias = tuple[DoneLine, ...]


@dataclass(frozen=True)
class Listing:
    """The donefiles' lines, in their order, each digest once. problems: the lines that are not valid."""

    lines: tuple[DoneLine, ...]
    problems: tuple[str, ...] = ()


def read(files: Files) -> Listing | None:
    """None when there is no donefile. Raises CheckpointError when one cannot be read."""
    texts = {name: files.find(name) for name in DONEFILES.values()}
    if all(text is None for text in texts.values()):
        return None
    return parse({files.name(name): text for name, text in texts.items() if text is not None})


def parse(texts: dict[str, bytes]) -> Listing:
    """texts: a donefile's bytes by its name, which problems then give."""
    lines: dict[str, DoneLine] = {}
    problems = []
    for name, text in texts.items():
        valid, bad = decode_donefile(text)
        lines.update((line.digest, line) for line in valid)
        problems += [f"{name}, line {line.number} is skipped: {line.reason}" for line in bad]
    return Listing(tuple(lines.values()), tuple(problems))


def age(line: DoneLine) -> tuple[str, int, float]:
    """For comparing models: a greater one is newer."""
    return line.day, line.pass_id, line.published


def chains(lines: Sequence[DoneLine]) -> Iterator[Chain]:
    """Every model that can be put together, freshest first, each with all the models below it.

    After a chain come the same chain without its last models, and those of older full ones: what to fall back to.
    An incremental model whose `previous` is not listed cannot be put together.
    """
    previous = _linked(lines)
    for line in sorted((x for x in lines if x.digest in previous), key=age, reverse=True):
        chain = [line]
        while (before := previous[chain[-1].digest]) is not None:
            chain.append(before)
        yield tuple(reversed(chain))


def unlinked(lines: Sequence[DoneLine]) -> list[DoneLine]:
    """Those that no chain reaches: a model below them is not listed."""
    previous = _linked(lines)
    return [line for line in lines if line.digest not in previous]


def _linked(lines: Sequence[DoneLine]) -> dict[str, DoneLine | None]:
    """The model right below each that can be put together, by digest; None below a chain's first."""
    above: dict[str, list[DoneLine]] = {}
    for line in lines:
        if line.kind == "incremental" and line.previous is not None:
            above.setdefault(line.previous.digest, []).append(line)
    firsts = [x for x in lines if x.kind == "full" or (x.base is None and x.previous is None)]
    below: dict[str, DoneLine | None] = {x.digest: None for x in firsts}
    reached = list(firsts)
    while reached:
        line = reached.pop()
        base = line.digest if line.kind == "full" else _digest(line.base)
        for patch in above.get(line.digest, ()):
            if patch.digest not in below and _digest(patch.base) == base:
                below[patch.digest] = line
                reached.append(patch)
    return below


def _digest(ref: ModelRef | None) -> str | None:
    return ref.digest if ref else None
