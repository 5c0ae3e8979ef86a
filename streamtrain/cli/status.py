"""streamtrain status"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import typer

from streamtrain.cli.options import ConfigOption, JsonOption, number, print_json

if TYPE_CHECKING:
    from rich.table import Table

    from streamtrain.runtime.part_state import PartState
    from streamtrain.runtime.status import JobStatus


def command(config: ConfigOption, json: JsonOption = False) -> None:
    """Bridged up to which split, trained up to which pass, the lag between, the newest checkpoint."""
    from dataclasses import asdict

    from rich.console import Console

    from streamtrain.config import load_config
    from streamtrain.errors import KafkaError
    from streamtrain.kafka.clients import wait_for_cluster
    from streamtrain.kafka.connect import properties_of
    from streamtrain.runtime.status import held_back, job_status, parts_status

    job = load_config(config)
    parts = parts_status(job)
    parts_json = {part.part: part.to_json() for part in parts}
    try:
        properties = properties_of(job)
        wait_for_cluster(properties, 10, lambda _seconds: None)
        status = job_status(job, properties)
    except KafkaError as error:
        if json:
            print_json({"job": job.stream.job, "error": str(error), "parts": parts_json})
        else:
            Console().print(_parts_table(parts))
        raise
    problem, transactions = "", []
    try:
        transactions = held_back(job, properties)
    except KafkaError as error:  # it needs more rights than the rest
        problem = str(error)
    if json:
        values: dict[str, Any] = {"open_transactions": [asdict(t) for t in transactions]}
        if problem:
            values = {"open_transactions": None, "open_transactions_error": problem}
        print_json({**status.to_json(), **values, "parts": parts_json})
        return
    Console().print(_job_table(status))
    Console().print(_parts_table(parts))
    if problem:
        typer.echo(problem)
    for t in transactions:
        since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(t.since or t.last_write))
        typer.echo(
            f"{t.topic}, partition {t.partition}: readable to offset {t.readable_to} of {t.end}, held back "
            f"by the open transaction of producer id {t.producer_id} ({t.transactional_id or 'unknown'}) "
            f"{'since' if t.since else 'last written'} {since}"
        )


def _job_table(status: JobStatus) -> Table:
    from rich.table import Table

    bridged, trained, lag, newest = status.bridged, status.trained, status.lag, status.checkpoint
    table = Table(show_header=False, title=f"job {status.job}")
    table.add_row("bridged", f"{bridged.split or 'nothing'} ({bridged.splits} of {bridged.of_splits} splits)")
    table.add_row("", f"{bridged.rows:,} rows, {bridged.rejected:,} lines rejected")
    table.add_row("trained", f"{trained.pass_id or 'nothing'} ({trained.passes} of {trained.of_passes} passes)")
    table.add_row("", f"{trained.rows:,} rows")
    table.add_row("last AUC", f"predict {number(trained.predict_auc)}, train {number(trained.train_auc)}")
    table.add_row("lag", f"{lag.splits} splits, {lag.passes} passes, {lag.rows:,} rows")
    table.add_row("checkpoint", f"{newest.pass_id}, {newest.rows:,} rows, {newest.keys:,} keys" if newest else "none")
    if model := status.inference_model:
        table.add_row("inference model", f"{model['path']}, {model['kind']}, {model['keys']:,} keys")
        table.add_row("", f"of logs up to {model['event_time']}")
    if checked := status.consistency:
        table.add_row("consistency", consistency_text(checked), style=None if checked["ok"] else "red")
    if uploaded := status.upload:
        table.add_row("upload", uploaded["problem"] or uploaded["url"], style="red" if uploaded["problem"] else None)
    return table


def consistency_text(report: dict[str, Any] | None) -> str:
    """Whether the newest compared inference model is the trainer's, in a line."""
    if report is None or "error" in report:
        return f"online against offline: not known: {report['error'] if report else 'nothing was compared'}"
    return (
        f"online against offline: {'agree' if report['ok'] else 'DIFFER'} over {report['rows']:,} rows of "
        f"{report['model']}, largest difference {report['worst']['absolute']:.2g}"
    )


def _parts_table(parts: list[PartState]) -> Table:
    from rich.table import Table

    table = Table("part", "doing", "for", "process", title="parts")
    for part in parts:
        alive = {True: "", False: ", ended", None: f" on {part.host}"}[part.alive]
        table.add_row(part.part, part.doing, f"{time.time() - part.since:.0f} s", f"{part.pid}{alive}")
    return table
