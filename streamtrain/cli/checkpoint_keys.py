"""streamtrain checkpoints show"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from streamtrain.cli.options import ConfigOption, JsonOption, pass_id_of, print_json
from streamtrain.cli.printing import print_table, wrapping_table

if TYPE_CHECKING:
    from streamtrain.checkpoint.store import Checkpoint, CheckpointStore


def command(
    config: ConfigOption,
    feasigns: Annotated[list[str], typer.Argument(metavar="FEASIGN...", help="Keys of the sparse table.")],
    pass_name: Annotated[
        str, typer.Option("--pass", metavar="DAY/PASS_ID", help="Which checkpoint; by default the newest.")
    ] = "",
    json: JsonOption = False,
) -> None:
    """Show single keys of a checkpoint: show, click, weights, by table; exit code 1 if one is in no table."""
    from dataclasses import asdict

    from streamtrain.checkpoint.identity import identity_of
    from streamtrain.checkpoint.opening import Readable
    from streamtrain.checkpoint.table_files import find_keys
    from streamtrain.config import load_config
    from streamtrain.contracts.table_text import shard_directory
    from streamtrain.errors import CheckpointError

    keys = [_feasign(text) for text in feasigns]
    job = Readable(load_config(config))
    checkpoint = job.fetch(_chosen(job.checkpoints, pass_name))
    files = {entry.path for entry in checkpoint.manifest.files} if checkpoint.manifest is not None else None
    identity = identity_of(checkpoint)
    tables = [table.name for table in identity.tables] if identity is not None else [""]
    try:
        directories = {name: shard_directory(name, len(tables)) for name in tables}
    except ValueError as error:
        raise CheckpointError(f"{checkpoint.path / 'job.json'}: {error}") from error
    found = {name: find_keys(checkpoint.path, keys, files, directory) for name, directory in directories.items()}
    several = len(tables) > 1
    absent = [key for key in keys if not any(key in states for states in found.values())]
    if json:
        rows = [
            {**({"table": name} if several else {}), **asdict(states[key])}
            for key in keys
            for name, states in found.items()
            if key in states
        ]
        print_json({"checkpoint": str(checkpoint.path), "pass": str(checkpoint.id), "keys": rows, "absent": absent})
    else:
        table = wrapping_table(
            "key", *(["table"] if several else []), "slot", "show", "click", "unseen days", "delta score", "embed_w",
            "embedx",
        )  # fmt: skip
        table.title = f"checkpoint {checkpoint.id}"
        for key in keys:
            if key in absent:
                table.add_row(str(key), "absent")
            for name, states in found.items():
                if (state := states.get(key)) is not None:
                    numbers = (state.show, state.click, state.unseen_days, state.delta_score, state.embed_w)
                    weights = " ".join(f"{w:g}" for w in state.embedx) or "none"
                    first = [str(key), *([name] if several else []), str(state.slot)]
                    table.add_row(*first, *(f"{n:g}" for n in numbers), weights)
        print_table(table)
    if absent:
        raise typer.Exit(1)


def _feasign(text: str) -> int:
    from streamtrain.errors import ConfigError

    if not (text.isascii() and text.isdigit() and int(text) < 1 << 64):
        raise ConfigError(f"{text!r} is not a feasign", remedy="A feasign is a whole number from 0 to 2^64 - 1.")
    return int(text)


def _chosen(store: CheckpointStore, pass_name: str) -> Checkpoint:
    """The checkpoint of that pass, '' for the newest with a readable manifest."""
    from streamtrain.errors import CheckpointError

    if not pass_name:
        chosen = store.newest()
    else:
        wanted = pass_id_of("--pass", pass_name)
        chosen = store.read(wanted) if wanted in store.ids() else None
    if chosen is not None:
        return chosen
    raise CheckpointError(
        f"{store.where} has no checkpoint {pass_name}".rstrip(),
        remedy="`streamtrain checkpoints list` lists them.",
    )
