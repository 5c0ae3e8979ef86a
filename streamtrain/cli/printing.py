"""Tables that several commands print."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.table import Table


def wrapping_table(*names: str) -> Table:
    """A table that wraps what does not fit."""
    from rich import box
    from rich.table import Column, Table

    return Table(*(Column(name, overflow="fold") for name in names), box=box.SIMPLE, pad_edge=False)


def print_table(table: Table) -> None:
    """As wide as the terminal; 120 columns where there is no terminal."""
    import sys

    from rich.console import Console

    Console(width=None if sys.stdout.isatty() else 120).print(table)
