"""streamtrain consistency"""

from __future__ import annotations

from typing import Annotated

import typer

from streamtrain.cli.options import ConfigOption, JsonOption, print_json


def command(
    config: ConfigOption,
    rows: Annotated[int, typer.Option(min=1, help="Rows of the logs, the newest first.")] = 1000,
    tolerance: Annotated[
        float | None,
        typer.Option(min=0, help="Largest difference, relative to 1 + the value; stream.consistency_tolerance."),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Compare what a training worker computes with the newest inference model; exit code 1 if they differ."""
    from rich.console import Console
    from rich.table import Table

    from streamtrain.config import load_config
    from streamtrain.consistency.standalone import check_consistency

    job = load_config(config)
    result = check_consistency(job, rows, tolerance if tolerance is not None else job.stream.consistency_tolerance)
    if json:
        print_json(result.to_json())
    else:
        title = f"{result.model}, {result.rows:,} rows"
        table = Table("variable", "largest difference", "relative", "in row", title=title)
        for difference in result.variables:
            red = difference.relative > result.tolerance
            table.add_row(
                difference.variable, f"{difference.absolute:.3g}", f"{difference.relative:.3g}",
                difference.ins_id if difference.absolute else "", style="red" if red else None,
            )  # fmt: skip
        Console().print(table)
        verdict = "agree" if result.ok else "DIFFER"
        typer.echo(f"online and offline {verdict}: largest relative difference {result.worst.relative:.3g}, "
                   f"tolerance {result.tolerance:g}")  # fmt: skip
        if not result.ok and job.stream.inference_keys == "thresholds":
            typer.echo("keys that stream.inference_keys: thresholds leaves out of the model count as differences")
    if not result.ok:
        raise typer.Exit(1)
