"""PaddleRec's own trainer on the same logs: tools/static_ps_online_trainer.py of a checkout that the user names.

Nothing of it is changed but its config: the logs' folder, one day, the interval of a split, the batch size, one thread
in a worker. It runs in a Python of its own, which docs/performance.md makes: its metrics need an older NumPy. It is
ended with its last model: Paddle's servers do not end by themselves. With two workers it dies in most runs: one hands
rows to the other before that one waits for them.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import time
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import psutil
import yaml

from bench.speed_job import DAY, Size

_TRAINED = re.compile(r"^(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3}) - INFO - finished train epoch", re.M)
#: The last thing that it does; it may die of the data that it has read ahead.
_ENDED = " - INFO - finished save batch model day"
#: Workers that join before the server listens die: so many starts, of which the last one is measured.
STARTS = 8


@dataclass(frozen=True)
class Theirs:
    """end_to_end, in_window: rows a second, as bench.product.Measured has them."""

    whole: float
    end_to_end: float
    in_window: float


#: From Python 3.9 on Paddle's import quiets the root logger, by which the trainer says what it has done.
_LOGS = """import logging
logging.basicConfig(format="%(asctime)s - %(levelname)s - %(message)s", level=logging.INFO)
logging.root.setLevel = lambda level: None
"""
#: What its trainer imports and calls, and how it must answer.
_NEEDED = "import math, numpy, paddle, six, yaml; math.sqrt(numpy.ones(1))"


def check(checkout: Path, python: Path) -> None:
    """Before anything is measured. Raises SystemExit when the trainer is not there, or cannot run."""
    if not (trainer := checkout / "tools" / "static_ps_online_trainer.py").exists():
        raise SystemExit(f"{trainer} is missing: --paddlerec takes a checkout of PaddleRec")
    if not python.exists() or not python.with_name("fleetrun").exists():
        raise SystemExit(f"there is no {python}, or no fleetrun beside it")
    tried = subprocess.run([str(python), "-W", "ignore", "-c", _NEEDED], capture_output=True, text=True, check=False)
    if tried.returncode:
        raise SystemExit(
            f"PaddleRec's trainer cannot run with {python}: {tried.stderr.strip()[-300:]}\n"
            "Make a Python for it as docs/performance.md says, and name it with --paddlerec-python."
        )


def run(checkout: Path, python: Path, folder: Path, logs: Path, size: Size, roles: int) -> Theirs:
    """With so many servers and workers, in a new folder. python: has what it imports. Raises SystemExit with its
    log's last lines when it fails."""
    shutil.rmtree(folder, ignore_errors=True)
    model = folder / "models" / "rank" / "slot_dnn"
    shutil.copytree(checkout / "models" / "rank" / "slot_dnn", model, ignore=shutil.ignore_patterns("data"))
    shutil.copytree(checkout / "tools", folder / "tools")
    _deal(logs, model / "data", roles)
    after = datetime.strptime(DAY, "%Y%m%d") + timedelta(days=1)
    (model / "data" / f"{after:%Y%m%d}" / "0000").mkdir(parents=True)  # it reads ahead, and needs the folder
    path = model / "config_online.yaml"
    config = yaml.safe_load(path.read_text())
    config["runner"].update(
        train_batch_size=256, infer_batch_size=256, checkpoint_per_pass=size.checkpoint_every,
        save_delta_frequency=size.checkpoint_every, train_thread_num=1, split_interval=size.interval, split_per_pass=1,
        start_day=DAY, end_day=DAY, pipe_command=f"{python} queuedataset_reader.py", print_interval=10_000,
    )  # fmt: skip
    config["hyper_parameters"]["slot_num"] = size.slots
    path.write_text(yaml.safe_dump(config))
    (folder / "sitecustomize.py").write_text(_LOGS)
    command = [
        str(python.with_name("fleetrun")), f"--server_num={roles}", f"--worker_num={roles}",
        "--log_dir=log", str(folder / "tools" / "static_ps_online_trainer.py"), "-m", "config_online.yaml",
    ]  # fmt: skip
    log = model / "log" / "workerlog.0"
    for start in range(STARTS):
        if (whole := _run_once(command, model, log, folder)) is not None:
            break
        if start + 1 == STARTS or (log.exists() and _TRAINED.search(log.read_text("utf-8", "replace"))):
            raise SystemExit(f"PaddleRec's trainer ended before its last pass:\n{_last(log)}")
    found = _TRAINED.findall(log.read_text("utf-8", "replace"))
    ends = [datetime.strptime(at, "%Y-%m-%d %H:%M:%S,%f").timestamp() for at in found]
    if len(ends) != size.passes:
        raise SystemExit(f"PaddleRec's trainer has trained {len(ends)} passes of {size.passes}:\n{_last(log)}")
    later = size.rows * (size.passes - 1)
    return Theirs(whole, size.rows * size.passes / whole, later / (ends[-1] - ends[0]))


def _deal(logs: Path, data: Path, files: int) -> None:
    """The same lines in so many files a split: a worker without one dies while it exchanges rows with the others."""
    for file in logs.rglob("part-*"):
        lines = file.read_bytes().splitlines(keepends=True)
        folder = data / file.parent.relative_to(logs)
        folder.mkdir(parents=True)
        for number in range(files):
            (folder / f"part-{number}").write_bytes(b"".join(lines[number::files]))


def _run_once(command: list[str], model: Path, log: Path, folder: Path) -> float | None:
    """Seconds from the start to the last model; None when it ended before."""
    shutil.rmtree(log.parent, ignore_errors=True)
    shutil.rmtree(model / "output_model", ignore_errors=True)
    (model / "output_model").mkdir()  # its workers make it both at once, and one dies of it
    since = time.monotonic()
    with (folder / "run.out").open("wb") as out:
        process = subprocess.Popen(
            command, cwd=model, stdout=out, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, start_new_session=True,
            env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(folder)},
        )  # fmt: skip
    try:
        while not (log.exists() and _ENDED in log.read_text("utf-8", "replace")):
            if process.poll() is not None:
                return None
            time.sleep(0.2)
        return time.monotonic() - since
    finally:
        _end(process)


def _last(log: Path) -> str:
    return "\n".join(log.read_text("utf-8", "replace").splitlines()[-20:]) if log.exists() else "it wrote no log"


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
