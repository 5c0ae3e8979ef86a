"""`streamtrain checkpoints show` and `models`: single keys of a table, and what the donefiles list."""

import json
from pathlib import Path
from typing import Any

import pytest

from streamtrain.checkpoint.store import CheckpointStore
from streamtrain.checkpoint.table_files import find_keys
from streamtrain.cli import checkpoints
from streamtrain.config import JobConfig
from streamtrain.contracts.donefiles import DoneLine
from streamtrain.contracts.manifest import ModelRef
from streamtrain.contracts.table_text import parse_line
from streamtrain.engine.tables import TableFormat
from streamtrain.errors import CheckpointError
from streamtrain.schedule import PassId
from tests.support.cli import run_here as run
from tests.support.jobs import write_config

LONG = "7 3 2 0.5 9.604 1.5 0.25 0.1 1 2 3 4 5 6 7 8e-05 0.3"
SHORT = f"{2**64 - 1} 2 0 0 1 1 -0.5 0"
COLUMNS = tuple(
    ["key", "slot", "unseen_days", "delta_score", "show", "click", "embed_w", "embed_g2sum"]
    + [f"embedx_{i}" for i in range(8)]
    + ["embedx_g2sum"]
)


def write_table(config: JobConfig, pass_id: str, parts: list[list[str]]) -> Path:
    """A checkpoint by hand: its table with the .meta that checkpoints have, and the least manifest."""
    path = config.model_save_path / pass_id
    shard = path / "embedding.shard"
    shard.mkdir(parents=True)
    table = TableFormat("embedding", config.raw["table_parameters"]["embedding"])
    for number, lines in enumerate(parts):
        (shard / f"part-{number}.txt").write_text("".join(f"{line}\n" for line in lines))
        (shard / f"part-{number}.meta").write_bytes(table.meta(len(lines)))
    files = [{"path": f"embedding.shard/{p.name}", "bytes": 0, "sha256": ""} for p in sorted(shard.iterdir())]
    day, _, pass_id = pass_id.partition("/")
    names = ("job", "samples_topic_id", "splits_topic_id", "cluster_id", "config_sha256", "program", "created")
    manifest: dict[str, Any] = {**dict.fromkeys(names, ""), "day": day, "pass_id": int(pass_id), "format": 1}
    manifest |= {**dict.fromkeys(("marker_offset", "partitions", "rows", "keys"), 0), "offsets": {}, "metrics": {}}
    (path / "manifest.json").write_text(json.dumps({**manifest, "files": files}))
    return path


@pytest.fixture
def config(tmp_path: Path) -> JobConfig:
    return write_config(tmp_path, "j", {"bootstrap.servers": "127.0.0.1:1"})


def test_a_line_with_and_without_embedx() -> None:
    found = parse_line(LONG.encode(), COLUMNS)
    assert (found.key, found.slot, found.unseen_days, found.delta_score) == (7, 3, 2, 0.5)
    assert (found.show, found.click, found.embed_w) == (9.604, 1.5, 0.25)
    assert found.embedx == (1, 2, 3, 4, 5, 6, 7, 8e-05)
    found = parse_line(SHORT.encode(), COLUMNS)
    assert found.key == 2**64 - 1 and found.embedx == () and found.embed_w == -0.5
    for line in (LONG.rpartition(" ")[0], SHORT + " 1", SHORT.replace("-0.5", "x"), ""):
        with pytest.raises(ValueError):
            parse_line(line.encode(), COLUMNS)


def test_show(config: JobConfig) -> None:
    write_table(config, "20240101/1", [[LONG.replace("9.604", "3")], []])
    write_table(config, "20240102/2", [[LONG], [SHORT]])
    command = ("checkpoints", "show", "-m", str(config.path))
    done = run(*command, "7", str(2**64 - 1), "--json")
    found = json.loads(done.stdout)
    assert done.returncode == 0 and found["pass"] == "20240102/2" and found["absent"] == []
    assert [(k["key"], k["show"]) for k in found["keys"]] == [(7, 9.604), (2**64 - 1, 1)]
    assert found["keys"][0]["embedx"][7] == 8e-05
    found = json.loads(run(*command, "7", "--pass", "20240101/1", "--json").stdout)
    assert found["keys"][0]["show"] == 3
    done = run(*command, "7", "70")
    assert done.returncode == 1 and "9.604" in done.stdout and "absent" in done.stdout
    done = run(*command, "70", "--json")
    assert done.returncode == 1 and json.loads(done.stdout)["absent"] == [70]
    for arguments in (["seven"], [str(2**64)], ["1.5"], ["7", "--pass", "yesterday"]):
        assert run(*command, *arguments).returncode == 2
    assert run(*command, "7", "--pass", "20240103/1").returncode == 5


def test_what_cannot_be_read_is_named(config: JobConfig) -> None:
    path = write_table(config, "20240101/1", [[SHORT, LONG[:30]]])
    with pytest.raises(CheckpointError, match=r"part-0.txt, line 2: it has \d+ columns"):
        find_keys(path, [7])
    assert find_keys(path, [2**64 - 1])
    (path / "embedding.shard" / "part-0.meta").write_text("{}")
    with pytest.raises(CheckpointError, match=r"part-0.meta"):
        find_keys(path, [7])


def test_models(config: JobConfig) -> None:
    command = ("checkpoints", "models", "-m", str(config.path))
    assert "no inference models" in run(*command).stdout
    root = config.model_save_path
    (root / "20240102/inference_model_0").mkdir(parents=True)
    base = ModelRef("20240102", 0, "b")

    def line(kind: str, pass_id: int, published: float, **more: Any) -> bytes:
        path = f"20240102/inference_model_{pass_id}"
        values = {"day": "20240102", "pass_id": pass_id, "kind": kind, "path": path, "digest": "d", "keys": 1032}
        more = {"deleted": 0, "rows": 91234, "event_time": "2024-01-02T06:00:00", **more}
        return DoneLine(**values, **more, published=published).encode()

    (root / "base_donefile.txt").write_bytes(line("full", 0, 2.0))
    (root / "patch_donefile.txt").write_bytes(line("incremental", 1, 1.0) + line("incremental", 2, 3.0, base=base))
    found = json.loads(run(*command, "--json").stdout)["models"]
    assert [(m["pass_id"], m["there"]) for m in found] == [(1, False), (0, True), (2, False)]
    text = run(*command).stdout
    assert "91,234" in text and "gone" in text and "there" in text and "20240102/2" in text
    (root / "patch_donefile.txt").write_text("{}\n")
    assert run(*command).returncode == 5


def test_a_list_reads_the_newest_alone(config: JobConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a job of a year it must not take minutes."""
    monkeypatch.setattr(checkpoints, "NEWEST", 3)
    for pass_id in range(1, 11):
        write_table(config, f"20240101/{pass_id}", [[], []])
    read: list[PassId] = []
    real = CheckpointStore.read
    monkeypatch.setattr(CheckpointStore, "read", lambda self, pass_id: read.append(pass_id) or real(self, pass_id))
    command = ("checkpoints", "list", "-m", str(config.path))
    found = json.loads(run(*command, "--json").stdout)
    assert [c["pass_id"] for c in found["checkpoints"]] == [8, 9, 10] and found["older"] == 7
    assert len(read) == 3
    assert "7 older ones are not listed: --all lists them" in run(*command).stdout
    found = json.loads(run(*command, "--json", "--all").stdout)
    assert [c["pass_id"] for c in found["checkpoints"]] == list(range(1, 11)) and found["older"] == 0


def test_models_lists_the_newest(config: JobConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoints, "NEWEST", 2)
    lines = [
        DoneLine(path=f"20240101/inference_model_{n}", digest="d", published=n, day="20240101", pass_id=n, kind="full")
        for n in range(1, 6)
    ]
    config.model_save_path.mkdir()
    (config.model_save_path / "base_donefile.txt").write_bytes(b"".join(line.encode() for line in lines))
    command = ("checkpoints", "models", "-m", str(config.path), "--json")
    found = json.loads(run(*command).stdout)
    assert [m["pass_id"] for m in found["models"]] == [4, 5] and found["older"] == 3
    assert len(json.loads(run(*command, "--all").stdout)["models"]) == 5
