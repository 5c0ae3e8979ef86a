"""The consistency check apart from a running job: the newest checkpoint is loaded into a fresh server, a worker
computes rows of the logs, and the inference model that was published with the checkpoint computes them once more."""

from __future__ import annotations

import logging
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from streamtrain.checkpoint.identity import identity_of, refuse_other_job
from streamtrain.checkpoint.opening import Readable
from streamtrain.checkpoint.store import Checkpoint, CheckpointStore
from streamtrain.config import JobConfig
from streamtrain.connectors.formats import Row, line_parser
from streamtrain.connectors.lines import numbered_lines, parsed
from streamtrain.connectors.source import SourceReader
from streamtrain.connectors.tree import Tree
from streamtrain.consistency.compare import Consistency, compare
from streamtrain.consistency.sample import write_feeds
from streamtrain.contracts.network import NetworkFeed, click_feeds
from streamtrain.contracts.sample import SampleDecoder
from streamtrain.errors import CheckpointError, ChildFailed, DataError, TrainingError
from streamtrain.feed.multislot import MultiSlotWriter
from streamtrain.runtime import child_state
from streamtrain.runtime.child_state import ChildState
from streamtrain.runtime.roles import end_roles, start_roles

log = logging.getLogger("streamtrain.consistency")

ROLE_SCRIPT = Path(__file__).with_name("dump_role.py")
#: Keys that are fixed for a job and say nothing of what a row's prediction is.
_NOT_COMPUTED = frozenset({"stream.job", "stream.partitions"})
#: Seconds that the roles may take to start, load and compute.
ROLES_S = 600.0


def check_consistency(config: JobConfig, rows: int, tolerance: float) -> Consistency:
    """The newest valid checkpoint that was published with an inference model, on the newest `rows` rows up to it.

    Raises JobChanged when the checkpoint is of another job, CheckpointError when there is none, DataError when the logs
    have no row, ChildFailed for a role's error.
    """
    job = Readable(config)
    checkpoint = job.fetch(_newest(job.checkpoints))
    assert checkpoint.manifest is not None
    refuse_other_job(config, lambda key: key not in _NOT_COMPUTED, checkpoint)
    config.spool_dir.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="consistency-", dir=config.spool_dir) as name:
        folder = Path(name)
        written = 0
        with (folder / "sample.txt").open("wb") as out:
            for line in sample_lines(config, checkpoint, rows):
                out.write(line)
                written += 1
        if not written:
            raise DataError(f"{config.data_dir} has no rows up to pass {checkpoint.id}")
        write_feeds(folder / "sample.txt", _feeds(config, checkpoint))
        log.info("%d rows of the logs up to pass %s are computed", written, checkpoint.id)
        run_roles(config, checkpoint.path, folder)
        digest = checkpoint.manifest.models[-1].digest
        return compare(config.models or job.root, digest, folder / "sample.txt", folder / "dump", tolerance)


def _newest(store: CheckpointStore) -> Checkpoint:
    for checkpoint, problem in store.newest_first():
        if problem is not None:
            log.warning("checkpoint %s is skipped: %s", checkpoint.id, problem)
        elif checkpoint.manifest is not None and checkpoint.manifest.models:
            return checkpoint
    raise CheckpointError(
        f"{store.where} has no checkpoint that was published with an inference model",
        remedy="Set runner.save_delta_frequency, or wait for a day's end; stream.inference_model must not be none.",
    )


def sample_lines(config: JobConfig, checkpoint: Checkpoint, rows: int) -> Iterator[bytes]:
    """MultiSlot text with ins_ids, day/time/file/line: of the newest splits up to the checkpoint's pass."""
    schedule = config.schedule
    tree = Tree(config.data, config.runner.data_donefile, config.stream.ignore_files)
    parse = line_parser(config.line_format, config.layout, reject_unknown=config.stream.unknown_slot == "reject")
    decoder = SampleDecoder(layout=config.layout)
    writer = MultiSlotWriter(_feeds(config, checkpoint), config.layout)
    remaining = rows
    for sequence in range(schedule.last_sequence(checkpoint.id), -1, -1):
        split = schedule.split(sequence)
        for number, file in enumerate(tree.files(split)):
            name = tree.name(split, file.path)
            with tree.open(split, file.path) as raw:
                numbered = numbered_lines(SourceReader(raw, name), None, name, parse)
                for line_number, _, row in parsed(numbered, parse, name):
                    if not isinstance(row, Row):
                        continue
                    batch = decoder.decode([row.encode(number, line_number)])
                    yield writer.text(batch, [f"{split.path}/{number}/{line_number}".encode()])
                    remaining -= 1
                    if not remaining:
                        return


def _feeds(config: JobConfig, checkpoint: Checkpoint) -> Sequence[NetworkFeed]:
    """The network's, as the checkpoint's job.json has them; without them they are show, click and the slots."""
    found = identity_of(checkpoint)
    return click_feeds(config.slots) if found is None or found.network is None else found.network.feeds


def run_roles(config: JobConfig, checkpoint: Path, folder: Path) -> None:
    """A server and a worker until the dump is written; both have ended when it returns.

    Raises ChildFailed with a role's error, TrainingError when they end without one.
    """
    run_dir, log_dir = folder / "run", folder / "log"
    run_dir.mkdir()
    roles = start_roles(
        ROLE_SCRIPT, [str(config.path), str(checkpoint), str(folder)], servers=1, workers=1, run_dir=run_dir,
        log_dir=log_dir, cwd=config.path.parent,
    )  # fmt: skip
    try:
        deadline = time.monotonic() + ROLES_S
        while (end := _end_of(child_state.read(run_dir))) is None:
            if roles.ended() or time.monotonic() > deadline:
                end = _end_of(child_state.read(run_dir))  # it may have come right after the first reading
                break
            time.sleep(0.1)
    finally:
        end_roles(roles, run_dir)
    if end is None:
        logs = [p.read_text("utf-8", "replace") for p in sorted(log_dir.glob("*.0"))]
        lines = [line for text in logs for line in text.splitlines()]
        raise TrainingError(f"the roles ended without a dump: {lines[-1] if lines else 'their logs are empty'}")
    if end.state == "failed":
        raise ChildFailed(end.message, end.exit_code)


def _end_of(states: list[ChildState]) -> ChildState | None:
    """The first failure, or the worker's good end."""
    return next((s for s in states if s.state == "failed" or (s.kind == "worker" and s.state == "done")), None)
