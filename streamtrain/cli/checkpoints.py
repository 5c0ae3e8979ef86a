"""streamtrain checkpoints"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Annotated, Any

import typer

from streamtrain.cli.options import ConfigOption, JsonOption, print_json

if TYPE_CHECKING:
    from rich.table import Table

    from streamtrain.checkpoint.store import Checkpoint, CheckpointStore, Problem
    from streamtrain.config import JobConfig
    from streamtrain.schedule import PassId

log = logging.getLogger("streamtrain.checkpoints")
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


@app.command("show")
def show(
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
        table = _table(
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
        _print_table(table)
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
        wanted = _pass_id("--pass", pass_name)
        chosen = store.read(wanted) if wanted in store.ids() else None
    if chosen is not None:
        return chosen
    raise CheckpointError(
        f"{store.where} has no checkpoint {pass_name}".rstrip(),
        remedy="`streamtrain checkpoints list` lists them.",
    )


@app.command("rewind")
def rewind(
    config: ConfigOption,
    to: Annotated[str, typer.Option("--to", metavar="DAY/PASS_ID|nothing", help="The checkpoint to go back to.")],
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be set aside, and change nothing.")
    ] = False,
    json: JsonOption = False,
) -> None:
    """Go back to an earlier checkpoint: a running trainer is ended, what came later is set aside, never deleted."""
    from streamtrain.checkpoint import rewind as rewinding
    from streamtrain.checkpoint.opening import Readable
    from streamtrain.config import load_config

    job = load_config(config)
    target = _pass_id("--to", to) if to != "nothing" else None
    readable = Readable(job)
    readable.records(days=1)
    plan = rewinding.plan(readable.root, target, readable.checkpoints)
    if not dry_run:
        _rewind(job, target)
    values = {
        "to": to, "dry_run": dry_run,
        "checkpoints": [str(pass_id) for pass_id in plan.checkpoints],
        "models": [f"{m.day}/{m.pass_id}" for m in plan.models],
    }  # fmt: skip
    if json:
        print_json(values)
        return
    verb = "would be set aside" if dry_run else f"set aside, below {_aside(job)}"
    for what in ("checkpoints", "models"):
        names = values[what]
        typer.echo(f"{len(names)} {what} {verb}{': ' if names else ''}{', '.join(names)}")  # type: ignore[arg-type]
    if not dry_run:
        typer.echo(f"the job is at {to}: `streamtrain run` or `train` trains the passes after it again")
        if names:
            typer.echo("a `serve` that has one of these models loaded keeps it until there is a newer one: restart it")


def _aside(job: JobConfig) -> str:
    from streamtrain.checkpoint.remote_rewind import SET_ASIDE as STORED
    from streamtrain.checkpoint.rewind import SET_ASIDE

    return f"{job.store.shown.rstrip('/')}/{STORED}" if job.store is not None else str(job.model_save_path / SET_ASIDE)


def _rewind(job: JobConfig, target: PassId | None) -> None:
    import threading

    from streamtrain.checkpoint.commit import Committer
    from streamtrain.checkpoint.opening import run_of
    from streamtrain.errors import TopicReplaced
    from streamtrain.kafka import clients
    from streamtrain.kafka.connect import connected
    from streamtrain.kafka.topics import TopicNames, find, trainer_rights, wait_for_topics
    from streamtrain.kafka.transactions import KafkaOffsetLog
    from streamtrain.kafka.waiting import report_waiting, wait_for_cluster

    names = TopicNames(job.stream.job)
    with connected(job) as properties:
        wait_for_cluster(properties, 30, report_waiting(log, lambda _sentence: None))
        existing = find(clients.admin(properties), names, trainer_rights(names))
        if missing := {names.samples, names.splits} - set(existing):
            raise TopicReplaced(
                f"topic {min(missing)} does not exist", remedy="Restore it, or start a new job (stream.job)."
            )
        topics = wait_for_topics(properties, names, threading.Event())
        run = run_of(job)
        committer = Committer(topics, run, KafkaOffsetLog(properties, topics, check=run.check_newest))
        try:
            committer.take_over("rewind")
            committer.rewind(target)
        finally:
            committer.close()


def _pass_id(option: str, text: str) -> PassId:
    import re

    from streamtrain.errors import ConfigError
    from streamtrain.schedule import PassId

    if not re.fullmatch(r"[0-9]{8}/[1-9][0-9]{0,9}", text):
        raise ConfigError(f"{option} {text}: it is not a pass", remedy="Name one as DAY/PASS_ID, 20240131/2.")
    day, _, number = text.partition("/")
    return PassId(day, int(number))


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
    table = _table("model", "kind", "keys", "deleted", "rows", "event time", "patches", "directory")
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
        _print_table(table)
    else:
        typer.echo("no inference models")
    if older:
        typer.echo(f"{older:,} older ones are not listed: --all lists them")


def _table(*names: str) -> Table:
    """A table that wraps what does not fit."""
    from rich import box
    from rich.table import Column, Table

    return Table(*(Column(name, overflow="fold") for name in names), box=box.SIMPLE, pad_edge=False)


def _print_table(table: Table) -> None:
    """As wide as the terminal; 120 columns where there is no terminal."""
    import sys

    from rich.console import Console

    Console(width=None if sys.stdout.isatty() else 120).print(table)
