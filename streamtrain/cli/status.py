"""streamtrain status"""

from __future__ import annotations

from streamtrain.cli.options import ConfigOption, JsonOption, number, print_json


def command(config: ConfigOption, json: JsonOption = False) -> None:
    """Bridged up to which split, trained up to which pass, the lag between, the newest checkpoint."""
    from rich.console import Console
    from rich.table import Table

    from streamtrain.config import load_config
    from streamtrain.kafka.clients import wait_for_cluster
    from streamtrain.kafka.connect import properties_of
    from streamtrain.status import job_status

    job = load_config(config)
    properties = properties_of(job)
    wait_for_cluster(properties, 10, lambda _seconds: None)
    found = job_status(job, properties)
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
    Console().print(table)
