"""The bridge's largest memory for one split, and for one of ten times the size."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import yaml

from streamtrain.demo.generate import generate
from streamtrain.kafka.embedded import EmbeddedBroker

HERE = Path(__file__).resolve().parent


def peak(folder: Path, broker: EmbeddedBroker, rows: int) -> tuple[float, float]:
    """MB of the split, and of the bridge at its largest."""
    made = generate(folder / "data", start_day="20240101", days=1, split_interval=1440, rows_per_split=rows)
    config = yaml.safe_load((HERE.parent / "models" / "slot_dnn" / "config_online.yaml").read_text())
    config["runner"].update(split_interval=1440, split_per_pass=1, start_day="20240101", end_day="20240101")
    config["stream"]["job"] = folder.name
    config["kafka"] = {"bootstrap.servers": broker.bootstrap}
    path = folder / "config_online.yaml"
    path.write_text(yaml.safe_dump(config))
    bridge = subprocess.Popen([sys.executable, "-m", "streamtrain.cli.main", "bridge", "-m", str(path)])
    _, status, usage = os.wait4(bridge.pid, 0)
    if status:
        raise SystemExit("the bridge failed")
    return made.bytes / 1e6, usage.ru_maxrss / 1024


def main() -> None:
    with tempfile.TemporaryDirectory() as root, EmbeddedBroker(Path(root) / "kafka") as broker:
        for name, rows in (("small", 3000), ("large", 30000)):
            size, memory = peak(Path(root) / name, broker, rows)
            print(f"a split of {size:6.0f} MB: bridge {memory:6.0f} MB at most")


if __name__ == "__main__":
    main()
