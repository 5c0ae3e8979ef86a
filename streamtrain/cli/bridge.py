"""streamtrain bridge"""

from __future__ import annotations

import logging
import threading
from pathlib import Path
from typing import Annotated

import typer

from streamtrain.cli.options import ConfigOption, share, stop_on_signals

log = logging.getLogger("streamtrain.bridge")


def command(
    config: ConfigOption,
    beside: Annotated[
        int, typer.Option(min=0, help="Processors that other parts of the job use here: `run` says it.", hidden=True)
    ] = 0,
) -> None:
    """Mirror the tree of logs into Kafka, split by split, until end_day."""
    stop = stop_on_signals()
    from streamtrain.runtime.child_state import reporting

    with reporting("bridge") as ending:
        ending.stopped = _bridge(config, stop, beside)


def _bridge(config: Path, stop: threading.Event, beside: int) -> bool:
    """Whether it was stopped before all splits were bridged."""
    from rich.console import Console

    from streamtrain.checkpoint.commit import refuse_lost_topics
    from streamtrain.checkpoint.identity import IdentityCheck
    from streamtrain.checkpoint.opening import Readable
    from streamtrain.config import load_config
    from streamtrain.connectors.bridge import Bridge
    from streamtrain.contracts import phases
    from streamtrain.contracts.marker import Marker
    from streamtrain.kafka.clients import admin
    from streamtrain.kafka.connect import properties_of
    from streamtrain.kafka.topics import TopicNames, bridge_rights, find
    from streamtrain.kafka.waiting import report_waiting, wait_for_cluster
    from streamtrain.runtime.part_state import PartReporter, reporting_end
    from streamtrain.schedule import Split
    from streamtrain.stopping import StopWatch

    job = load_config(config)
    console = Console(highlight=False, markup=False, soft_wrap=True)
    printed: set[str] = set()

    def on_split(marker: Marker, seconds: float) -> None:
        revision = f" revision {marker.revision}" if marker.revision else ""
        console.print(
            f"{marker.day}/{marker.time}{revision}: {marker.status}, {marker.rows} rows, "
            f"{marker.rejected} rejected, {seconds:.2f} s"
        )

    def on_wait(split: Split, reason: str, _seconds: float) -> None:
        if split.path not in printed:
            printed.add(split.path)
            console.print(f"{split.path}: waiting ({reason})")

    IdentityCheck(job).newest()
    properties = properties_of(job)
    report = PartReporter(job.state_dir, "bridge")
    with reporting_end(report):
        wait_for_cluster(properties, None, report_waiting(log, report), stop)
        names = TopicNames(job.stream.job)
        existing = StopWatch(stop).call(find, admin(properties), names, bridge_rights(names))
        refuse_lost_topics(Readable(job).checkpoints, existing, names)
        bridge = Bridge(job, properties, stop=stop, beside=beside, on_split=on_split, on_wait=on_wait, on_state=report)
        ledger = bridge.run()
    stopped = ledger.next_sequence < job.schedule.total_splits
    report(phases.STOPPED if stopped else phases.DONE)
    console.print(f"bridged: {share(ledger.next_sequence, job.schedule.total_splits, 'splits')}")
    if stopped:
        console.print(phases.STOPPED)
    return stopped
