"""streamtrain recount"""

from __future__ import annotations

import typer

from streamtrain.cli.options import ConfigOption, JsonOption, print_json


def command(config: ConfigOption, json: JsonOption = False) -> None:
    """Recount every key in the source files, compare with the newest checkpoint; exit code 1 if they differ."""
    from rich.console import Console
    from rich.table import Table

    from streamtrain.config import load_config
    from streamtrain.proof.job import recount_job

    result = recount_job(load_config(config))
    if json:
        print_json(result.to_json())
    else:
        values = result.to_json()
        table = Table(show_header=False, title=f"checkpoint {result.day}/{result.pass_id}")
        names = ("rows", "rejected", "keys", "occurrences", "lost", "duplicated", "missing_keys", "unknown_keys")
        for key in (*names, "wrong_clicks", "shrinks", "decay", "deleted", "undecided"):
            table.add_row(key.replace("_", " "), f"{values[key]:,}")
        table.add_row("tolerance", f"{result.tolerance:.1e}" if result.tolerance else "0: exact")
        table.add_row("keys that show a single row", f"{result.sharp:,}")
        Console().print(table)
        for example, expected, shown in result.examples:
            typer.echo(f"differs: key {example}, show must be {expected:g}, is {shown:g}")
        if result.rows != result.rows_in_manifest:
            typer.echo(f"differs: {result.rows} rows in the sources, {result.rows_in_manifest} in the manifest")
        if result.reason:
            typer.echo(f"differs: {result.reason}")
    if not result.ok:
        raise typer.Exit(1)
