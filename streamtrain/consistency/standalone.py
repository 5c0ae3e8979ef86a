"""The consistency check apart from a running job: the newest checkpoint is loaded into a server of its own, a worker
computes rows of the logs, and the inference model that was published with it computes them once more."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from streamtrain.checkpoint.store import Checkpoint, CheckpointStore
from streamtrain.config import JobConfig
from streamtrain.connectors.formats import RejectError, line_parser
from streamtrain.connectors.tree import MAX_LINE, SourceReader, Tree
from streamtrain.consistency.compare import Consistency, compare
from streamtrain.contracts.sample import SampleBatch
from streamtrain.engine.environment import engine_environment
from streamtrain.errors import CheckpointError, DataError, StreamtrainError, TrainingError
from streamtrain.feed.multislot import MultiSlotWriter
from streamtrain.processes import die_with_parent, end_family
from streamtrain.runtime import role_state

log = logging.getLogger("streamtrain.consistency")

ROLE_SCRIPT = Path(__file__).with_name("dump_role.py")
#: Seconds that the roles may take to start, load and compute.
ROLES_S = 600.0


class RoleFailed(StreamtrainError):
    """An error of the role, with its exit code."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


def check_consistency(config: JobConfig, rows: int, tolerance: float) -> Consistency:
    """The newest whole checkpoint that was published with an inference model, on the newest `rows` rows up to it.

    Raises CheckpointError when there is none, DataError when the logs have no row, what the roles raise.
    """
    store = CheckpointStore(config.model_save_path)
    checkpoint = _newest(store)
    assert checkpoint.manifest is not None
    config.spool_dir.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="consistency-", dir=config.spool_dir) as name:
        folder = Path(name)
        written = 0
        with (folder / "sample.txt").open("wb") as out:
            for line in sample_lines(config, checkpoint, rows):
                out.write(line)
                written += 1
        if not written:
            raise DataError(f"{config.data_dir} has no rows up to pass {checkpoint.of}")
        log.info("%d rows of the logs up to pass %s are computed", written, checkpoint.of)
        run_roles(config, checkpoint.path, folder)
        digest = checkpoint.manifest.models[-1].digest
        return compare(store.root, digest, folder / "sample.txt", folder / "dump", tolerance)


def _newest(store: CheckpointStore) -> Checkpoint:
    for checkpoint, problem in store.newest_first():
        if problem is not None:
            log.warning("checkpoint %s is passed over: %s", checkpoint.of, problem)
        elif checkpoint.manifest is not None and checkpoint.manifest.models:
            return checkpoint
    raise CheckpointError(
        f"{store.root} has no checkpoint that was published with an inference model",
        remedy="Set runner.save_delta_frequency, or wait for a day's end; stream.inference_model must not be none.",
    )


def sample_lines(config: JobConfig, checkpoint: Checkpoint, rows: int) -> Iterator[bytes]:
    """MultiSlot text with ins_ids, day/time/file/line: of the newest splits up to the checkpoint's pass."""
    schedule = config.schedule
    tree = Tree(config.data_dir, config.runner.data_donefile)
    parse = line_parser(config.stream.format, config.slots, reject_unknown=config.stream.unknown_slot == "reject")
    writer = MultiSlotWriter(config.slots)
    left = rows
    for sequence in range(schedule.last_sequence(checkpoint.of), -1, -1):
        split = schedule.split(sequence)
        for number, file in enumerate(tree.files(split)):
            name = tree.name(split, file.path)
            with tree.open(split, file.path) as raw:
                for line_number, line in enumerate(SourceReader(raw, name).lines(), 1):
                    if not line.strip() or len(line) > MAX_LINE:
                        continue
                    try:
                        row = parse(line)
                    except RejectError:
                        continue
                    slots, feasigns = np.frombuffer(row.slots, "<u2"), np.frombuffer(row.feasigns, "<u8")
                    batch = SampleBatch(np.array([row.label]), np.array([len(slots)]), slots, feasigns)
                    yield writer.text(batch, [f"{split.path}/{number}/{line_number}".encode()])
                    left -= 1
                    if not left:
                        return


def run_roles(config: JobConfig, checkpoint: Path, folder: Path) -> None:
    """A server and a worker, by Paddle's launcher, until the dump is there; nothing of them is left.

    Raises RoleFailed with what a role says, TrainingError when it says nothing.
    """
    mark = f"{folder}-{uuid.uuid4().hex}"
    root = str(ROLE_SCRIPT.parents[2])
    environment = {
        **os.environ,
        **engine_environment(),
        role_state.ENVIRONMENT: mark,
        "PYTHONPATH": os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH", "")])),
    }
    command = [
        sys.executable, "-m", "paddle.distributed.launch", "--run_mode", "ps", "--server_num", "1", "--trainer_num",
        "1", "--log_dir", str(folder / "log"), str(ROLE_SCRIPT), str(config.path), str(checkpoint), str(folder),
    ]  # fmt: skip
    with (folder / "launcher.log").open("wb") as out:
        launcher = subprocess.Popen(
            command, env=environment, cwd=config.path.parent, stdin=subprocess.DEVNULL, stdout=out,
            stderr=subprocess.STDOUT, start_new_session=True, preexec_fn=die_with_parent,
        )  # fmt: skip
    try:
        deadline = time.monotonic() + ROLES_S
        while not (folder / "done").exists() and not (folder / "failed").exists():
            if launcher.poll() is not None or time.monotonic() > deadline:
                break
            time.sleep(0.1)
    finally:
        end_family(launcher, role_state.ENVIRONMENT, mark)
    if (folder / "failed").exists():
        code, _, message = (folder / "failed").read_text().partition(" ")
        raise RoleFailed(message, int(code))
    if not (folder / "done").exists():
        logs = [p.read_text("utf-8", "replace") for p in sorted((folder / "log").glob("*.0"))]
        said = [line for text in logs for line in text.splitlines()]
        raise TrainingError(f"the roles ended without a dump: {said[-1] if said else 'nothing was said'}")
