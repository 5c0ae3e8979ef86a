"""Each fast path does what the slow one does, on equal weights."""

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


def test_the_forward_half_predicts_what_the_training_program_does(tmp_path: Path) -> None:
    config = write_everything(tmp_path, "job", {"bootstrap.servers": "127.0.0.1:1"})
    report = build_model(config)
    assert report is not None and report.network is not None
    text = text_of(rich_rows(500, seed=3), report.network, config.layout)
    (tmp_path / "rows.txt").write_bytes(text)
    lines = text.splitlines(keepends=True)
    (tmp_path / "named.txt").write_bytes(b"".join(b"1 %d " % n + line for n, line in enumerate(lines)))
    named, saved = str(tmp_path / "named.txt"), str(tmp_path / "saved")
    do(config, "train", [["train", str(tmp_path / "rows.txt")], ["save", saved]], servers=2)
    again = {name: str(tmp_path / f"after-{name}") for name in ("fast", "slow")}
    for name, of_path in (("fast", config), ("slow", without(config, "predict"))):
        dump = str(tmp_path / name)
        do(of_path, f"predict-{name}", [["load", saved], ["predict", named, dump], ["save", again[name]]])
    fast, slow = rows_of(tmp_path / "fast"), rows_of(tmp_path / "slow")
    assert len(fast) == 500 and len(next(iter(fast.values()))) > 3
    assert fast == slow
    stats = [np.load(tmp_path / name / "stats.npy") for name in ("fast", "slow")]
    assert stats[0].sum() and np.array_equal(*stats)
    for name in again.values():  # the tables are as they were
        assert table_lines(Path(name)) == table_lines(Path(saved)) != []
