"""streamtrain recount"""

from __future__ import annotations

import typer

from streamtrain.cli.options import ConfigOption, JsonOption, print_json


def command(config: ConfigOption, json: JsonOption = False) -> None:
    """Recount every key in the source files, compare with the newest checkpoint; exit code 1 if they differ."""
    from rich.console import Console
    from rich.table import Table

    from streamtrain.config import load_config
    from streamtrain.proof import recount_job

    found = recount_job(load_config(config))
    if json:
        print_json(found.to_json())
    else:
        values = found.to_json()
        table = Table(show_header=False, title=f"checkpoint {found.day}/{found.pass_id}")
        for key in ("rows", "rejected", "keys", "occurrences", "lost", "duplicated", "missing_keys", "unknown_keys"):
            table.add_row(key.replace("_", " "), f"{values[key]:,}")
        Console().print(table)
        for example in values.get("examples") or []:
            typer.echo(f"differs: {example}")
    if not found.ok:
        raise typer.Exit(1)
