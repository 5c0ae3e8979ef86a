"""Any order of late, revised, skipped and empty splits, any crash: the same passes for every worker, each row once.

Markers, ledger, plans, progress, manifests and the store of checkpoints are the real ones; Kafka is two lists
of offsets, the model is the list of rows that it was trained on.
"""

import json
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from streamtrain.checkpoint.store import CheckpointStore
from streamtrain.connectors.ledger import Ledger
from streamtrain.contracts.manifest import Manifest, Witness
from streamtrain.contracts.marker import Marker, Range
from streamtrain.errors import Fenced
from streamtrain.feed.passes import PassBuilder, PassPlan, partition_owner
from streamtrain.schedule import PassId, Schedule
from streamtrain.training.position import Progress

SCHEDULE = Schedule(360, 2, "20240101", "20240102")
PARTITIONS = (0, 1, 2)
counts = st.lists(st.integers(0, 3), min_size=3, max_size=3)


class Entry:
    def __init__(self, offset: int, marker: Marker) -> None:
        self.offset, self.marker, self.timestamp = offset, marker, 0.0


class Job(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="streamtrain-state-"))
        # Kafka
        self.log: list[Entry] = []
        self.log_end = 0
        self.ends = dict.fromkeys(PARTITIONS, 0)
        self.rows: dict[tuple[int, int], int] = {}
        self.published = 0
        self.witness: Witness | None = None
        # the bridge
        self.ledger = Ledger(SCHEDULE)
        # the trainer
        self.zombies: list[tuple[CheckpointStore, Path, PassId]] = []
        self.workers = 1
        self.start()

    # the bridge's rules

    @rule(rows=counts, aborted=st.none() | counts, status=st.sampled_from(["data", "skipped"]))
    def bridge_a_split(self, rows: list[int], aborted: list[int] | None, status: str) -> None:
        if self.ledger.next_sequence < SCHEDULE.total_splits:
            self.publish(self.ledger.next_sequence, 0, [0, 0, 0] if status == "skipped" else rows, aborted, status)

    @precondition(lambda self: self.ledger.next_sequence and self.ledger.next_sequence < SCHEDULE.total_splits)
    @rule(which=st.integers(0, 100), rows=counts, aborted=st.none() | counts)
    def a_late_revision(self, which: int, rows: list[int], aborted: list[int] | None) -> None:
        sequence = which % self.ledger.next_sequence
        revision = self.ledger.splits[sequence].revision + 1
        assert revision == sum(e.marker.sequence == sequence for e in self.log)
        self.publish(sequence, revision, rows, aborted, "data")

    @rule()
    def the_bridge_dies(self) -> None:
        self.ledger = Ledger.replay(SCHEDULE, self.log)

    def publish(self, sequence: int, revision: int, rows: list[int], aborted: list[int] | None, status: str) -> None:
        """A transaction; an aborted one before it takes offsets and is never seen."""
        if aborted is not None:
            for partition, count in zip(PARTITIONS, aborted, strict=True):
                self.ends[partition] += count + 1
            self.log_end += 1
        ranges = []
        for partition, count in zip(PARTITIONS, rows, strict=True):
            begin = self.ends[partition]
            for offset in range(begin, begin + count):
                self.rows[partition, offset] = self.published
                self.published += 1
            if count:
                ranges.append(Range(partition, begin, begin + count, count))
            self.ends[partition] = begin + count + 1  # the transaction's control record
        split = SCHEDULE.split(sequence)
        kind = status if status == "skipped" or any(rows) else "empty"
        marker = Marker(
            split.day,
            split.time,
            sequence,
            revision,
            kind,
            "t",
            tuple(ranges),
            sum(rows),
            0,
            (),
            "",  # type: ignore[arg-type]
        )
        marker = Marker.decode(marker.encode())
        self.log.append(Entry(self.log_end, marker))
        self.log_end += 2
        self.ledger.add(marker, 0.0)

    # the trainer's rules

    @rule()
    def train_a_pass(self) -> None:
        """Every worker plans from the log by itself; each trains the rows of its partitions."""
        plans = [self.next_plan(builder) for builder in self.builders]
        if plans[0] is None:
            assert plans == [None] * self.workers
            return
        plan = plans[0]
        assert all(p == plan for p in plans)
        assert plan.of == SCHEDULE.pass_at(self.progress.pass_index)
        for worker in range(self.workers):
            read = [
                self.rows[p, offset]
                for p, ranges in plan.ranges.items()
                if partition_owner(p, self.workers) == worker
                for r in ranges
                for offset in range(r.start_offset, r.end_offset)
            ]
            assert len(read) == plan.rows_of(worker, self.workers)
            assert not {p for p in plan.ranges if plan.ranges[p][0].start_offset < (self.progress.offsets or {})[p]}
            self.model += read
        before = dict(self.progress.offsets or {})
        self.progress.advance(plan, SCHEDULE, trained=True)
        assert all((self.progress.offsets or {})[p] >= before[p] for p in PARTITIONS)
        self.last = plan.of

    def next_plan(self, builder: PassBuilder) -> PassPlan | None:
        for entry in self.log:
            if entry.offset >= self.read_up_to[id(builder)]:
                self.read_up_to[id(builder)] = entry.offset + 1
                if (plan := builder.add(entry.offset, entry.marker)) is not None:
                    return plan
        return None

    @precondition(lambda self: self.last is not None)
    @rule(crash_after=st.sampled_from(["", "stage", "fence", "rename", "commit"]), frozen=st.booleans())
    def save_a_checkpoint(self, crash_after: str, frozen: bool) -> None:
        """In the protocol's order; a crash after one of its steps. A frozen one comes back later."""
        of = self.last
        assert of is not None
        staged = self.store.stage(of)
        (staged / "model.json").write_text(json.dumps(self.model))
        offsets = {str(p): o for p, o in (self.progress.offsets or {}).items()}
        manifest = Manifest(
            "job", of.day, of.pass_id, self.progress.marker_offset, offsets, "t", "s", "c", len(PARTITIONS),
            self.progress.rows, len(self.model), {}, "", "", "", self.store.seal(staged),
        )  # fmt: skip
        digest = self.store.put_manifest(staged, manifest)
        steps: dict[str, Callable[[], object]] = {
            "stage": lambda: None,
            "fence": lambda: None,
            "rename": lambda: self.store.publish(staged, of),
            "commit": lambda: setattr(self, "witness", Witness(of.day, of.pass_id, digest)),
        }
        for name, step in steps.items():
            step()
            if name == crash_after:
                if frozen and name in ("stage", "fence"):
                    self.zombies.append((self.store, staged, of))
                self.start()
                return
        self.store.append_donefile(of, 1)

    @rule(workers=st.integers(1, 3))
    def all_die(self, workers: int) -> None:
        self.workers = workers
        self.start()

    @precondition(lambda self: self.store.list())
    @rule(manifest=st.booleans())
    def the_newest_checkpoint_is_damaged(self, manifest: bool) -> None:
        path = self.store.list()[-1].path / ("manifest.json" if manifest else "model.json")
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.write_bytes(data)
        self.start()

    @precondition(lambda self: self.zombies)
    @rule()
    def a_frozen_trainer_is_thawed(self) -> None:
        """It goes on where it was, before the rename: it finds itself replaced and changes nothing."""
        store, staged, of = self.zombies.pop()
        before = self.seen_by_others()
        with pytest.raises(Fenced):
            store.publish(staged, of)
        with pytest.raises(Fenced):
            store.append_donefile(of, 1)
        assert self.seen_by_others() == before

    def start(self) -> None:
        """Fresh servers and workers: the newest checkpoint that is whole, its commit rolled forward."""
        self.store = CheckpointStore(self.folder / "model")
        self.store.take_over()
        chosen = next((c for c, problem in self.store.newest() if not problem), None)
        if chosen is None or chosen.manifest is None:
            self.witness = None  # there is none, or its checkpoint is damaged
            self.model: list[int] = []
            self.progress = Progress(offsets=dict.fromkeys(PARTITIONS, 0))
            self.last: PassId | None = None
        else:
            manifest = chosen.manifest
            self.model = json.loads((chosen.path / "model.json").read_text())
            number = SCHEDULE.pass_index(chosen.of) + 1
            offsets = {int(p): o for p, o in manifest.offsets.items()}
            self.progress = Progress(number, manifest.marker_offset, offsets, manifest.rows)
            self.witness = Witness(chosen.of.day, chosen.of.pass_id, chosen.digest)
            self.store.append_donefile(chosen.of, 1)
            self.last = chosen.of
        self.builders = [PassBuilder(SCHEDULE, self.progress.pass_index, "t") for _ in range(self.workers)]
        self.read_up_to = {id(b): self.progress.marker_offset for b in self.builders}

    def seen_by_others(self) -> dict[str, bytes]:
        paths = (p for p in self.store.root.rglob("*") if p.is_file())
        shown = {str(p.relative_to(self.store.root)): p.read_bytes() for p in paths}
        return {name: data for name, data in shown.items() if not name.startswith(".staging")}

    # what holds all along, and at the end

    @invariant()
    def the_model_has_each_row_once(self) -> None:
        assert len(self.model) == self.progress.rows == len(set(self.model))

    @invariant()
    def the_ledger_is_that_of_the_log(self) -> None:
        again = Ledger.replay(SCHEDULE, self.log)
        assert (again.next_sequence, len(again)) == (self.ledger.next_sequence, len(self.ledger))

    def teardown(self) -> None:
        """To the end of the schedule: every row that was published is trained once."""
        while self.ledger.next_sequence < SCHEDULE.total_splits:
            self.publish(self.ledger.next_sequence, 0, [1, 0, 1], None, "data")
        self.all_die(2)
        for _ in range(SCHEDULE.total_passes - self.progress.pass_index):
            self.train_a_pass()
        assert self.progress.pass_index == SCHEDULE.total_passes
        assert Counter(self.model) == Counter(self.rows.values())
        shutil.rmtree(self.folder)


TestJob = Job.TestCase
TestJob.settings = settings(
    max_examples=60, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
)
