"""Each fast path does what the slow one does, on equal weights."""

import gzip
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
import yaml

from streamtrain.config import JobConfig, load_config
from streamtrain.dumps import read_dump
from streamtrain.runtime.model_build import build_model
from tests.support.everything_job import rich_rows, text_of, write_everything
from tests.support.roles import run_roles

pytestmark = pytest.mark.paddle


def do(config: JobConfig, name: str, steps: list[list[str]], servers: int = 1) -> None:
    folder = config.path.parent
    (folder / f"{name}.json").write_bytes(orjson.dumps(steps))
    arguments = [str(config.path), str(folder / f"{name}.json")]
    run_roles("steps_role.py", arguments, folder, folder / f"{name}.done", servers, servers)


def without(config: JobConfig, path: str) -> JobConfig:
    """The same job with a fast path switched off."""
    raw = yaml.safe_load(config.path.read_text())
    raw["stream"]["fast_paths"] = {path: False}
    slow = config.path.with_name("slow.yaml")
    slow.write_text(yaml.safe_dump(raw))
    return load_config(slow)


def rows_of(dump: Path) -> dict[str, dict[str, list[Any]]]:
    return {row: {name: v.tolist() for name, v in values.items()} for row, values in read_dump(dump)}


def table_lines(checkpoint: Path) -> list[str]:
    parts = checkpoint.glob("*.shard/part-*")
    return sorted(f"{part.parent.name} {line}" for part in parts for line in part.read_text().splitlines())


def files_of(checkpoint: Path) -> dict[str, bytes]:
    found = {str(p.relative_to(checkpoint)): p for p in checkpoint.rglob("*") if p.is_file()}
    return {
        name: gzip.decompress(p.read_bytes()) if name.endswith(".gz") else p.read_bytes() for name, p in found.items()
    }


@pytest.fixture
def rich(tmp_path: Path) -> tuple[JobConfig, str, str]:
    """A job of all that a network may have, a file of rows to be trained, and one of more rows with their ids, to be
    predicted; a fifth of these have keys that no table has."""
    config = write_everything(tmp_path, "job", {"bootstrap.servers": "127.0.0.1:1"})
    report = build_model(config)
    assert report is not None and report.network is not None
    (tmp_path / "rows.txt").write_bytes(text_of(rich_rows(300, seed=3), report.network, config.layout))
    new = [replace(row, slots={slot: [key + 500 for key in keys] for slot, keys in row.slots.items()})
           for row in rich_rows(100, seed=4)]  # fmt: skip
    text = text_of([*rich_rows(400, seed=3), *new], report.network, config.layout)
    lines = text.splitlines(keepends=True)
    (tmp_path / "named.txt").write_bytes(b"".join(b"1 %d " % n + line for n, line in enumerate(lines)))
    return config, str(tmp_path / "rows.txt"), str(tmp_path / "named.txt")


def test_the_forward_half_predicts_what_the_training_program_does(
    tmp_path: Path, rich: tuple[JobConfig, str, str]
) -> None:
    config, rows, named = rich
    saved = str(tmp_path / "saved")
    do(config, "train", [["train", rows], ["save", saved]], servers=2)
    again = {name: str(tmp_path / f"after-{name}") for name in ("fast", "slow")}
    for name, of_path in (("fast", config), ("slow", without(config, "predict"))):
        dump = str(tmp_path / name)
        do(of_path, f"predict-{name}", [["load", saved], ["predict", named, dump], ["save", again[name]]])
    fast, slow = rows_of(tmp_path / "fast"), rows_of(tmp_path / "slow")
    assert len(fast) == 500 and len(next(iter(fast.values()))) > 3
    assert fast == slow
    assert [(tmp_path / name / "worker").read_text() for name in ("fast", "slow")] == ["Hogwild", "DownpourLite"]
    fast_ops, slow_ops = ((tmp_path / name / "operators").read_text().split() for name in ("fast", "slow"))
    assert not [op for op in fast_ops if op.endswith("_grad") or "push" in op or op == "send"]
    assert {op for op in slow_ops if "push" in op or op == "send"} and len(slow_ops) > 1.5 * len(fast_ops)
    stats = [np.load(tmp_path / name / "stats.npy") for name in ("fast", "slow")]
    assert stats[0].sum() and np.array_equal(*stats)
    for name in again.values():  # the tables are as they were
        assert table_lines(Path(name)) == table_lines(Path(saved)) != []


def test_a_save_beside_a_predict_is_the_same(tmp_path: Path, rich: tuple[JobConfig, str, str]) -> None:
    config, rows, named = rich
    slow, fast, dumped = (str(tmp_path / name) for name in ("slow", "fast", "dumped"))
    do(config, "both", [["train", rows], ["save", slow], ["predict and save", named, dumped, fast]], servers=2)
    saved = files_of(Path(slow))
    assert len(saved) > 20 and any(name.endswith(".gz") for name in saved)
    assert files_of(Path(fast)) == saved
