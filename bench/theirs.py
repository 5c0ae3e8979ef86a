"""PaddleRec's own trainer on the same logs: tools/static_ps_online_trainer.py of a checkout that the user names.

Nothing of it is changed but its config: the logs' folder, one day, the interval of a split, the batch size, one thread
in a worker. It ends when its workers have: Paddle's servers do not end by themselves.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import psutil
import yaml

from bench.speed_job import DAY, DONEFILE, Size, link_logs

_TRAINED = re.compile(r"^(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3}) - INFO - finished train epoch", re.M)
_ENDED = "Run Success, Exit."


@dataclass(frozen=True)
class Theirs:
    """end_to_end, in_window: rows a second, as bench.product.Measured has them."""

    whole: float
    end_to_end: float
    in_window: float


def run(checkout: Path, folder: Path, logs: Path, size: Size, roles: int) -> Theirs:
    """With so many servers and workers, in a new folder. Raises SystemExit when it fails."""
    shutil.rmtree(folder, ignore_errors=True)
    model = folder / "models" / "rank" / "slot_dnn"
    shutil.copytree(checkout / "models" / "rank" / "slot_dnn", model, ignore=shutil.ignore_patterns("data"))
    shutil.copytree(checkout / "tools", folder / "tools")
    for split in link_logs(logs, model / "data"):
        (split / DONEFILE).touch()
    path = model / "config_online.yaml"
    config = yaml.safe_load(path.read_text())
    config["runner"].update(
        train_batch_size=256, infer_batch_size=256, checkpoint_per_pass=size.checkpoint_every,
        save_delta_frequency=size.checkpoint_every, train_thread_num=1, split_interval=size.interval, split_per_pass=1,
        start_day=DAY, end_day=DAY, pipe_command=f"{sys.executable} queuedataset_reader.py", print_interval=10_000,
    )  # fmt: skip
    config["hyper_parameters"]["slot_num"] = size.slots
    path.write_text(yaml.safe_dump(config))
    command = [
        str(Path(sys.executable).with_name("fleetrun")), f"--server_num={roles}", f"--worker_num={roles}",
        "--log_dir=log", str(folder / "tools" / "static_ps_online_trainer.py"), "-m", "config_online.yaml",
    ]  # fmt: skip
    since = time.monotonic()
    with (folder / "run.out").open("wb") as out:
        process = subprocess.Popen(
            command, cwd=model, stdout=out, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, start_new_session=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )  # fmt: skip
    log = model / "log" / "workerlog.0"
    try:
        while not (log.exists() and _ENDED in log.read_text("utf-8", "replace")):
            if process.poll() is not None:
                raise SystemExit(f"PaddleRec's trainer ended with {process.returncode}: read {log}")
            time.sleep(0.2)
        whole = time.monotonic() - since
    finally:
        _end(process)
    found = _TRAINED.findall(log.read_text("utf-8", "replace"))
    ends = [datetime.strptime(at, "%Y-%m-%d %H:%M:%S,%f").timestamp() for at in found]
    if len(ends) != size.passes:
        raise SystemExit(f"PaddleRec's trainer has trained {len(ends)} passes of {size.passes}: read {log}")
    later = size.rows * (size.passes - 1)
    return Theirs(whole, size.rows * size.passes / whole, later / (ends[-1] - ends[0]))


def _end(process: subprocess.Popen[bytes]) -> None:
    """And all that it has started."""
    try:
        family = psutil.Process(process.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        family = []
    for each in family:
        try:
            each.send_signal(signal.SIGKILL)
        except psutil.NoSuchProcess:
            continue
    process.kill()
    process.wait()
