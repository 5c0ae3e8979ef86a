"""Files between machines without a shared disk, the beats between them left out."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
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
