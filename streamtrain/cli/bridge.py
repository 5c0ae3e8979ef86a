"""streamtrain bridge"""

from __future__ import annotations

from streamtrain.cli.options import ConfigOption, stop_on_signals


def command(config: ConfigOption) -> None:
    """Mirror the tree of logs into Kafka, split by split, until end_day."""
    from rich.console import Console

    from connectors.bridge import Bridge
    from streamtrain.config import load_config
    from streamtrain.contracts.marker import Marker
    from streamtrain.kafka.connect import properties_of
    from streamtrain.schedule import Split

    job = load_config(config)
    console = Console(highlight=False, markup=False, soft_wrap=True)
    said: set[str] = set()

    def on_split(marker: Marker, seconds: float) -> None:
        revision = f" revision {marker.revision}" if marker.revision else ""
        console.print(
            f"{marker.day}/{marker.time}{revision}: {marker.status}, {marker.rows} rows, "
            f"{marker.rejected} rejected, {seconds:.2f} s"
        )

    def on_wait(split: Split, reason: str, _seconds: float) -> None:
        if split.path not in said:
            said.add(split.path)
            console.print(f"{split.path}: waiting ({reason})")

    bridge = Bridge(job, properties_of(job), stop=stop_on_signals(), on_split=on_split, on_wait=on_wait)
    ledger = bridge.run()
    console.print(f"bridged: {ledger.next_sequence} of {job.schedule.total_splits} splits")
