"""Checkpoints on a store that has no rename: every crash point, then a machine with an empty disk; late zombies."""

from __future__ import annotations

import dataclasses
import json
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from streamtrain import errors
from streamtrain.checkpoint.remote import RemoteCheckpoints
from streamtrain.checkpoint.remote_retention import RemoteRetention
from streamtrain.checkpoint.remote_runs import RemoteRuns
from streamtrain.checkpoint.remote_view import StoredCheckpoints
from streamtrain.checkpoint.retention import Keep
from streamtrain.checkpoint.store import CheckpointStore
from streamtrain.contracts.manifest import Witness
from streamtrain.locations import Location
from streamtrain.object_store import ObjectStore
from streamtrain.schedule import PassId
from tests.support.crashes import Crash, Frozen, crash_at, points
from tests.support.offset_log import LOG, TOPICS, Group
from tests.support.plain_store import objects
from tests.support.trainers import ROWS, SCHEDULE, Trainer, started


@pytest.fixture(autouse=True)
def named_points() -> Iterator[None]:
    with points():
        yield


@pytest.fixture
def group() -> Group:
    top = (0, 1000)
    names = TOPICS.names
    return Group(ends={**{(names.samples, p): top for p in range(TOPICS.partitions)}, LOG: top})


def at(folder: Path) -> Location:
    return Location("runner.model_save_path", f"plain://{folder}.store")


def train(trainer: Trainer, number: int) -> None:
    """As if pass `number` (from 0) of two rows, one marker and an offset a partition were trained."""
    trainer.last = SCHEDULE.pass_at(number)
    trainer.rows += [2 * number, 2 * number + 1]
    position = trainer.position
    position.pass_index, position.marker_offset, position.rows = number + 1, 2 * number + 2, 2 * number + 2
    position.offsets = dict.fromkeys(range(TOPICS.partitions), 10 * (number + 1))


class Machines:
    """A job on a store; each trainer runs on a machine of its own, whose disk is empty."""

    def __init__(self, folder: Path, group: Group) -> None:
        self.folder = folder
        self.group = dataclasses.replace(group, committed={}, pending=None, epoch=0)
        self.store = at(folder / "job")
        self._machines = 0

    @property
    def root(self) -> Path:
        return Path(f"{self.folder / 'job'}.store")

    def start(self) -> Trainer:
        self._machines += 1
        return started(self.folder / f"machine-{self._machines}", self.group, self.store)

    def one_saved(self) -> Trainer:
        trainer = self.start()
        train(trainer, 0)
        trainer.save(with_model=True)
        return trainer

    def check_restart(self) -> PassId:
        """A restart has what it chose, committed; returns its pass."""
        trainer = self.start()
        assert trainer.last is not None
        offset, text = self.group.committed[LOG]
        witness = Witness.decode(text)
        assert witness is not None and (witness.id, witness.digest) == (trainer.last, trainer.digest)
        assert offset == trainer.position.marker_offset
        assert trainer.rows == list(range(2 * (SCHEDULE.pass_index(trainer.last) + 1)))
        return trainer.last


def test_a_crash_at_every_point_of_a_save(tmp_path: Path, group: Group) -> None:
    """Before the pointer the restart has the older checkpoint, from the pointer on the newer one."""
    chosen, names = [], []
    for number in range(200):
        machines = Machines(tmp_path / str(number), group)
        trainer = machines.one_saved()
        train(trainer, 1)
        try:
            with crash_at(number) as names:
                trainer.save(with_model=True)
        except Crash:
            chosen.append(machines.check_restart().pass_id)
            continue
        break
    assert len(names) == number == len(chosen) > 25
    assert chosen == sorted(chosen) and set(chosen) == {1, 2}
    assert names.index("store.pointed") == chosen.index(2)


def lines_of(machines: Machines) -> tuple[list[str], list[str]]:
    """The passes that donefile.txt and the journal name, on the store."""
    there = objects(machines.root)
    listed = [line.split("\t") for line in there["donefile.txt"].decode().splitlines()]
    journal = [line for name in there if name.startswith("journal/") for line in there[name].splitlines()]
    records = [json.loads(line) for line in journal]
    return [f"{line[0]}/{line[3]}" for line in listed], [f"{r['day']}/{r['pass_id']}" for r in records]


def test_a_crash_after_the_commit_of_the_last_pass(tmp_path: Path, group: Group) -> None:
    """No other checkpoint follows: the next start adds the lines that it has kept from the store, once."""
    machines = Machines(tmp_path, group)
    trainer = machines.one_saved()
    train(trainer, 1)
    with pytest.raises(Crash), crash_at("commit.committed"):
        trainer.save(with_model=True)
    for _ in range(2):
        assert machines.check_restart() == PassId("20240101", 2)
        assert lines_of(machines) == (["20240101/1", "20240101/2"],) * 2


def test_a_trainer_that_comes_back_after_its_commit_takes_no_lines_away(tmp_path: Path, group: Group) -> None:
    machines = Machines(tmp_path, group)
    trainer = machines.start()
    train(trainer, 0)
    zombie = Frozen(lambda: trainer.save(with_model=True), "commit.committed")
    newer = machines.start()
    for number in (1, 2):
        train(newer, number)
        newer.save(with_model=False)
    before = objects(machines.root)
    assert isinstance(zombie.thaw(), errors.Fenced)
    assert objects(machines.root) == before
    assert lines_of(machines)[0] == ["20240101/1", "20240101/2", "20240102/1"]


def test_a_crash_at_every_point_of_a_start(tmp_path: Path, group: Group) -> None:
    for number in range(200):
        machines = Machines(tmp_path / str(number), group)
        trainer = machines.one_saved()
        train(trainer, 1)
        with pytest.raises(Crash), crash_at("store.pointed"):
            trainer.save(with_model=True)
        try:
            with crash_at(number) as names:
                machines.start()
        except Crash:
            assert machines.check_restart().pass_id == 2
            continue
        break
    assert len(names) == number > 10


@pytest.mark.parametrize("passes", [0, 2])
def test_a_trainer_frozen_at_every_point_does_not_win(tmp_path: Path, group: Group, passes: int) -> None:
    """passes: that the newer trainer has committed when the frozen one is thawed."""
    for number in range(200):
        machines = Machines(tmp_path / str(number), group)
        trainer = machines.one_saved()
        train(trainer, 1)
        zombie = Frozen(lambda trainer=trainer: trainer.save(with_model=True), number)  # type: ignore[misc]
        if not zombie.frozen:
            assert zombie.error is None
            break
        newer = machines.start()
        for _ in range(passes):
            train(newer, newer.position.pass_index)
            newer.save(with_model=True)
        committed = dict(machines.group.committed)
        error = zombie.thaw()
        late = ("store.recorded", "commit.done")
        assert isinstance(error, errors.Fenced) or zombie.names[-1] in late, (zombie.names, error)
        assert machines.group.committed == committed
        train(newer, newer.position.pass_index)
        newer.save(with_model=True)
        assert machines.check_restart() == newer.last
    assert number > 25


def test_a_machine_that_comes_back_sets_aside_what_the_store_lacks(tmp_path: Path, group: Group) -> None:
    """Its disk has checkpoints of a history that a rewind has ended elsewhere."""
    machines = Machines(tmp_path, group)
    first = three_saved(machines)
    before = {c.id: c.digest for c in first.store.list()}
    rewound(machines, PassId("20240101", 1))
    second = machines.start()
    train(second, 1)
    second.rows[-1] += 100
    second.save(with_model=False)
    again = started(first.run.root, machines.group, machines.store)
    assert again.last == PassId("20240101", 2) and again.rows == second.rows
    assert again.digest == second.store.list()[-1].digest != before[PassId("20240101", 2)]
    aside = {CheckpointStore(path).list()[0].digest for path in first.run.root.glob(".set-aside/*")}
    assert aside == set(before.values())


def test_a_pointer_of_a_replaced_trainer_does_not_count(tmp_path: Path, group: Group) -> None:
    machines = Machines(tmp_path, group)
    trainer = machines.one_saved()
    train(trainer, 1)
    zombie = Frozen(lambda: trainer.save(with_model=False), "store.pointing")  # its look at newer runs came before
    assert zombie.frozen
    newer = machines.start()
    train(newer, 1)
    newer.save(with_model=False)
    assert isinstance(zombie.thaw(), errors.Fenced)
    pointers = [name for name in objects(machines.root) if name.startswith("commits/20240101/2-")]
    assert len(pointers) == 2
    restarted = machines.start()
    assert restarted.digest == newer.store.list()[-1].digest


def test_a_damaged_checkpoint_lets_an_older_one_do(tmp_path: Path, group: Group) -> None:
    machines = Machines(tmp_path, group)
    trainer = machines.one_saved()
    train(trainer, 1)
    trainer.save(with_model=False)
    names = [name for name in objects(machines.root) if name.startswith("checkpoints/20240101/2/")]
    store = ObjectStore(machines.store)
    store.put(next(name for name in names if name.endswith("rows.json")), b"[]")
    assert machines.check_restart() == PassId("20240101", 1)
    store.delete(next(iter(objects(machines.root))))
    (newest, *_), *_ = RemoteCheckpoints(store).names()
    assert newest.id == PassId("20240101", 2)


def test_a_job_that_had_no_store_is_brought_there(tmp_path: Path, group: Group) -> None:
    machines = Machines(tmp_path, group)
    local = started(tmp_path / "first", machines.group)
    for number in range(2):
        train(local, number)
        local.save(with_model=True)
    moved = started(tmp_path / "first", machines.group, machines.store)
    assert moved.digest == local.store.list()[-1].digest
    shutil.rmtree(tmp_path / "first")
    assert machines.check_restart() == PassId("20240101", 2)


def test_a_store_that_lacks_what_the_group_has_committed_is_refused(tmp_path: Path, group: Group) -> None:
    machines = Machines(tmp_path, group)
    machines.one_saved()
    store = ObjectStore(machines.store)
    for name in objects(machines.root):
        if name.startswith("commits/"):
            store.delete(name)
    with pytest.raises(errors.CheckpointMissing, match="20240101/1"):
        machines.start()


def rewound(machines: Machines, to: PassId | None) -> Trainer:
    """A machine of its own has gone back."""
    trainer = Trainer(machines.folder / "rewinder", machines.group, SCHEDULE, store=machines.store)
    trainer.committer.take_over("rewind")
    trainer.committer.rewind(to)
    return trainer


def three_saved(machines: Machines) -> Trainer:
    trainer = machines.one_saved()
    for number in (1, 2):
        train(trainer, number)
        trainer.save(with_model=True)
    return trainer


@pytest.mark.parametrize("to", [PassId("20240101", 1), None])
def test_a_rewind_and_a_crash_at_every_point_of_it(tmp_path: Path, group: Group, to: PassId | None) -> None:
    names = []
    for number in range(100):
        machines = Machines(tmp_path / str(number), group)
        three_saved(machines)
        try:
            with crash_at(number) as names:
                rewound(machines, to)
        except Crash:
            begun = "rewind.begun" in names
            restarted = machines.start()
            assert restarted.last == (to if begun else SCHEDULE.pass_at(2))
            train(restarted, restarted.position.pass_index)
            restarted.save(with_model=True)
            assert machines.check_restart() == restarted.last
            continue
        break
    assert len(names) == number > 10
    there = objects(machines.root)
    assert sum(name.startswith("set-aside/") and "/commits/" in name for name in there) == (2 if to else 3)
    assert [name for name in there if name.startswith("commits/20240102/")] == []
    assert "rewind.json" not in there


def test_readers_need_nothing_on_their_disk(tmp_path: Path, group: Group) -> None:
    machines = Machines(tmp_path, group)
    three_saved(machines)
    readers = StoredCheckpoints(machines.store, tmp_path / "reader")
    assert [str(p) for p in readers.ids()] == ["20240101/1", "20240101/2", "20240102/1"]
    assert readers.where == machines.store.shown
    newest = readers.newest()
    assert newest is not None and readers.verify(newest) is None
    assert json.loads((readers.fetch(newest).path / ROWS).read_text()) == list(range(6))
    readers.release(newest)
    store = ObjectStore(machines.store)
    attempt = store.directories("checkpoints/20240101/2")[0]
    store.put(f"checkpoints/20240101/2/{attempt}/{ROWS}", b"[]")
    problems = [readers.verify(c) for c in readers.list()]
    assert [p is None for p in problems] == [True, False, True] and "SHA-256" in str(problems[1])
    assert not list((tmp_path / "reader").glob("[0-9]*"))


def test_a_late_pointer_is_not_shown(tmp_path: Path, group: Group) -> None:
    """Of a run that a newer one has replaced, for a pass that the newer one has not come to."""
    machines = Machines(tmp_path, group)
    three_saved(machines)
    rewound(machines, PassId("20240101", 1))
    newer = machines.start()
    train(newer, 1)
    newer.save(with_model=False)
    store = ObjectStore(machines.store)
    aside = next(name for name in store.objects("") if "/commits/20240102/" in name)
    store.put(aside.split("/", 2)[2], store.get(aside))
    shown = StoredCheckpoints(machines.store, tmp_path / "reader").ids()
    assert [str(p) for p in shown] == ["20240101/1", "20240101/2"]
    assert machines.check_restart() == PassId("20240101", 2)


def test_what_is_kept_on_the_store(tmp_path: Path, group: Group) -> None:
    machines = Machines(tmp_path, group)
    trainer = three_saved(machines)
    train(trainer, 3)
    trainer.save(with_model=False)
    keeper = RemoteRetention(trainer.run)
    keeper.delete(Keep(1, 0), PassId("20240102", 2), time.time())
    names = [name for name in objects(machines.root) if name.startswith("commits/")]
    assert [name.split("-")[0] for name in names] == ["commits/20240102/1", "commits/20240102/2"]
    assert {n.split("/")[1] for n in objects(machines.root) if n.startswith("checkpoints/")} == {"20240102"}
    lines = objects(machines.root)["donefile.txt"].decode().splitlines()
    assert [line.split("\t")[0] for line in lines] == ["20240102", "20240102"]
    assert all(f"{machines.store.shown}/checkpoints/20240102/" in line for line in lines)
    assert machines.check_restart() == PassId("20240102", 2)


def test_the_checkpoint_that_was_taken_is_kept_though_a_newer_run_has_one(tmp_path: Path, group: Group) -> None:
    """Two trainers have put a pointer for one pass, and committed none; the newer one's files are damaged."""
    machines = Machines(tmp_path, group)
    trainer = machines.one_saved()
    train(trainer, 1)
    zombie = Frozen(lambda: trainer.save(with_model=False), "store.pointing")
    newer = machines.start()
    train(newer, 1)
    newer.rows[-1] += 100
    with pytest.raises(Crash), crash_at("store.pointed"):
        newer.save(with_model=False)
    assert isinstance(zombie.thaw(), errors.Fenced)
    damaged = next(n for n in objects(machines.root) if n.startswith("checkpoints/20240101/2/2-") and n.endswith(ROWS))
    ObjectStore(machines.store).put(damaged, b"[]")
    taken = machines.start()
    assert taken.last == PassId("20240101", 2)
    RemoteRetention(taken.run).delete(Keep(9, 0), PassId("20240101", 2), time.time())
    assert machines.check_restart() == PassId("20240101", 2)


def test_what_was_never_committed_is_swept(tmp_path: Path, group: Group) -> None:
    machines = Machines(tmp_path, group)
    trainer = three_saved(machines)
    rewound(machines, PassId("20240101", 2))
    trainer = machines.start()
    train(trainer, 2)
    with pytest.raises(Crash), crash_at("store.uploaded"):
        trainer.save(with_model=False)
    attempts = ObjectStore(machines.store).directories("checkpoints/20240102/1")
    assert len(attempts) == 2  # one that the rewind has set aside
    newer = machines.start()
    RemoteRetention(newer.run).sweep("")
    assert len(ObjectStore(machines.store).directories("checkpoints/20240102/1")) == 1
    rewound(machines, None)
    assert machines.start().last is None


@pytest.mark.parametrize("to", [PassId("20240101", 1), None])
def test_a_trainer_that_is_frozen_over_a_rewind(tmp_path: Path, group: Group, to: PassId | None) -> None:
    machines = Machines(tmp_path, group)
    trainer = three_saved(machines)
    train(trainer, 3)
    zombie = Frozen(lambda: trainer.save(with_model=False), "store.pointing")
    rewound(machines, to)
    assert isinstance(zombie.thaw(), errors.Fenced)
    assert [name for name in objects(machines.root) if name.startswith("commits/20240102/2-")]
    assert machines.start().last == to
    assert StoredCheckpoints(machines.store, tmp_path / "reader").ids() == ([to] if to else [])


def test_a_rewind_to_nothing_is_not_undone_by_a_cache(tmp_path: Path, group: Group) -> None:
    """A rewind on another machine: the trainer's own still has what was set aside, and no witness says otherwise."""
    machines = Machines(tmp_path, group)
    first = three_saved(machines)
    rewound(machines, None)
    again = started(first.run.root, machines.group, machines.store)
    assert again.last is None and again.rows == []
    assert len(list(first.run.root.glob(".set-aside/*/2024*/*/manifest.json"))) == 2
    train(again, 0)
    again.save(with_model=True)
    assert machines.check_restart() == PassId("20240101", 1)


def test_a_pointer_that_comes_late_to_the_first_checkpoint(tmp_path: Path, group: Group) -> None:
    """Its files are swept, nothing is committed yet: the newer trainer's next start begins from nothing again."""
    machines = Machines(tmp_path, group)
    trainer = machines.start()
    train(trainer, 0)
    zombie = Frozen(lambda: trainer.save(with_model=False), "store.pointing")
    newer = machines.start()
    RemoteRetention(newer.run).sweep("")
    assert isinstance(zombie.thaw(), errors.Fenced)
    assert [name for name in objects(machines.root) if name.startswith("commits/")]
    again = machines.start()
    assert again.last is None
    train(again, 0)
    again.save(with_model=False)
    assert machines.check_restart() == PassId("20240101", 1)


def test_checkpoints_that_are_restored_later_count(tmp_path: Path, group: Group) -> None:
    """A start that was refused since they were gone has not ended their runs."""
    machines = Machines(tmp_path, group)
    machines.one_saved()
    store = ObjectStore(machines.store)
    gone = {name: data for name, data in objects(machines.root).items() if name.startswith("commits/")}
    for name in gone:
        store.delete(name)
    with pytest.raises(errors.CheckpointMissing):
        machines.start()
    for name, data in gone.items():
        store.put(name, data)
    assert machines.check_restart() == PassId("20240101", 1)


def test_a_rewind_that_a_newer_trainer_has_replaced_sets_nothing_aside(tmp_path: Path, group: Group) -> None:
    """It has fetched its checkpoint for so long that a trainer was started, and has committed, meanwhile."""
    machines = Machines(tmp_path, group)
    three_saved(machines)
    rewinder = Trainer(machines.folder / "rewinder", machines.group, SCHEDULE, store=machines.store)
    rewinder.committer.take_over("rewind")
    newer = machines.start()
    train(newer, 3)
    newer.save(with_model=True)
    before = objects(machines.root)
    with pytest.raises(errors.Fenced):
        rewinder.committer.rewind(PassId("20240101", 1))
    assert objects(machines.root) == before
    assert machines.check_restart() == PassId("20240102", 2)


def test_a_rewind_beside_a_sweep_keeps_what_it_sets_aside(
    tmp_path: Path, group: Group, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The sweep has listed what earlier rewinds have set aside; then a newer one takes the pointers away."""
    machines = Machines(tmp_path, group)
    three_saved(machines)
    trainer = machines.start()
    look = ObjectStore.exists

    def after_a_rewind(self: ObjectStore, path: str) -> bool:
        monkeypatch.setattr(ObjectStore, "exists", look)
        rewound(machines, None)
        return look(self, path)

    monkeypatch.setattr(ObjectStore, "exists", after_a_rewind)
    with pytest.raises(errors.Fenced):
        RemoteRetention(trainer.run).sweep("")
    files = [name for name in objects(machines.root) if name.startswith("checkpoints/") and name.endswith(ROWS)]
    assert len([name for name in files if "/models/" not in name]) == 3


def test_what_was_on_its_way_between_machines_is_swept(tmp_path: Path, group: Group) -> None:
    """A round that is killed leaves it there; a trainer that was replaced leaves it alone."""
    machines = Machines(tmp_path, group)
    older = machines.one_saved()
    store = ObjectStore(machines.store)
    store.put(f"exchange/{'a' * 32}/1/000/part-0", b"of a round that was killed")
    newer = machines.start()
    with pytest.raises(errors.Fenced):
        RemoteRetention(older.run).sweep("")
    assert store.objects("exchange")
    RemoteRetention(newer.run).sweep("")
    assert not store.objects("exchange")


def test_a_view_of_another_machine_stays(tmp_path: Path, group: Group) -> None:
    """Several machines may share the folder: what is no process here may be one there."""
    machines = Machines(tmp_path, group)
    dead = subprocess.Popen(["true"])
    dead.wait()
    here, there = (tmp_path / "reader" / ".views" / f"{dead.pid}-{host}-x" for host in (socket.gethostname(), "other"))
    for view in (here, there):
        view.mkdir(parents=True)
    StoredCheckpoints(machines.store, tmp_path / "reader")
    assert there.exists() and not here.exists()


def test_two_runs_that_start_at_once_have_two_numbers(tmp_path: Path) -> None:
    """Each lists the runs before the other's object is there: pointers tell runs by their numbers."""
    objects = ObjectStore(at(tmp_path / "job"))
    RemoteRuns(objects).claim("before")
    runs = [RemoteRuns(ObjectStore(at(tmp_path / "job"))) for _ in range(3)]
    listed = threading.Barrier(3, timeout=10)

    def claim(run: RemoteRuns) -> None:
        put = run.objects.put

        def put_after_all_have_listed(path: str, data: bytes) -> None:
            run.objects.put = put  # type: ignore[method-assign]
            listed.wait()
            put(path, data)

        run.objects.put = put_after_all_have_listed  # type: ignore[method-assign]
        run.claim("one")

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(claim, runs))
    numbers = sorted(run.number for run in runs)
    assert len(set(numbers)) == 3 and numbers[0] >= 2
    newest = max(runs, key=lambda run: run.number)
    newest.check_newest()
    for run in runs:
        if run is not newest:
            with pytest.raises(errors.Fenced):
                run.check_newest()
    assert sorted(name for name in objects.directories("runs"))[-1].startswith(f"{newest.number}-")
