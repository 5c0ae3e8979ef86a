"""streamtrain checkpoints rewind"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Annotated

import typer

from streamtrain.cli.options import ConfigOption, JsonOption, pass_id_of, print_json

if TYPE_CHECKING:
    from streamtrain.config import JobConfig
    from streamtrain.schedule import PassId

log = logging.getLogger("streamtrain.checkpoints")


def command(
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
    target = pass_id_of("--to", to) if to != "nothing" else None
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
