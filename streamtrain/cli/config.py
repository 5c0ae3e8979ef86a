"""streamtrain config check"""

from __future__ import annotations

import typer

from streamtrain.cli.options import ConfigOption, JsonOption, print_json

app = typer.Typer(help="The config file.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    """The config file."""


@app.command("check")
def check(config: ConfigOption, json: JsonOption = False) -> None:
    """Show the config as understood, secrets masked; name every unknown or ill-typed key."""
    import yaml

    from streamtrain.config import load_config

    job = load_config(config)
    if not job.embedded:
        job.kafka()
    slots = len(job.slots)
    if json:
        print_json({**job.masked(), "no_effect": job.no_effect})
        return
    typer.echo(yaml.safe_dump(job.masked(), sort_keys=False, allow_unicode=True), nl=False)
    typer.echo(f"# {job.schedule.total_splits} splits, {job.schedule.total_passes} passes, {slots} slots")
    for key in job.no_effect:
        typer.echo(f"# {key}: has no effect here")
