"""What a job's age costs: seconds of a start, of `status` and of a list after 0, 10^4 and 10^5 splits of 5 minutes.

Everything that grows with a job is made by the project's own encoders, a pass a split: the marker log, the tree of
logs, passes.jsonl, checkpoints, inference models' lines, donefile.txt. A table, and build/age.json.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import io
import json
import random
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from datetime import date, timedelta
from pathlib import Path
from unittest.mock import patch

import numpy as np
import orjson

from streamtrain.checkpoint.commit import Committer
from streamtrain.checkpoint.identity import IdentityCheck
from streamtrain.checkpoint.journal import Journal, PassRecord, pack
from streamtrain.checkpoint.published import PublishedModels
from streamtrain.checkpoint.runs import Run
from streamtrain.checkpoint.store import DONEFILE, CheckpointStore
from streamtrain.cli.main import main as streamtrain
from streamtrain.config import JobConfig
from streamtrain.connectors.bridge import Bridge
from streamtrain.contracts.donefiles import DONEFILES, DoneLine
from streamtrain.contracts.manifest import FileEntry, Manifest, ModelRef
from streamtrain.contracts.marker import HEADERS, Marker, Range, SourceFile
from streamtrain.contracts.sample import SCHEMA
from streamtrain.kafka.clients import admin, producer
from streamtrain.kafka.embedded import EmbeddedBroker
from streamtrain.kafka.topics import JobTopics, TopicNames, ensure_topics, wait_for_topics
from streamtrain.kafka.transactions import KafkaOffsetLog
from streamtrain.runtime.status import job_status
from streamtrain.schedule import PassId, Split
from tests.support.jobs import write_config

ROWS = 1000


class Aged:
    """A job of `splits` splits, all of them bridged and trained."""

    def __init__(self, folder: Path, kafka: dict[str, str], splits: int) -> None:
        days = splits // 288 + 1
        end_day = (date(2024, 1, 1) + timedelta(days=days)).strftime("%Y%m%d")
        runner = {"split_interval": 5, "end_day": end_day, "data_sleep_second": 60}
        made = folder / "made"
        folder.mkdir(parents=True, exist_ok=True)
        self.config: JobConfig = write_config(folder, f"aged{splits}", kafka, runner=runner)
        self.kafka = kafka
        self.names = TopicNames(self.config.stream.job)
        self.root = self.config.model_save_path
        self.root.mkdir(exist_ok=True)
        shutil.rmtree(self.config.state_dir, ignore_errors=True)
        ensure_topics(admin(kafka), self.names, 2)
        topics = wait_for_topics(kafka, self.names, threading.Event())
        assert topics is not None
        self.topics: JobTopics = topics
        self.splits = splits
        if not made.exists():
            self._write_markers()
            self._write_tree()
            self._write_model()
            made.touch()

    def _split(self, number: int) -> Split:
        return self.config.schedule.split(number)

    def _write_markers(self) -> None:
        client = producer(self.kafka, f"{self.names.job}.bridge")
        client.init_transactions(60)
        for begin in range(0, self.splits, 10_000):
            client.begin_transaction()
            for number in range(begin, min(begin + 10_000, self.splits)):
                split = self._split(number)
                files = (SourceFile("part-0", 8, ROWS, hashlib.sha256(b"0:1 1:2\n").hexdigest()),)
                marker = Marker(
                    split.day, split.time, number, 0, "data", self.topics.samples_topic_id,
                    (Range(0, number * ROWS, (number + 1) * ROWS, ROWS),), ROWS, 0, files, SCHEMA.text,
                )  # fmt: skip
                client.produce(self.names.splits, marker.encode(), partition=0, headers=HEADERS)
            client.flush()
            client.commit_transaction(60)

    def _write_tree(self) -> None:
        data = Path(self.config.data_dir)
        for number in range(self.splits):
            folder = data / self._split(number).path
            folder.mkdir(parents=True)
            (folder / "part-0").write_bytes(b"0:1 1:2\n")
            (folder / "data.done").touch()

    def _write_model(self) -> None:
        source = np.random.default_rng(0)
        histogram = pack(source.integers(0, 3, 4096), source.integers(0, 3, 4096))
        journal, donefile, lines = [], [], {kind: [] for kind in DONEFILES}
        previous = base = ModelRef("20240101", 0, "0" * 64)
        for number in range(self.splits):
            pass_id = self.config.schedule.pass_at(number)
            record = PassRecord(
                pass_id.day, pass_id.pass_id, ROWS, 0.7, 0.7, 1.0, 0.1, 0.4, 0.5, ended=1.7e9, checkpoint_seconds=1.0,
                checkpoint_parts={"paddle_dense": 0.5}, predict_histogram=histogram,
            )  # fmt: skip
            journal.append(orjson.dumps(asdict(record)) + b"\n")
            folder = self.root / pass_id.day / str(pass_id.pass_id)
            (folder / "embedding.shard").mkdir(parents=True)
            (folder / "embedding.shard" / "part-0.txt").write_bytes(b"1 2 3\n")
            (folder / "manifest.json").write_bytes(self._manifest(pass_id, number, record).encode())
            donefile.append(f"{pass_id.day}\t1\t{folder}\t{pass_id.pass_id}\t0\n".encode())
            full = pass_id.pass_id == 1
            ref = ModelRef(pass_id.day, pass_id.pass_id, f"{random.Random(number).getrandbits(256):064x}")
            kind = "full" if full else "incremental"
            path = f"{pass_id.day}/inference_model_{pass_id.pass_id}"
            lines[kind].append(
                DoneLine(
                    path=path, digest=ref.digest, published=1.7e9 + number, day=ref.day, pass_id=ref.pass_id, kind=kind,
                    base=None if full else base, previous=None if full else previous, checkpoint=pass_id, keys=5,
                    deleted=0, rows=ROWS, event_time="",
                ).encode()
            )  # fmt: skip
            previous, base = ref, ref if full else base
        if self.splits:
            (self.root / "passes.jsonl").write_bytes(b"".join(journal))
            (self.root / DONEFILE).write_bytes(b"".join(donefile))
            for kind, name in DONEFILES.items():
                (self.root / name).write_bytes(b"".join(lines[kind]))

    def _manifest(self, pass_id: PassId, number: int, record: PassRecord) -> Manifest:
        entry = FileEntry("embedding.shard/part-0.txt", 6, hashlib.sha256(b"1 2 3\n").hexdigest())
        return Manifest(
            self.names.job, pass_id.day, pass_id.pass_id, number + 1, {"0": 0, "1": 0}, self.topics.samples_topic_id,
            self.topics.splits_topic_id, self.topics.cluster_id, 2, (number + 1) * ROWS, 5, asdict(record), "", "",
            "2024-01-01T00:00:00+00:00", (entry,), event_time=self.config.schedule.ends_at(number),
        )  # fmt: skip

    # what is measured

    def bridge_start(self) -> None:
        """Until it waits for the first split that is not there yet, and has looked at bridged ones."""
        stop = threading.Event()
        Bridge(self.config, self.kafka, stop=stop, on_wait=lambda *_: stop.set()).run()

    def status(self) -> None:
        found = job_status(self.config, self.kafka)
        assert found.bridged is not None and found.bridged.splits == found.trained.passes == self.splits
        assert found.trained.rows == self.splits * ROWS

    def list_(self) -> None:
        with (
            patch("sys.argv", ["streamtrain", "checkpoints", "list", "--json", "-m", str(self.config.path)]),
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.suppress(SystemExit),
        ):
            streamtrain()

    def trainer_start(self, part: Callable[[str], contextlib.AbstractContextManager[None]]) -> None:
        """Worker 0's, but for what Paddle does."""
        run = Run(self.root)
        with part("trainer: its config against the newest checkpoint"):
            IdentityCheck(self.config).newest()
        offsets = KafkaOffsetLog(self.kafka, self.topics, check=run.check_newest)
        committer = Committer(self.topics, run, offsets)
        with part("trainer: fencing"):
            committer.take_over()
        with part("trainer: choosing the checkpoint, donefiles"):
            chosen = committer.restore()
        journal = Journal(self.root)
        with part("trainer: passes.jsonl rolled back"):
            journal.roll_back(chosen.id if chosen else None, run)
        journal.close()
        store, models = CheckpointStore(self.root, run), PublishedModels(self.root, run)
        with part("a checkpoint's line in donefile.txt"):
            store.append_donefile(PassId("20991231", 1), 1)
        with part("a checkpoint's lines of models, by a new reader"):
            models.write_donefiles(models.lines())
        committer.close()


def ages(folder: Path, counts: Sequence[int]) -> dict[str, dict[int, float]]:
    """Seconds of each thing after so many splits."""
    table: dict[str, dict[int, float]] = {}
    with EmbeddedBroker(folder / "kafka") as broker:
        for splits in counts:

            @contextmanager
            def part(name: str, splits: int = splits) -> Iterator[None]:
                begin = time.monotonic()
                yield
                table.setdefault(name, {})[splits] = time.monotonic() - begin

            job = Aged(folder / f"job{splits}", {"bootstrap.servers": broker.bootstrap}, splits)
            with part("status, for the first time and without a bridge"):
                job.status()
            with part("status, again"):
                job.status()
            with part("bridge: start, for the first time here"):
                job.bridge_start()
            with part("bridge: start, again"):
                job.bridge_start()
            with part("checkpoints list"):
                job.list_()
            job.trainer_start(part)
    return table


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--splits", type=int, nargs="+", default=[0, 10_000, 100_000])
    parser.add_argument("--folder", type=Path, help="Where the jobs are made, and taken again the next time.")
    arguments = parser.parse_args()
    with contextlib.ExitStack() as stack:
        folder = arguments.folder or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        table = ages(folder, arguments.splits)
    print(f"{'seconds after so many splits':<55}" + "".join(f"{n:>10,}" for n in arguments.splits))
    for name, seconds in table.items():
        print(f"{name:<55}" + "".join(f"{seconds[n]:>10.2f}" for n in arguments.splits))
    Path("build").mkdir(exist_ok=True)
    Path("build/age.json").write_text(json.dumps(table, indent=2))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
