"""streamtrain config check"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from streamtrain.cli.options import ConfigOption, JsonOption, print_json

if TYPE_CHECKING:
    from streamtrain.config import JobConfig
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
    from streamtrain.config import ConfigProblems, load_config
    from streamtrain.errors import ConfigError
    from streamtrain.masking import printable
    from streamtrain.runtime import preflight
    from streamtrain.runtime.model_build import build_model

    job: JobConfig | None = None
    model: BuildReport | None = None
    try:
        job = load_config(config)
        found = [str(error) for error in preflight.problems(job)]
        if not no_model and (model := build_model(job)) is not None:
            found += [str(error) for error in preflight.problems_of(model)]
    except ConfigProblems as error:
        found = [*error.problems, *(str(e) for e in preflight.kafka_problems(error.kafka))]
    except ConfigError as error:
        found = [str(error)]
    found = list(dict.fromkeys(found))
    if json:
        print_json(_document(found, job, model))
    elif job is not None and not found:
        _print(job, model)
    else:
        typer.echo("\n  ".join([f"error: {printable(str(config))} has {len(found)} problem(s):", *found]), err=True)
        if job is None:
            typer.echo("Folders, data and the model were not checked: correct these first.", err=True)
    if found:
        raise typer.Exit(ConfigError.exit_code)


def _document(found: list[str], job: JobConfig | None, model: BuildReport | None) -> dict[str, Any]:
    document: dict[str, Any] = {"problems": found}
    if job is not None:
        document |= {**job.masked(), "no_effect": job.no_effect}
    if model is not None and not model.problems:
        document["model"] = {"slots": model.slots, "embedding_width": model.width, "dense_parameters": model.dense}
    return document


def _print(job: JobConfig, model: BuildReport | None) -> None:
    import math

    import yaml

    typer.echo(yaml.safe_dump(job.masked(), sort_keys=False, allow_unicode=True), nl=False)
    typer.echo(f"# {job.schedule.total_splits} splits, {job.schedule.total_passes} passes, {len(job.slots)} slots")
    if model is not None:
        numbers = sum(math.prod(shape) for shape in model.dense.values())
        typer.echo(
            f"# the model builds: {model.slots} slots, embeddings of {model.width} numbers, {len(model.dense)} dense "
            f"parameters of {numbers:,} numbers"
        )
    for key in job.no_effect:
        typer.echo(f"# {key}: has no effect here")
