"""streamtrain config check"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from streamtrain.cli.options import ConfigOption, JsonOption, print_json
from streamtrain.cli.warm_table import warm_table

if TYPE_CHECKING:
    from streamtrain.config import JobConfig
    from streamtrain.contracts.warmup import WarmStart
    from streamtrain.engine.dry_build import BuildReport

app = typer.Typer(help="The config file.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    """The config file."""


@app.command("check")
def check(
    config: ConfigOption,
    no_model: Annotated[bool, typer.Option("--no-model", help="Do not build the model, which takes seconds.")] = False,
    json: JsonOption = False,
) -> None:
    """Show the config as understood, secrets masked, or all that is wrong with the job, found without starting it.

    Exit code 2 when anything is wrong, a line each: keys, folders, Kafka's properties, the parse function, the model,
    which is built in a process of its own.
    """
    from rich.console import Console

    from streamtrain.config import ConfigProblems, load_config
    from streamtrain.errors import ConfigError, StreamtrainError
    from streamtrain.masking import printable
    from streamtrain.runtime import preflight
    from streamtrain.runtime.model_build import build_model

    job: JobConfig | None = None
    model: BuildReport | None = None
    start: WarmStart | None = None
    try:
        job = load_config(config)
        found = [str(error) for error in preflight.problems(job)]
        if not no_model and (model := build_model(job)) is not None:
            found += [str(error) for error in preflight.problems_of(model)]
            if not model.problems:
                try:
                    start = preflight.warm_start(job, model)
                except StreamtrainError as error:
                    found.append(str(error))
    except ConfigProblems as error:
        found = [*error.problems, *(str(e) for e in preflight.kafka_problems(error.kafka))]
    except ConfigError as error:
        found = [str(error)]
    found = list(dict.fromkeys(found))
    if json:
        print_json(_document(found, job, model, start))
    elif job is not None and not found:
        _print(job, model)
        if start is not None:
            Console().print(warm_table(start))
    else:
        typer.echo("\n  ".join([f"error: {printable(str(config))} has {len(found)} problem(s):", *found]), err=True)
        if job is None:
            typer.echo("Folders, data and the model were not checked: correct these first.", err=True)
    if found:
        raise typer.Exit(ConfigError.exit_code)


def _document(
    found: list[str], job: JobConfig | None, model: BuildReport | None, start: WarmStart | None
) -> dict[str, Any]:
    from dataclasses import asdict

    document: dict[str, Any] = {"problems": found}
    if job is not None:
        document |= {**job.masked(), "no_effect": job.no_effect}
    if model is not None and not model.problems:
        document["model"] = {"slots": model.slots, "embedding_width": model.width, "dense_parameters": model.dense}
        if model.network is not None:
            document["model"] |= {**asdict(model.network), "notes": model.notes}
    if start is not None:
        document["warm_start"] = asdict(start)
    return document


def _print(job: JobConfig, model: BuildReport | None) -> None:
    import math

    import yaml

    typer.echo(yaml.safe_dump(job.masked(), sort_keys=False, allow_unicode=True), nl=False)
    typer.echo(f"# {job.schedule.total_splits} splits, {job.schedule.total_passes} passes, {len(job.slots)} slots")
    if model is not None:
        numbers = sum(math.prod(shape) for shape in model.dense.values())
        tables = model.network.tables if model.network is not None else ()
        widths = ", ".join(str(table.width) for table in tables) or str(model.width)
        typer.echo(
            f"# the model builds: {model.slots} slots, embeddings of {widths} numbers, {len(model.dense)} dense "
            f"parameters of {numbers:,} numbers"
        )
        for line in (*_of_network(model), *(f"note: {note}" for note in model.notes)):
            typer.echo(f"# {line}")
    for key in job.no_effect:
        typer.echo(f"# {key}: has no effect here")


def _of_network(model: BuildReport) -> Iterator[str]:
    """What a network has beyond show, click and slots in one table: a line each."""
    network = model.network
    if network is None or network.is_usual:
        return
    names = {
        kind: [feed for feed in network.feeds if feed.kind == kind] for kind in ("label", "slot", "dense", "weight")
    }
    yield f"labels: {', '.join(feed.name for feed in names['label'])}"
    slots = (f"{feed.name} ({feed.slot}{'' if feed.sequence else f', {feed.width} a row'})" for feed in names["slot"])
    yield f"slots: {', '.join(slots)}"
    if names["dense"]:
        yield f"floats: {', '.join(f'{feed.name} ({feed.width})' for feed in names['dense'])}"
    if names["weight"]:
        yield f"weight: {names['weight'][0].name}"
    for table in network.tables:
        yield f"table {table.name}: {table.width} numbers; {table}"
