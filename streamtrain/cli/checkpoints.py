"""streamtrain checkpoints"""

from __future__ import annotations

from typing import Any

import typer

from streamtrain.cli.options import ConfigOption, JsonOption, print_json

app = typer.Typer(help="Checkpoints on disk.", no_args_is_help=True)


def _rows(config: ConfigOption, *, verify: bool) -> list[dict[str, Any]]:
    from streamtrain.checkpoint.store import CheckpointStore
    from streamtrain.config import load_config

    store = CheckpointStore(load_config(config).model_save_path)
    found = []
    for checkpoint in store.list():
        manifest = checkpoint.manifest
        problem = store.verify(checkpoint) if verify else checkpoint.problem
        found.append(
            {
                "day": checkpoint.of.day,
                "pass_id": checkpoint.of.pass_id,
                "path": str(checkpoint.path),
                "rows": manifest.rows if manifest else None,
                "keys": manifest.keys if manifest else None,
                "bytes": sum(f.bytes for f in manifest.files) if manifest else None,
                "created": manifest.created if manifest else None,
                "digest": checkpoint.digest,
                "problem": problem,
            }
        )
    return found


def _print(rows: list[dict[str, Any]], *, json: bool) -> None:
    if json:
        print_json({"checkpoints": rows})
        return
    from rich.console import Console
    from rich.table import Table

    table = Table("pass", "rows", "keys", "MB", "created", "state")
    for r in rows:
        table.add_row(
            f"{r['day']}/{r['pass_id']}",
            *(f"{r[k]:,}" if r[k] is not None else "-" for k in ("rows", "keys")),
            f"{r['bytes'] / 1e6:.1f}" if r["bytes"] is not None else "-",
            r["created"] or "-",
            r["problem"] or "ok",
        )
    Console().print(table if rows else "no checkpoints")


@app.command("list")
def list_(config: ConfigOption, json: JsonOption = False) -> None:
    """What is on disk; only the manifests are read."""
    _print(_rows(config, verify=False), json=json)


@app.command("verify")
def verify(config: ConfigOption, json: JsonOption = False) -> None:
    """Compare every file with its manifest; exit code 5 if one is not what it says."""
    from streamtrain.errors import CheckpointError

    rows = _rows(config, verify=True)
    _print(rows, json=json)
    if any(r["problem"] for r in rows):
        raise typer.Exit(CheckpointError.exit_code)
