"""streamtrain generate"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def command(
    directory: Annotated[Path, typer.Option("--dir", help="Where the tree goes: DIR/YYYYMMDD/HHMM/part-0.")],
    start_day: Annotated[str, typer.Option(help="First day, YYYYMMDD.")] = "20240101",
    days: Annotated[int, typer.Option(min=1)] = 1,
    split_interval: Annotated[int, typer.Option(min=1, help="Minutes a split.")] = 60,
    rows: Annotated[int, typer.Option(min=0, help="Rows a split.")] = 1000,
    slots: Annotated[int, typer.Option(min=1)] = 300,
    features: Annotated[int, typer.Option(min=1, help="Features a row.")] = 384,
    seed: Annotated[int, typer.Option()] = 1,
) -> None:
    """Write a seeded tree of logs: ids by power law, a drift over days, a label that can be learned."""
    from streamtrain.demo.generate import generate

    summary = generate(
        directory, start_day=start_day, days=days, split_interval=split_interval, rows_per_split=rows,
        slots=slots, features=features, seed=seed,
    )  # fmt: skip
    typer.echo(f"{summary.rows:,} rows in {summary.splits} splits, {summary.bytes / 1e6:.1f} MB, in {directory}")
