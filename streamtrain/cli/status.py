"""streamtrain status"""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Any

import typer

from streamtrain.cli.options import ConfigOption, JsonOption, number, print_json, share
from streamtrain.cli.warm_table import warm_table

if TYPE_CHECKING:
    from rich.table import Table

    from streamtrain.config import JobConfig
    from streamtrain.contracts.metrics import Metrics
    from streamtrain.runtime.part_state import PartState
    from streamtrain.runtime.status import JobStatus

log = logging.getLogger("streamtrain.status")


def command(config: ConfigOption, json: JsonOption = False) -> None:
    """Bridged up to which split, trained up to which pass, the lag between, the newest checkpoint."""
    from dataclasses import asdict

    from rich.console import Console

    from streamtrain.config import load_config
    from streamtrain.errors import KafkaError
    from streamtrain.runtime.status import held_back, parts_status
    from streamtrain.stopping import StopWatch

    job = load_config(config)
    parts = parts_status(job)
    try:
        status, properties = _ask(job, parts)
    except KafkaError as error:
        parts = parts_status(job)  # seconds have passed: what they wait for is known by now
        if json:
            print_json({"job": job.stream.job, "error": str(error), "parts": _parts_json(parts)})
        else:
            Console().print(_parts_table(parts))
        raise
    problem, transactions = "", []
    try:
        if properties is not None:
            transactions = StopWatch().call(held_back, job, properties)
    except KafkaError as error:  # it needs more rights than the rest
        problem = str(error)
    if json:
        values: dict[str, Any] = {"open_transactions": [asdict(t) for t in transactions]}
        if problem:
            values = {"open_transactions": None, "open_transactions_error": problem}
        print_json({**status.to_json(), "summary": summary(status, parts), **values, "parts": _parts_json(parts)})
        return
    typer.echo(summary(status, parts))
    if status.started:
        Console().print(_job_table(status))
        if status.warm_start is not None:
            Console().print(warm_table(status.warm_start))
    if parts:
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


def _ask(job: JobConfig, parts: list[PartState]) -> tuple[JobStatus, dict[str, str] | None]:
    """Of Kafka, whose properties it returns; of the disk alone, and None, when the embedded broker has ended with the
    job. Raises KafkaError when the job's parts run and Kafka does not answer."""
    from streamtrain.kafka.connect import properties_of
    from streamtrain.kafka.embedded import find_process
    from streamtrain.kafka.waiting import report_waiting, wait_for_cluster
    from streamtrain.runtime.status import job_status, status_on_disk
    from streamtrain.stopping import StopWatch

    if job.embedded and find_process(job.broker_dir) is None and not any(part.alive for part in parts):
        return status_on_disk(job, f"the embedded Kafka in {job.broker_dir} is not running"), None
    properties = properties_of(job)
    wait_for_cluster(properties, 10, report_waiting(log, lambda _sentence: None))
    return StopWatch().call(job_status, job, properties), properties  # in a thread: Ctrl-C ends the wait for it


def summary(status: JobStatus, parts: list[PartState]) -> str:
    """How the job is, in a sentence or two."""
    trained = status.trained
    if not status.started and not parts:
        where = status.without_kafka or "Kafka has none of its topics"
        return (
            f"job {status.job}: nothing was started yet: {where}, and there is no checkpoint. "
            "`streamtrain run`, or `streamtrain bridge`, starts it."
        )
    if not status.started:
        how = f"nothing was bridged or trained yet; {_how(parts)}"
    elif trained.passes >= trained.of_passes and not _has_failed(parts):
        later = trained.passes - trained.of_passes
        how = f"done: all {trained.of_passes} passes are trained" + (f", and {later} after end_day" if later else "")
    else:
        how = _how(parts)
    kafka = f". What follows is what is on disk: {status.without_kafka}." if status.without_kafka is not None else ""
    return f"job {status.job}: {how.rstrip('.') if kafka else how}{kafka}"


def _has_failed(parts: list[PartState]) -> bool:
    """Whether the newest word of the parts is an error."""
    from streamtrain.contracts import phases

    last = max(parts, key=lambda part: part.since, default=None)
    return last is not None and last.alive is False and last.doing.startswith(phases.FAILED)


def _how(parts: list[PartState]) -> str:
    """Whether a part runs, else how the last one ended."""
    from streamtrain.contracts import phases

    if any(part.alive for part in parts):
        return "running"
    if any(part.alive is None for part in parts):
        return "it runs on another machine, or has ended there"
    last = max(parts, key=lambda part: part.since, default=None)
    if last is None:
        return "nothing of it runs on this machine"
    if last.doing in (phases.DONE, phases.STOPPED) or last.doing.startswith(phases.FAILED):
        return f"ended; {last.part}: {last.doing}"
    return f"ended without a word, killed perhaps; {last.part} was last: {last.doing}"


def _job_table(status: JobStatus) -> Table:
    from rich.table import Column, Table

    bridged, trained, lag, newest = status.bridged, status.trained, status.lag, status.checkpoint
    table = Table("", Column(overflow="fold"), show_header=False, title=f"job {status.job}")
    if bridged is not None:
        table.add_row("bridged", f"{bridged.split or 'nothing'} ({share(bridged.splits, bridged.of_splits, 'splits')})")
        table.add_row("", f"{bridged.rows:,} rows, {bridged.rejected:,} lines rejected")
    else:
        table.add_row("bridged", "not known")
    table.add_row("trained", f"{trained.pass_id or 'nothing'} ({share(trained.passes, trained.of_passes, 'passes')})")
    table.add_row("", f"{trained.rows:,} rows")
    table.add_row("last AUC", f"predict {number(trained.predict_auc)}, train {number(trained.train_auc)}")
    for name, label in trained.labels.items():
        table.add_row(name, f"predict {metrics_text(label.predict)}")
        if label.train is not None:
            table.add_row("", f"train {metrics_text(label.train)}")
    if lag is not None:
        table.add_row("lag", f"{lag.splits} splits, {lag.passes} passes, {lag.rows:,} rows")
    table.add_row("checkpoint", f"{newest.pass_id}, {newest.rows:,} rows, {newest.keys:,} keys" if newest else "none")
    if status.checkpoint_problem:
        table.add_row("", status.checkpoint_problem, style="red")
    if model := status.inference_model:
        table.add_row("inference model", f"{model['path']}, {model['kind']}, {model['keys']:,} keys")
        table.add_row("", f"of logs up to {model['event_time']}")
    if checked := status.consistency:
        table.add_row("consistency", consistency_text(checked), style=None if checked["ok"] else "red")
    if uploaded := status.upload:
        table.add_row("upload", uploaded["problem"] or uploaded["url"], style="red" if uploaded["problem"] else None)
    return table


def metrics_text(metrics: Metrics) -> str:
    """A label's metrics in a line."""
    gauc = f", GAUC {number(metrics.gauc)}" if metrics.gauc is not None else ""
    return (
        f"AUC {number(metrics.auc)}{gauc}, COPC {number(metrics.copc)}, MAE {number(metrics.mae)}, "
        f"RMSE {number(metrics.rmse)}, CTR actual {number(metrics.actual_ctr)}, predicted "
        f"{number(metrics.predicted_ctr)}, bucket error {number(metrics.bucket_error)}, {metrics.rows:,} rows"
    )


def consistency_text(report: dict[str, Any] | None) -> str:
    """Whether the newest compared inference model is the trainer's, in a line."""
    if report is None or "error" in report:
        return f"online against offline: not known: {report['error'] if report else 'nothing was compared'}"
    return (
        f"online against offline: {'agree' if report['ok'] else 'DIFFER'} over {report['rows']:,} rows of "
        f"{report['model']}, largest difference {report['worst']['absolute']:.2g}"
    )


def _parts_json(parts: list[PartState]) -> dict[str, Any]:
    return {part.part: part.to_json() for part in parts}


def _parts_table(parts: list[PartState]) -> Table:
    from rich.table import Column, Table

    table = Table("part", Column("doing", overflow="fold"), "for", "process", title="parts")
    for part in parts:
        alive = {True: "", False: ", ended", None: f" on {part.host}"}[part.alive]
        table.add_row(part.part, part.doing, f"{time.time() - part.since:.0f} s", f"{part.pid}{alive}")
    return table
