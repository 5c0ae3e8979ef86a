"""What a warm start takes, as a table of the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.table import Table

    from streamtrain.contracts.warmup import WarmStart


def warm_table(start: WarmStart) -> Table:
    """A line a table and dense parameter: what of it, and why not the rest."""
    from rich.table import Column, Table
    from rich.text import Text

    table = Table(
        "", "name", "taken", Column("why not, or why not all", overflow="fold"),
        title=Text(f"warm start from {start.path}"), caption=Text(f"{start.source}, digest {start.digest[:12]}"),
    )  # fmt: skip
    for part in start.parts:
        keys = f", {part.keys:,} keys" if part.keys else ""
        table.add_row(
            part.kind, Text(part.name), Text(part.taken + keys, style="red" if part.taken == "no" else ""),
            Text(part.why),
        )  # fmt: skip
    return table
