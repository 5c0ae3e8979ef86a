"""streamtrain checkpoints"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from streamtrain.cli import checkpoint_keys, rewind
from streamtrain.cli.options import ConfigOption, JsonOption, print_json
from streamtrain.cli.printing import print_table, wrapping_table

if TYPE_CHECKING:
    from streamtrain.checkpoint.store import Checkpoint, Problem

app = typer.Typer(help="Checkpoints on disk.", no_args_is_help=True)


#: Checkpoints, or models, that are listed unless all are asked for: a list must not take longer the older a job is.
NEWEST = 100

AllOption = Annotated[bool, typer.Option("--all", help=f"All of them, not the newest {NEWEST} alone.")]


def _row(checkpoint: Checkpoint, problem: Problem | None) -> dict[str, Any]:
    manifest = checkpoint.manifest
    return {
        "day": checkpoint.id.day,
        "pass_id": checkpoint.id.pass_id,
        "path": str(checkpoint.path),
        "rows": manifest.rows if manifest else None,
        "keys": manifest.keys if manifest else None,
        "bytes": sum(f.bytes for f in manifest.files) if manifest else None,
        "created": manifest.created if manifest else None,
        "digest": checkpoint.digest,
        "problem": str(problem or ""),
    }


def _print(rows: list[dict[str, Any]], *, json: bool, older: int = 0) -> None:
    """older: how many checkpoints were left out."""
    if json:
        print_json({"checkpoints": rows, "older": older})
        return
    from rich.console import Console
    from rich.table import Column, Table

    table = Table("pass", "rows", "keys", "MB", "created", Column("state", overflow="fold"))
    for r in rows:
        table.add_row(
            f"{r['day']}/{r['pass_id']}",
            *(f"{r[k]:,}" if r[k] is not None else "-" for k in ("rows", "keys")),
            f"{r['bytes'] / 1e6:.1f}" if r["bytes"] is not None else "-",
            r["created"] or "-",
            r["problem"] or "ok",
        )
    Console().print(table if rows else "no checkpoints")
    if older:
        typer.echo(f"{older:,} older ones are not listed: --all lists them")


@app.command("list")
def list_(config: ConfigOption, every: AllOption = False, json: JsonOption = False) -> None:
    """What is on disk, the newest 100; only the manifests are read."""
    from streamtrain.checkpoint.opening import Readable
    from streamtrain.config import load_config

    store = Readable(load_config(config)).checkpoints
    ids = store.ids()
    older = 0 if every else max(0, len(ids) - NEWEST)
    found = [store.read(pass_id) for pass_id in ids[older:]]
    _print([_row(checkpoint, checkpoint.problem) for checkpoint in found], json=json, older=older)


@app.command("verify")
def verify(config: ConfigOption, json: JsonOption = False) -> None:
    """Compare every file of every checkpoint with its manifest; exit code 5 if one is not what it says."""
    from streamtrain.checkpoint.opening import Readable
    from streamtrain.config import load_config
    from streamtrain.errors import CheckpointError

    job = Readable(load_config(config))
    rows = []
    for checkpoint in job.checkpoints.list():
        rows.append(_row(checkpoint, job.checkpoints.verify(checkpoint)))
        job.release(checkpoint)
    _print(rows, json=json)
    if any(r["problem"] for r in rows):
        raise typer.Exit(CheckpointError.exit_code)


app.command("show")(checkpoint_keys.command)
app.command("rewind")(rewind.command)


@app.command("models")
def models(config: ConfigOption, every: AllOption = False, json: JsonOption = False) -> None:
    """The inference models that the donefiles list, the newest 100, in the order in which they were published."""
    from streamtrain.checkpoint.opening import Readable
    from streamtrain.config import load_config

    job = Readable(load_config(config))
    job.records(days=1)
    lines = sorted(job.models.lines(), key=lambda x: x.published)
    older = 0 if every else max(0, len(lines) - NEWEST)
    rows = [{**x.values, "there": job.has_model(x.path)} for x in lines[older:]]
    if json:
        print_json({"models": rows, "older": older})
        return
    table = wrapping_table("model", "kind", "keys", "deleted", "rows", "event time", "patches", "directory")
    for r in rows:
        base = r.get("base")
        table.add_row(
            f"{r.get('day', '?')}/{r.get('pass_id', '?')}",
            r["kind"],
            *(f"{r[k]:,}" if r.get(k) is not None else "-" for k in ("keys", "deleted", "rows")),
            str(r.get("event_time") or "-"),
            "-" if r["kind"] == "full" else f"{base['day']}/{base['pass_id']}" if base else "the empty model",
            "there" if r["there"] else "gone",
        )
    if rows:
        print_table(table)
    else:
        typer.echo("no inference models")
    if older:
        typer.echo(f"{older:,} older ones are not listed: --all lists them")
