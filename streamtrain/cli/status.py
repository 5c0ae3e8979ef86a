"""streamtrain status"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import typer

from streamtrain.cli.options import ConfigOption, JsonOption, number, print_json

if TYPE_CHECKING:
    from rich.table import Table


def command(config: ConfigOption, json: JsonOption = False) -> None:
    """Bridged up to which split, trained up to which pass, the lag between, the newest checkpoint."""
    from rich.console import Console
    from rich.table import Table

    from streamtrain.config import load_config
    from streamtrain.errors import KafkaError
    from streamtrain.kafka.clients import wait_for_cluster
    from streamtrain.kafka.connect import properties_of
    from streamtrain.runtime.status import held_back, job_status, parts_status

    job = load_config(config)
    parts = parts_status(job)
    try:
        properties = properties_of(job)
        wait_for_cluster(properties, 10, lambda _seconds: None)
        found = {**job_status(job, properties), "open_transactions": held_back(job, properties), "parts": parts}
    except KafkaError as error:
        if json:
            print_json({"job": job.stream.job, "error": str(error), "parts": parts})
        else:
            Console().print(_parts_table(parts))
        raise
    if json:
        print_json(found)
        return
    bridged, trained, lag, newest = (found[k] for k in ("bridged", "trained", "lag", "checkpoint"))
    table = Table(show_header=False, title=f"job {found['job']}")
    table.add_row("bridged", f"{bridged['split'] or 'nothing'} ({bridged['splits']} of {bridged['of_splits']} splits)")
    table.add_row("", f"{bridged['rows']:,} rows, {bridged['rejected']:,} lines rejected")
    table.add_row("trained", f"{trained['pass'] or 'nothing'} ({trained['passes']} of {trained['of_passes']} passes)")
    table.add_row("", f"{trained['rows']:,} rows")
    table.add_row("last AUC", f"predict {number(trained['predict_auc'])}, train {number(trained['train_auc'])}")
    table.add_row("lag", f"{lag['splits']} splits, {lag['passes']} passes, {lag['rows']:,} rows")
    table.add_row(
        "checkpoint", f"{newest['pass']}, {newest['rows']:,} rows, {newest['keys']:,} keys" if newest else "none"
    )
    if model := found["inference_model"]:
        table.add_row("inference model", f"{model['path']}, {model['kind']}, {model['keys']:,} keys")
        table.add_row("", f"of logs up to {model['event_time']}")
    if checked := found["consistency"]:
        table.add_row("consistency", consistency_said(checked), style=None if checked["ok"] else "red")
    if uploaded := found["upload"]:
        table.add_row("upload", uploaded["problem"] or uploaded["url"], style="red" if uploaded["problem"] else None)
    Console().print(table)
    Console().print(_parts_table(parts))
    for t in found["open_transactions"]:
        since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(t["since"] or t["last_write"]))
        typer.echo(
            f"{t['topic']}, partition {t['partition']}: readable to offset {t['readable_to']} of {t['end']}, held back "
            f"by the open transaction of producer id {t['producer_id']} ({t['transactional_id'] or 'unknown'}) "
            f"{'since' if t['since'] else 'last written'} {since}"
        )


def consistency_said(found: dict[str, Any] | None) -> str:
    """Whether the newest compared inference model is the trainer's, in a line."""
    if found is None or "error" in found:
        return f"online against offline: not known: {found['error'] if found else 'nothing was compared'}"
    return (
        f"online against offline: {'agree' if found['ok'] else 'DIFFER'} over {found['rows']:,} rows of "
        f"{found['model']}, largest difference {found['worst']['absolute']:.2g}"
    )


def _parts_table(parts: dict[str, Any]) -> Table:
    from rich.table import Table

    table = Table("part", "doing", "for", "process", title="parts")
    for name, part in parts.items():
        alive = {True: "", False: ", ended", None: f" on {part['host']}"}[part["alive"]]
        table.add_row(name, part["doing"], f"{time.time() - part['since']:.0f} s", f"{part['pid']}{alive}")
    return table
