"""Files between machines without a shared disk, the beats between them left out."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from streamtrain.errors import CheckpointError
from streamtrain.locations import Location
from streamtrain.object_store import ObjectStore
from streamtrain.runtime import exchange
from streamtrain.runtime.exchange import Exchange, Machine, Request
from tests.support.plain_store import objects

TOKEN = "0" * 32


@pytest.fixture
def store(tmp_path: Path) -> ObjectStore:
    return ObjectStore(Location("runner.model_save_path", f"plain://{tmp_path}/b.store"))


class Job:
    """Worker 0's disk is `root`; the server's is another one, at the same path while it works."""

    def __init__(self, folder: Path, store: ObjectStore, *, shared: bool) -> None:
        self.root, self.aside = folder / "disk", folder / "other"
        self.root.mkdir()
        self.aside.mkdir()
        self.run_dir = folder / "run"
        self.run_dir.mkdir()
        self.shared = shared
        self.machine = Machine(self.root, store)
        self.role = Exchange(self.run_dir, store, contextlib.nullcontext)

    @contextlib.contextmanager
    def on_the_server(self) -> Iterator[None]:
        away = self.root.with_name("away")
        if not self.shared:
            self.root.rename(away)
            self.aside.rename(self.root)
        yield
        if not self.shared:
            self.root.rename(self.aside)
            away.rename(self.root)

    def do(self, call: Callable[[], None]) -> None:
        """The call of the role; the server's machine, and the agents' beats, beside it."""
        errors: list[BaseException] = []

        def ask() -> None:
            try:
                call()
            except BaseException as error:
                errors.append(error)

        thread = threading.Thread(target=ask)
        before = exchange.requested(self.run_dir)
        thread.start()
        while thread.is_alive():
            request = exchange.requested(self.run_dir)
            if request is not None and request != before:
                before = request
                with self.on_the_server():
                    self.machine.perform(request)
                    self.machine.perform(request)  # beats repeat it
                assert self.machine.done is not None
                exchange.answer(self.run_dir, self.machine.done)
            thread.join(0.01)
        if errors:
            raise errors[0]


@pytest.mark.parametrize("shared", [False, True])
def test_shards_go_there_and_back(tmp_path: Path, store: ObjectStore, shared: bool) -> None:
    job = Job(tmp_path, store, shared=shared)
    saved, older = (job.root / ".staging" / number / "raw" for number in ("7", "6"))
    with job.on_the_server():
        older.mkdir(parents=True)  # of a server that was killed
        (saved / "000").mkdir(parents=True)
        (saved / "000" / "part-1").write_text("of the server")
    (saved / "000").mkdir(parents=True, exist_ok=True)
    (saved / "000" / "part-0").write_text("of worker 0's machine")
    job.do(lambda: job.role.gather(saved))
    assert sorted(p.name for p in saved.rglob("*")) == ["000", "part-0", "part-1"]
    assert (saved / "000" / "part-1").read_text() == "of the server"
    job.do(lambda: job.role.scatter(saved))
    with job.on_the_server():
        assert sorted(p.name for p in saved.rglob("part-*")) == ["part-0", "part-1"]
    job.do(lambda: job.role.drop(saved))
    with job.on_the_server():
        assert saved.exists() == older.exists() == shared
    assert sorted(p.name for p in saved.rglob("part-*")) == ["part-0", "part-1"]
    assert not objects(tmp_path / "b.store")


class InStep(ObjectStore):
    """Two agents of one disk have both listed what is to be uploaded, or half a second has passed; then the first one
    finishes before the second one begins."""

    def __init__(self, location: Location, both: threading.Barrier, first: threading.Event) -> None:
        super().__init__(location)
        self._both, self._first = both, first

    def put_files(self, pairs: Iterable[tuple[str, Path]]) -> None:
        listed = list(pairs)
        with contextlib.suppress(threading.BrokenBarrierError):
            if self._both.wait() == 0:
                self._first.wait(5)
        super().put_files(listed)


def test_two_servers_on_one_disk(tmp_path: Path, store: ObjectStore) -> None:
    """Another one than worker 0's: each shard goes there once, and nobody takes it away under the other."""
    both, first = threading.Barrier(2, timeout=0.5), threading.Event()
    machines = [Machine(tmp_path / "disk", InStep(store.location, both, first)) for _ in range(2)]
    saved = tmp_path / "disk" / ".staging" / "7" / "raw"

    def ask(number: int, kind: str) -> None:
        request = {**vars(Request(number, kind, str(saved), f"exchange/{TOKEN}/{number}", TOKEN))}  # type: ignore[arg-type]

        def perform(machine: Machine) -> None:
            machine.perform(request)
            first.set()

        with ThreadPoolExecutor(2) as pool:
            list(pool.map(perform, machines))
        assert [machine.done for machine in machines] == [{"number": number, "problem": ""}] * 2

    for server in range(2):
        (saved / "000").mkdir(parents=True, exist_ok=True)
        (saved / "000" / f"part-{server}").write_text(f"of server {server}")
    ask(1, "gather")
    assert store.objects(f"exchange/{TOKEN}/1") == ["000/part-0", "000/part-1"] and not saved.exists()
    store.put(f"exchange/{TOKEN}/2/000/part-0", b"to be loaded")
    ask(2, "scatter")
    assert (saved / "000" / "part-0").read_bytes() == b"to be loaded"
    ask(3, "drop")
    assert not saved.exists()


def test_a_directory_elsewhere_is_refused(tmp_path: Path, store: ObjectStore) -> None:
    job = Job(tmp_path, store, shared=True)
    other = tmp_path / "home"
    (other / "x").mkdir(parents=True)
    with pytest.raises(CheckpointError, match="home is not below this machine's"):
        job.do(lambda: job.role.drop(other))
    for path in (f"{job.root}/../home", str(job.root)):
        job.machine.perform({**vars(Request(9, "drop", path, f"exchange/{TOKEN}/9", TOKEN))})
        assert job.machine.done is not None and "is not below" in job.machine.done["problem"]
        job.machine.done = None
    assert (other / "x").exists() and job.root.exists()


NO_REQUESTS = [
    {},
    {"number": 1, "kind": "run"},
    {"number": 1, "kind": "drop", "directory": "/", "prefix": "runs/1", "token": TOKEN},
]


@pytest.mark.parametrize("message", NO_REQUESTS)
def test_a_request_that_is_none_is_not_done(tmp_path: Path, store: ObjectStore, message: dict[str, object]) -> None:
    machine = Machine(tmp_path, store)
    machine.perform(message)
    assert machine.done is None
