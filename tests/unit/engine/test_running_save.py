"""The order in which servers are asked to save, and what becomes of their files."""

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from streamtrain.engine import running_save
from streamtrain.engine.running_save import RunningSave, SaveRequest
from streamtrain.engine.tables import TableFormat
from streamtrain.errors import CheckpointError
from streamtrain.timings import Timings

TABLE = {"shard_num": 1, "accessor": {"accessor_class": "SparseAccessor", "embedx_dim": 1}}
LINE = b"7 2 0 0 1 0 0.5 0.1 0.2 0.1\n"


class Servers:
    """Write what they are asked for, and tell in which order."""

    def __init__(self) -> None:
        self.asked: list[tuple[int, str, int]] = []
        self.fail: tuple[int, int] | None = None
        self.dense_may_end = threading.Event()
        self.dense_may_end.set()

    def save_table(
        self, _servers: Sequence[str], table: int, directory: Path, mode: int, *, dense: bool = False
    ) -> None:
        if dense:
            assert self.dense_may_end.wait(30)
        self.asked.append((table, directory.name, mode))
        if self.fail == (table, mode):
            raise CheckpointError("server x did not save")
        folder = directory / f"{table:03d}"
        folder.mkdir(parents=True)
        (folder / "part-000").write_bytes(b"1 0\n2 0\n" if dense else LINE)


@pytest.fixture
def servers(monkeypatch: pytest.MonkeyPatch) -> Servers:
    made = Servers()
    monkeypatch.setattr(running_save, "save_table", made.save_table)
    return made


def save(request: SaveRequest, exchange: Any = None) -> RunningSave:
    formats = [TableFormat("a", TABLE, 0, 2), TableFormat("b", TABLE, 1, 2)]
    return RunningSave(request, ["x:1"], formats, {"a": 1, "b": 1}, 2, Timings(), exchange)


def request_in(folder: Path, **more: Any) -> SaveRequest:
    (folder / "checkpoint").mkdir()
    (folder / "touched").mkdir()
    return SaveRequest(folder / "checkpoint", **more)


def test_a_day_then_the_touched_keys_then_all_of_them(tmp_path: Path, servers: Servers) -> None:
    servers.dense_may_end.clear()
    request = request_in(tmp_path, touched=tmp_path / "touched", day_end=True)
    running = save(request)
    while len(servers.asked) < 6:  # beside the dense table
        threading.Event().wait(0.001)
    servers.dense_may_end.set()
    saved = running.arrange()
    sparse = [(name, mode) for table, name, mode in servers.asked if table == 0]
    assert sparse == [(".day", 3), ("touched", 1), (".raw", 4)]
    assert servers.asked[-1] == (2, ".raw", 0) and len(servers.asked) == 7
    assert saved.keys == 2 and saved.touched == {"a": tmp_path / "touched/000", "b": tmp_path / "touched/001"}
    there = {str(p.relative_to(request.directory)) for p in request.directory.rglob("*") if p.is_file()}
    assert there == {
        ".dense/part-000", "a.shard/part-000.txt", "a.shard/part-000.meta", "b.shard/part-000.txt",
        "b.shard/part-000.meta",
    }  # fmt: skip
    assert set(saved.timings) >= {"paddle_day", "paddle_touched", "paddle_sparse", "paddle_dense", "checked"}


def test_of_a_pass_within_the_day_all_keys_alone(tmp_path: Path, servers: Servers) -> None:
    saved = save(request_in(tmp_path)).arrange()
    assert sorted(servers.asked) == [(0, ".raw", 4), (1, ".raw", 4), (2, ".raw", 0)] and saved.touched is None


@pytest.mark.parametrize("what", [(2, 0), (1, 4), (0, 1), (0, 3)])
def test_a_server_that_does_not_save(tmp_path: Path, servers: Servers, what: tuple[int, int]) -> None:
    servers.fail = what
    running = save(request_in(tmp_path, touched=tmp_path / "touched", day_end=True))
    with pytest.raises(CheckpointError, match="did not save"):
        running.wait_for_tables()
    with pytest.raises(CheckpointError, match="did not save"):
        running.arrange()


@pytest.mark.usefixtures("servers")
def test_servers_without_this_disk(tmp_path: Path) -> None:
    calls: list[tuple[str, Path]] = []

    class Exchange:
        def gather(self, directory: Path) -> None:
            calls.append(("gather", directory))

        def scatter(self, directory: Path) -> None: ...

        def drop(self, directory: Path) -> None:
            calls.append(("drop", directory))

    request = request_in(tmp_path, touched=tmp_path / "touched", day_end=True)
    save(request, Exchange()).arrange()
    assert calls == [("gather", request.raw), ("gather", tmp_path / "touched"), ("drop", request.day)]
