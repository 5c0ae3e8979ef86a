"""What a network is fed with, as the engine finds it in a model's code: for the feed, which writes its text. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

#: In place of a label's name.
UNKNOWN = "?"
FeedKind: TypeAlias = Literal["show", "label", "slot", "dense", "weight"]


@dataclass(frozen=True)
class NetworkFeed:
    """A feed, in the order of create_feeds().

    slot: the number of a slot, else 0. width: floats of a dense feed; feasigns of a slot that is not a sequence.
    integer: whether Paddle reads whole numbers (int64). sequence: whether a slot may have any number of feasigns
    (lod_level 1), else exactly `width`.
    """

    name: str
    kind: FeedKind
    slot: int = 0
    width: int = 1
    integer: bool = False
    sequence: bool = True


@dataclass(frozen=True)
class TableUse:
    """A sparse table of a network. slots: those that are looked up in it, as often as they are, in ascending order.
    show: whether each occurrence of a feasign in them counts as one show of it. click: the name of the job's label that
    counts as its click, '' when none does: click is 0 then; UNKNOWN when it is computed from labels. width: numbers of
    an embedding."""

    name: str
    slots: tuple[int, ...]
    show: bool
    click: str
    width: int = 0

    def __str__(self) -> str:
        show = "show counts rows" if self.show else "show does not count rows"
        click = {"": "click is 0", UNKNOWN: "click is computed"}.get(self.click, f"click is label {self.click}")
        return f"slots {', '.join(map(str, self.slots))}; {show}, {click}"


@dataclass(frozen=True)
class Network:
    """feeds: in the order of create_feeds(). tables: in the order of their names, which is that of Paddle's ids."""

    feeds: tuple[NetworkFeed, ...]
    tables: tuple[TableUse, ...]

    @property
    def slots(self) -> tuple[int, ...]:
        """Numbers, in the order of the feeds."""
        return tuple(feed.slot for feed in self.feeds if feed.kind == "slot")

    @property
    def is_usual(self) -> bool:
        """Whether it is PaddleRec's form, which documents say nothing of: show, click and slots by number, all of
        them looked up once in one table, where each row counts."""
        if self.feeds != click_feeds(self.slots) or len(self.tables) != 1:
            return False
        table = self.tables[0]
        return table.show and table.click == "click" and table.slots == tuple(sorted(self.slots))


def click_feeds(slots: Sequence[int]) -> tuple[NetworkFeed, ...]:
    """The feeds of PaddleRec's slot networks: show, click, then the slots in order."""
    return (
        NetworkFeed("show", "show", integer=True),
        NetworkFeed("click", "label", integer=True),
        *(NetworkFeed(str(slot), "slot", slot=slot, integer=True) for slot in slots),
    )
