"""How lines are read, and what a line says. For the recount alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

#: What it takes and returns is in docs/rows.md; an error of any kind: the line is rejected.
ParseFunction = Callable[[Any], Any]
_NUMBER_BYTES = frozenset("0123456789+-.eE")
_MOST_DIGITS = 400


@dataclass(frozen=True)
class Rules:
    """How lines are read. slots: the job's. names: numbers of slots by name. labels: name and kind. dense: name and
    width. weight: its name, '' for none. order: stream.feed_order. columns: stream.columns as it is written, with its
    defaults. header: names of the cells, None: the first line of each file has them."""

    slots: Sequence[int]
    line_format: str = "feasign_slot"
    parse: ParseFunction | None = None
    reject_unknown: bool = False
    names: Mapping[str, int] = field(default_factory=dict)
    labels: tuple[tuple[str, str], ...] = (("click", "binary"),)
    dense: tuple[tuple[str, int], ...] = ()
    weight: str = ""
    order: tuple[str, ...] = ()
    columns: Mapping[str, Any] = field(default_factory=dict)
    header: tuple[str, ...] | None = None

    @cached_property
    def wanted(self) -> frozenset[int]:
        return frozenset(self.slots)

    @cached_property
    def by_name(self) -> dict[str, int]:
        """Numbers of the job's slots, by their number as text and by their name."""
        named = {name: slot for name, slot in self.names.items() if slot in self.wanted}
        return {**{str(slot): slot for slot in self.slots}, **named}

    @property
    def has_header(self) -> bool:
        """Whether the first line of each file names the cells."""
        return self.line_format in ("csv", "tsv") and self.header is None

    def content(self, text: bytes) -> bytes:
        """The line as its format takes it; empty: a blank line. Blanks at its ends are a user's function's own, tabs
        are cells."""
        if self.parse is not None:
            return text.removesuffix(b"\r") if text.strip(b"\r") else b""
        if self.line_format in ("csv", "tsv"):
            return text.removesuffix(b"\r") if text.strip(b" \r") else b""
        return text.strip(b" \t\r")


@dataclass
class Given:
    """What a line says. pairs: (feasign, slot)."""

    labels: dict[str, Any] = field(default_factory=dict)
    pairs: list[tuple[int, int]] = field(default_factory=list)
    dense: dict[str, list[Any]] = field(default_factory=dict)
    weight: Any = 1.0


class Row(NamedTuple):
    """labels: by name. pairs: (feasign, slot) of the job's slots, those of feasign 0 left out."""

    labels: dict[str, float]
    pairs: list[tuple[int, int]]


def number_in(text: str) -> float:
    """The decimal number that a text is. Raises ValueError."""
    if not text or len(text) > _MOST_DIGITS or not _NUMBER_BYTES.issuperset(text):
        raise ValueError("not a number")
    return float(text)


def feasign_in(digits: bytes) -> int:
    """Raises ValueError."""
    if not digits.isdigit() or len(digits) > 20 or int(digits) >= 1 << 64:
        raise ValueError("not a feasign")
    return int(digits)
