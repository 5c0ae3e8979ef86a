"""streamtrain recount"""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from streamtrain.cli.options import ConfigOption, JsonOption, print_json

if TYPE_CHECKING:
    from streamtrain.proof.recount import Recount

#: Exit codes by verdict.
CODES = {"proven": 0, "differs": 1, "not provable": 21}
_TABLE = (
    "rows", "rejected", "rows_in_markers", "rows_in_manifest", "lost_rows", "duplicated_rows", "pending_rows",
    "not_recountable_rows", "keys", "occurrences", "lost", "duplicated", "missing_keys", "unknown_keys", "wrong_clicks",
    "not_recountable_keys", "shrinks", "decay", "deleted", "undecided",
)  # fmt: skip
#: Of each table, where a network has several.
_BY_TABLE = ("keys", "lost", "duplicated", "missing_keys", "unknown_keys", "wrong_clicks")
#: Files and splits that are printed of each kind; --json has more.
_SHOWN = 20


def command(config: ConfigOption, json: JsonOption = False) -> None:
    """Recount every row and key in the source files, compare with the newest checkpoint.

    Exit code 0: proven. 1: rows were lost or trained twice. 21: cannot be proven, since files or the marker log are not
    there.
    """
    from streamtrain.checkpoint.identity import refuse_other_job
    from streamtrain.checkpoint.opening import Readable
    from streamtrain.config import load_config
    from streamtrain.proof.job import recount_job

    job = load_config(config)
    refuse_other_job(job, _is_counted_by)
    readable = Readable(job)
    newest = readable.checkpoints.newest()
    if newest is not None:
        readable.fetch(newest)
    readable.records()
    result = recount_job(job, root=readable.root)
    if json:
        print_json(result.to_json())
    else:
        _print(result)
    if CODES[result.verdict]:
        raise typer.Exit(CODES[result.verdict])


def _is_counted_by(key: str) -> bool:
    """Whether a key of the config that is fixed for a job says which rows a pass has, or what `show` becomes."""
    if key.startswith("table_parameters"):
        return (not key.endswith(".shard_num") and ".accessor." not in key) or ".ctr_accessor_param." in key
    return key.startswith(("runner.", "stream.")) and key != "stream.partitions"


def _print(result: Recount) -> None:
    from rich.console import Console
    from rich.table import Table

    values = result.to_json()
    table = Table(show_header=False, title=f"checkpoint {result.day}/{result.pass_id}")
    for key in _TABLE:
        table.add_row(key.replace("_", " "), "-" if values[key] is None else f"{values[key]:,}")
    table.add_row("tolerance", f"{result.tolerance:.1e}" if result.tolerance else "0: exact")
    table.add_row("keys that show a single row", f"{result.sharp:,}")
    console = Console()
    console.print(table)
    if result.tables:
        by_table = Table("table", *(key.removesuffix("_keys").replace("_", " ") for key in _BY_TABLE))
        for name, its in result.tables.items():
            by_table.add_row(name, *(f"{its[key]:,}" for key in _BY_TABLE))
        console.print(by_table)
    for place in result.uneven[:_SHOWN]:
        rows = place.rows or 0
        typer.echo(f"differs: {_at(place)}: {abs(rows)} rows {'lost' if rows < 0 else 'too many'}: {place.why}")
    for example, expected, shown in result.examples:
        files = ", ".join(result.places.get(str(example), [])) or "no source file"
        typer.echo(f"differs: key {example}, show must be {expected:g}, is {shown:g}; it occurs in {files}")
    if result.reason:
        typer.echo(f"differs: {result.reason}")
    for place in result.pending[:_SHOWN]:
        rows_text = "rows not counted" if place.rows is None else f"{place.rows} rows"
        typer.echo(f"pending: {_at(place)}, {rows_text}: {place.why}")
    for place in result.not_recountable[:_SHOWN]:
        typer.echo(f"not recountable: {_at(place)}, {place.rows} rows: {place.why}")
    for text in result.unknown:
        typer.echo(f"not known: {text}")
    if result.marker_log and not result.unknown:
        typer.echo(f"the marker log was not used, the rows of all passes agree without it: {result.marker_log}")
    typer.echo(_verdict(result))


def _at(place: object) -> str:
    split, file = getattr(place, "split", ""), getattr(place, "file", "")
    return f"{split}/{file}" if file else str(split)


def _verdict(result: Recount) -> str:
    if result.verdict == "proven":
        more = f"; {result.pending_rows:,} rows are pending" if result.pending_rows else ""
        return f"proven: {result.rows:,} rows, {result.keys:,} keys: none lost, none trained twice{more}"
    if result.verdict == "differs":
        return f"differs: the checkpoint {result.checkpoint} is not what the source files say"
    return "cannot be proven: nothing is known to be wrong, and not all of it is known, see above"
