"""The state machine of a job: any order of late, revised, skipped and empty splits, of crashes and of frozen trainers.

Markers, ledger, plans, positions, manifests, the Committer and its stores are the real ones. Kafka is made of lists
(tests/support/offset_log.py), the model is the list of the rows that it was trained on. A trainer crashes or freezes at
any point that the protocol names, each fsync included.
"""

from __future__ import annotations

import shutil
import tempfile
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from streamtrain.checkpoint.commit import Committer
from streamtrain.checkpoint.remote import RemoteCheckpoints
from streamtrain.connectors.ledger import Ledger
from streamtrain.contracts.donefiles import DONEFILES, decode_valid_donefile
from streamtrain.contracts.manifest import Witness
from streamtrain.contracts.marker import Marker, Range
from streamtrain.errors import CheckpointMissing, Fenced, KafkaError, NoneUsable
from streamtrain.feed.passes import PassBuilder, PassPlan, partition_owner
from streamtrain.locations import Location
from streamtrain.object_store import ObjectStore
from tests.support import plain_store  # noqa: F401  registers plain://
from tests.support.crashes import Crash, Frozen, crash_at, points
from tests.support.ledgers import replayed
from tests.support.offset_log import TOPICS, Group
from tests.support.trainers import SCHEDULE, Trainer, seen_by_others

PARTITIONS = tuple(range(TOPICS.partitions))
MEMORY = Path("/dev/shm")  # fsync costs nothing there
counts = st.lists(st.integers(0, 3), min_size=3, max_size=3)
#: Where a call crashes or freezes: by a point's name, or its N-th point (a call reaches 30 or so, mostly fsyncs; those
#: around the two renames are the 12th to the 20th).
while_starting: st.SearchStrategy[str | int] = st.sampled_from(
    ["log.take_over", "log.taken_over", "restore.fenced", "restore.cleared", "log.fenced", "log.commit",
     "log.committed", "restore.chosen"]
) | st.integers(0, 20)  # fmt: skip
while_saving: st.SearchStrategy[str | int] = st.sampled_from(
    ["save.staged", "save.sealed", "commit.manifest", "log.fenced", "commit.fenced", "commit.model", "commit.renamed",
     "log.commit", "log.committed", "commit.committed", "commit.done", "store.uploaded", "store.pointing",
     "store.pointed", "store.recorded"]
) | st.integers(0, 40) | st.integers(12, 20)  # fmt: skip


class Entry:
    def __init__(self, offset: int, marker: Marker) -> None:
        self.offset, self.marker, self.timestamp = offset, marker, 0.0


class JobMachine(RuleBasedStateMachine):
    committer: type[Committer] = Committer

    def __init__(self) -> None:
        super().__init__()
        self.points = points()
        self.points.__enter__()
        self.folder = Path(tempfile.mkdtemp(prefix="streamtrain-state-", dir=MEMORY if MEMORY.is_dir() else None))
        self.root = self.folder / "model"
        self.root.mkdir()
        # Kafka
        self.group = Group()
        self.log: list[Entry] = []
        self.log_end = 0
        self.ends = dict.fromkeys(PARTITIONS, 0)
        self.rows: dict[tuple[int, int], int] = {}
        self.published = 0
        # the bridge
        self.ledger = Ledger(SCHEDULE)
        # checkpoints, by name and content, as they are after they were damaged
        self.damaged: set[tuple[str, tuple[tuple[str, bytes], ...]]] = set()
        # trainers
        self.zombies: list[Frozen] = []
        self.workers = 1
        self.start()
        for _ in range(2 * SCHEDULE.split_per_pass):
            self.publish(self.ledger.next_sequence, 0, [1, 1, 0], None, "data")
        self.train_a_pass()

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
        self.ledger = replayed(SCHEDULE, self.log)

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
        marker = Marker(
            day=split.day,
            time=split.time,
            sequence=sequence,
            revision=revision,
            status=status if status == "skipped" or any(rows) else "empty",  # type: ignore[arg-type]
            topic_id=TOPICS.samples_topic_id,
            ranges=tuple(ranges),
            rows=sum(rows),
            rejected=0,
            files=(),
            schema="",
        )
        marker = Marker.decode(marker.encode())
        self.log.append(Entry(self.log_end, marker))
        self.log_end += 2
        names = TOPICS.names
        self.group.ends = {(names.samples, p): (0, end) for p, end in self.ends.items()}
        self.group.ends[names.splits, 0] = (0, self.log_end)
        self.ledger.add(marker, 0.0)

    # the trainer's rules

    @rule()
    def train_a_pass(self) -> None:
        """Every worker plans from the log by itself; each trains the rows of its partitions."""
        trainer = self.trainer
        plans = [self.next_plan(builder) for builder in self.builders]
        plan = plans[0]
        assert all(p == plan for p in plans)
        if plan is None:
            return
        assert plan.id == SCHEDULE.pass_at(trainer.position.pass_index)
        before = dict(trainer.position.offsets or {})
        for worker in range(self.workers):
            read = [
                self.rows[p, offset]
                for p, ranges in plan.ranges.items()
                if partition_owner(p, self.workers) == worker
                for r in ranges
                for offset in range(r.start_offset, r.end_offset)
            ]
            assert len(read) == plan.rows_of(worker, self.workers)
            assert not {p for p in plan.ranges if plan.ranges[p][0].start_offset < before[p]}
            trainer.rows += read
        trainer.position.advance(plan, SCHEDULE, trained=True)
        assert all((trainer.position.offsets or {})[p] >= before[p] for p in PARTITIONS)
        trainer.last = plan.id

    def next_plan(self, builder: PassBuilder) -> PassPlan | None:
        for entry in self.log:
            if entry.offset >= self.read_up_to[id(builder)]:
                self.read_up_to[id(builder)] = entry.offset + 1
                if (plan := builder.add(entry.offset, entry.marker)) is not None:
                    return plan
        return None

    @precondition(lambda self: self.trainer.last is not None)
    @rule(with_model=st.booleans(), aborts=st.sampled_from([0, 0, 1, 2]))
    def save_a_checkpoint(self, with_model: bool, aborts: int) -> None:
        """aborts: how many of the commits the broker aborts; after the second one a restart must commit."""
        self.group.aborts = aborts
        before = seen_by_others(self.root)
        try:
            self.trainer.save(with_model=with_model)
        except Fenced:  # by a trainer that died right after it took over
            assert seen_by_others(self.root) == before, "a fenced trainer has changed what others see"
            self.start()
        except KafkaError:
            assert aborts == 2
            self.start()
        self.group.aborts = 0

    @precondition(lambda self: self.trainer.last is not None)
    @rule(with_model=st.booleans(), at=while_saving)
    def crash_while_saving(self, with_model: bool, at: str | int) -> None:
        try:
            with crash_at(at):
                self.trainer.save(with_model=with_model)
        except (Crash, Fenced):
            self.a_listed_model_has_its_checkpoint()  # readers look before any restart
            self.start()

    @precondition(lambda self: self.trainer.last is not None and len(self.zombies) < 3)
    @rule(with_model=st.booleans(), at=while_saving)
    def freeze_while_saving(self, with_model: bool, at: str | int) -> None:
        """A newer trainer starts while this one is frozen; it is thawed later."""
        trainer = self.trainer
        frozen = Frozen(lambda: trainer.save(with_model=with_model), at)
        self.a_listed_model_has_its_checkpoint()
        if frozen.frozen:
            self.zombies.append(frozen)
        elif frozen.error is not None and not isinstance(frozen.error, Fenced):
            raise frozen.error
        self.start()

    @rule(at=while_starting)
    def crash_while_starting(self, at: str | int) -> None:
        """A newer trainer dies while it takes over; the one before it lives on, and perhaps does not know."""
        newer = self.new_trainer()
        try:
            with crash_at(at):
                newer.start()
        except Crash:
            return
        self.take(newer)

    @precondition(lambda self: len(self.zombies) < 3)
    @rule(at=while_starting)
    def freeze_while_starting(self, at: str | int) -> None:
        frozen = Frozen(self.new_trainer().start, at)
        if frozen.frozen:
            self.zombies.append(frozen)
        elif frozen.error is not None:
            raise frozen.error
        self.start()

    @precondition(lambda self: self.zombies)
    @rule(which=st.integers(0, 2))
    def thaw(self, which: int) -> None:
        """It resumes where it was frozen, finds itself replaced, and changes nothing."""
        zombie = self.zombies.pop(which % len(self.zombies))
        before = seen_by_others(self.root)
        error = zombie.thaw()
        assert seen_by_others(self.root) == before, f"a zombie has changed what others see, at {zombie.names[-1]}"
        last = ("commit.done", "store.recorded", "restore.chosen", "restore.cleared")
        ended = zombie.names[-1] in last  # nothing was left to do
        assert isinstance(error, Fenced) or (error is None and ended), (zombie.names, error)

    @rule(workers=st.integers(1, 3))
    def all_die(self, workers: int) -> None:
        self.workers = workers
        self.start()

    @precondition(lambda self: self.trainer.store.list())
    @rule(manifest=st.booleans())
    def the_newest_checkpoint_is_damaged(self, manifest: bool) -> None:
        """An older one is loaded; when there is none, a start is refused, and changes nothing."""
        path = self.trainer.store.list()[-1].path
        file = path / ("manifest.json" if manifest else "rows.json")
        whole = file.read_bytes()
        file.write_bytes(whole[:-3] if manifest else whole + b" ")
        name = str(path.relative_to(self.root))
        self.damaged.add((name, self.visible()[name]))
        if not self.valid():
            before = seen_by_others(self.root)
            with pytest.raises(NoneUsable):
                self.new_trainer().start()
            assert seen_by_others(self.root) == before
            file.write_bytes(whole)
        self.start()

    @precondition(lambda self: self.valid())
    @rule()
    def the_newest_checkpoint_disappears(self) -> None:
        """The group's witness names it: a start is refused, and changes nothing."""
        path = self.root / self.valid()[-1]
        path.rename(self.folder / "aside")
        before = seen_by_others(self.root)
        with pytest.raises(CheckpointMissing):
            self.new_trainer().start()
        assert seen_by_others(self.root) == before
        (self.folder / "aside").rename(path)
        self.start()

    @rule()
    def the_offsets_are_reset(self) -> None:
        """By hand, to the beginning: the next start rolls them forward."""
        self.group.committed = dict.fromkeys(self.group.committed, (0, None))
        self.start()

    # starting

    def new_trainer(self) -> Trainer:
        return Trainer(self.root, self.group, SCHEDULE, self.committer)

    def start(self) -> None:
        """Fresh servers and workers, from the newest checkpoint that is valid, whose commit is rolled forward."""
        trainer = self.new_trainer()
        trainer.start()
        self.take(trainer)

    def take(self, trainer: Trainer) -> None:
        self.trainer = trainer
        self.check_start(trainer)
        self.builders = [
            PassBuilder(
                SCHEDULE,
                trainer.position.pass_index,
                TOPICS.samples_topic_id,
                dict(trainer.position.offsets or {}),
                TOPICS.partitions,
            )
            for _ in range(self.workers)
        ]
        self.read_up_to = {id(b): trainer.position.marker_offset for b in self.builders}

    def check_start(self, trainer: Trainer) -> None:
        """It has the newest checkpoint, whose commit is rolled forward."""
        newest = max(self.valid(), default=None)
        assert (str(trainer.last) if trainer.last else None) == newest
        if trainer.last is not None:
            self.check_witness(trainer)
            names = [line.split("\t") for line in (self.root / "donefile.txt").read_text().splitlines()]
            assert f"{names[-1][0]}/{names[-1][3]}" == newest
        assert all(name <= (newest or "") for name in self.listed_checkpoints())

    def check_witness(self, trainer: Trainer) -> None:
        offset, text = self.group.committed[self.group.marker_log]
        witness = Witness.decode(text)
        assert witness is not None and witness.digest == trainer.digest, "the commit was not rolled forward"
        assert offset == trainer.position.marker_offset

    def visible(self) -> dict[str, tuple[tuple[str, bytes], ...]]:
        """Content of the checkpoints' directories, by their pass."""
        paths = [p for p in self.root.glob("*/*") if p.parent.name.isdigit() and p.name.isdigit()]
        return {
            str(p.relative_to(self.root)): tuple(sorted((f.name, f.read_bytes()) for f in p.iterdir())) for p in paths
        }

    def valid(self) -> list[str]:
        """Visible checkpoints as the code under test published them, oldest first."""
        return sorted(name for name, content in self.visible().items() if (name, content) not in self.damaged)

    def listed_checkpoints(self) -> list[str]:
        """Of the inference models that the donefiles name, the checkpoints that they are committed with."""
        found = []
        for name in DONEFILES.values():
            if (self.root / name).exists():
                for line in decode_valid_donefile((self.root / name).read_bytes()):
                    found.append(str(line.checkpoint))
        return found

    # what holds all along, and at the end

    @invariant()
    def the_model_has_each_row_once(self) -> None:
        rows = self.trainer.rows
        assert len(rows) == self.trainer.position.rows == len(set(rows))

    @invariant()
    def a_listed_model_has_its_checkpoint(self) -> None:
        for name in self.listed_checkpoints():
            assert (self.root / name).is_dir(), f"a donefile names a model of {name}, which is not committed"

    @invariant()
    def the_ledger_is_that_of_the_log(self) -> None:
        again = replayed(SCHEDULE, self.log)
        assert (again.next_sequence, len(again)) == (self.ledger.next_sequence, len(self.ledger))

    def teardown(self) -> None:
        """To the end of the schedule: every row that was published is trained once."""
        try:
            while self.zombies:
                self.thaw(0)
            while self.ledger.next_sequence < SCHEDULE.total_splits:
                self.publish(self.ledger.next_sequence, 0, [1, 0, 1], None, "data")
            self.all_die(2)
            for _ in range(SCHEDULE.total_passes - self.trainer.position.pass_index):
                self.train_a_pass()
            assert self.trainer.position.pass_index == SCHEDULE.total_passes
            assert Counter(self.trainer.rows) == Counter(self.rows.values())
        finally:
            self.points.__exit__(None, None, None)
            for zombie in self.zombies:
                zombie.thaw()
            shutil.rmtree(self.folder, ignore_errors=True)


class StoreMachine(JobMachine):
    """A job on a store without rename: each trainer starts on a machine whose disk is empty, or on the one before."""

    machines = 0

    @rule()
    def the_machine_is_lost(self) -> None:
        self.machines += 1
        self.start()

    @precondition(lambda self: self.trainer.last is not None)
    @rule(back=st.integers(0, 2))
    def rewind(self, back: int) -> None:
        """To one of the newest checkpoints, or to nothing; a trainer that is frozen may still put its pointer."""
        ids = [name.id for name in self.remote.newest_first()]
        to = ids[back] if back < len(ids) else None
        trainer = self.new_trainer()
        trainer.committer.take_over("rewind")
        trainer.committer.rewind(to)
        self.start()
        assert self.trainer.last == to

    @property
    def remote(self) -> RemoteCheckpoints:
        return RemoteCheckpoints(ObjectStore(Location("runner.model_save_path", f"plain://{self.folder}/job.store")))

    def new_trainer(self) -> Trainer:
        """Zombies are on machines of their own: a machine that is only started again has lost its processes."""
        self.committed = self.newest_committed()
        self.machines += bool(self.zombies)
        store = Location("runner.model_save_path", f"plain://{self.folder}/job.store")
        return Trainer(self.folder / f"machine-{self.machines}", self.group, SCHEDULE, self.committer, store)

    def check_start(self, trainer: Trainer) -> None:
        """It never goes back: what the group had committed, it has."""
        assert (trainer.last is None) == (self.committed is None)
        if trainer.last is not None:
            self.check_witness(trainer)
            assert self.committed is not None and trainer.last >= self.committed.id

    def newest_committed(self) -> Witness | None:
        """By the group; where its offsets were reset, or nothing is committed, by what the store has."""
        witness = Witness.decode(self.group.committed.get(self.group.marker_log, (0, None))[1])
        if witness is None:
            pointer = next(iter(self.remote.newest_first()), None)
            return Witness(pointer.id.day, pointer.id.pass_id, "") if pointer is not None else None
        return witness

    def listed_checkpoints(self) -> list[str]:
        return []  # the folder is a cache, which lacks older checkpoints

    # of a folder alone

    def the_newest_checkpoint_is_damaged(self) -> None:  # type: ignore[override]
        pass

    def the_newest_checkpoint_disappears(self) -> None:
        pass
