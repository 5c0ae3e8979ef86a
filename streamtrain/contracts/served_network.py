"""What the network of an inference model is fed with, from which tables, and what it predicts. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from streamtrain.contracts.paths import plain_path, quoted
from streamtrain.contracts.table_text import DEFAULT_ACCESSOR, PULLED, inference_columns

#: Numbers of an embedding, floats of a dense feed, feasigns of a slot that is not a sequence: at most.
MAX_WIDTH = 1 << 16

Width = Annotated[int, Field(ge=1, le=MAX_WIDTH)]
SlotNumber = Annotated[int, Field(ge=2, le=65535)]
Name = Annotated[str, Field(min_length=1)]


@dataclass(frozen=True)
class SlotFeed:
    """A variable that is fed with the embeddings of a slot in a table. name: the slot's in the model's code.

    length: 0 for a sequence, which has any number of feasigns in their order; else a row has exactly that many, filled
    up with feasign 0, and the variable is [rows * length, width], without LoD.
    """

    name: Name
    slot: SlotNumber
    table: Name
    variable: Name
    length: Annotated[int, Field(ge=0, le=MAX_WIDTH)] = 0


@dataclass(frozen=True)
class DenseFeed:
    """A variable that is fed with a row's floats of that name, [rows, *shape]."""

    name: Name
    shape: Annotated[tuple[Width, ...], Field(min_length=1, max_length=8)]
    variable: Name

    @property
    def width(self) -> int:
        """Floats of a row."""
        width = 1
        for size in self.shape:
            width *= size
        return width


@dataclass(frozen=True)
class Constant:
    """A variable that has one value for every row, [rows, 1]: of int64 with integer, else of float32."""

    variable: Name
    value: float
    integer: bool = False


@dataclass(frozen=True)
class TargetVariable:
    """A prediction, one number a row."""

    name: Name
    variable: Name


@dataclass(frozen=True)
class TableShape:
    """width: numbers of an embedding. pulls: the columns of the text that it begins with; embedx is the rest."""

    width: Width
    pulls: Annotated[tuple[str, ...], Field(min_length=1)] = PULLED[DEFAULT_ACCESSOR]

    @property
    def embedx_dim(self) -> int:
        return self.width - len(self.pulls)

    @property
    def columns(self) -> tuple[str, ...]:
        """Of its part files."""
        return inference_columns(self.embedx_dim, self.pulls)


@dataclass(frozen=True)
class ServedNetwork:
    """tables: by name. Raises ValueError for names that do not belong together."""

    slots: tuple[SlotFeed, ...]
    tables: dict[str, TableShape]
    targets: tuple[TargetVariable, ...]
    dense: tuple[DenseFeed, ...] = ()
    constants: tuple[Constant, ...] = ()

    def __post_init__(self) -> None:
        if lost := next((feed for feed in self.slots if feed.table not in self.tables), None):
            raise ValueError(f"feed {quoted(lost.name)} is of the table {quoted(lost.table)}, which it does not have")
        for name, table in self.tables.items():
            plain_path(sparse_directory(name, len(self.tables)))
            if table.embedx_dim < 0:
                raise ValueError(
                    f"table {quoted(name)} has a width of {table.width}, it pulls {len(table.pulls)} columns"
                )
        by_name = {feed.name: (feed.slot, feed.length) for feed in self.slots}
        for feed in self.slots:
            if by_name[feed.name] != (feed.slot, feed.length):
                raise ValueError(f"feed {quoted(feed.name)} is two slots")
        _each_once("slot", (slot for slot, _ in by_name.values()))
        _each_once("feed", [*by_name, *(dense.name for dense in self.dense)])
        _each_once("variable", self.variables)
        _each_once("target", [target.name for target in self.targets])

    @property
    def variables(self) -> list[str]:
        """All that are fed: slots, floats, constants."""
        slots, dense = [feed.variable for feed in self.slots], [feed.variable for feed in self.dense]
        return [*slots, *dense, *(constant.variable for constant in self.constants)]

    @property
    def lengths(self) -> dict[int, int]:
        """Of each slot: see SlotFeed."""
        return {feed.slot: feed.length for feed in self.slots}


def sparse_directory(table: str, tables: int) -> str:
    """The directory of a table's part files in an inference model. tables: how many the network has."""
    return "sparse" if tables == 1 else f"sparse/{table}"


def _each_once(what: str, names: Iterable[object]) -> None:
    seen = set()
    for name in names:
        if name in seen:
            raise ValueError(f"the {what} {quoted(str(name))} is there twice")
        seen.add(name)
