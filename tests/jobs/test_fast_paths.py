"""Each fast path does what the slow one does, on equal weights."""

import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
import yaml

from streamtrain.config import JobConfig, load_config
from streamtrain.contracts.tensors import read_tensor
from streamtrain.dumps import read_dump
from streamtrain.runtime.model_build import build_model
from tests.support.cli import run
from tests.support.everything_job import rich_rows, text_of, write_everything
from tests.support.jobs import write_config
from tests.support.paths import ROOT, TESTS
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
    return {str(p.relative_to(checkpoint)): p.read_bytes() for p in checkpoint.rglob("*") if p.is_file()}


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
    """At a day's end: its touched keys, the checkpoint, and what is in the servers after it."""
    config, rows, named = rich
    before = tmp_path / "before"
    do(config, "train", [["train", rows], ["save", str(before)]], servers=2)
    saved = {}
    for name, of_predict in (("slow", []), ("fast", [named, str(tmp_path / "dumped")])):
        folders = [str(tmp_path / f"{name}-{part}") for part in ("day", "touched", "after")]
        save = ["predict and save", *of_predict] if of_predict else ["save"]
        do(config, name, [["load", str(before)], ["shrink"], [*save, *folders[:2]], ["save", folders[2]]], servers=2)
        saved[name] = [
            {file: sorted(text.splitlines()) for file, text in files_of(Path(folder)).items()} for folder in folders
        ]
    assert saved["fast"] == saved["slow"]
    day, touched, after = saved["slow"]
    assert len(day) > 20 and any(name.startswith(".dense/") for name in day) and not any(".day" in name for name in day)
    keys = [line for name, lines in day.items() if name.endswith(".txt") for line in lines]
    assert sum(map(len, touched.values())) == len(keys) > 50
    assert day == after  # the touched keys are saved ahead of all keys, and untouched in them
    assert {tuple(line.split()[2:4]) for line in keys} == {(b"1", b"0")}  # a day more, and no delta_score


def pooled_rows(count: int, seed: int) -> list[str]:
    """Rows of tests/support/pools: 0 to 3 feasigns a slot."""
    source = random.Random(seed)
    rows = []
    for _ in range(count):
        slots = [[slot * 100 + source.randrange(30) for _ in range(source.randint(0, 3))] or [0] for slot in range(16)]
        text = " ".join(f"{len(keys)} {' '.join(map(str, keys))}" for keys in slots)
        rows.append(f"1 1 1 {source.randint(0, 1)} {text}\n")
    return rows


def pooled_job(folder: Path, **hyper_parameters: object) -> JobConfig:
    tables = yaml.safe_load((ROOT / "models" / "slot_dnn" / "config_online.yaml").read_text())["table_parameters"]
    wide = {**tables["embedding"], "accessor": {**tables["embedding"]["accessor"], "fea_dim": 5, "embedx_dim": 2}}
    return write_config(
        folder, "job", {"bootstrap.servers": "127.0.0.1:1"}, table_parameters={"wide": wide},
        runner={"model_dir": str(TESTS / "support" / "pools"), "train_batch_size": 256},
        hyper_parameters={"slot_num": 16, **hyper_parameters},
        stream={"workers": 1, "job": "job", "slots": list(range(2, 18))},
    )  # fmt: skip


def test_a_pool_that_the_optimizer_reads_is_refused(tmp_path: Path) -> None:
    done = run("config", "check", "-m", str(pooled_job(tmp_path, penalty=True).path))
    assert done.returncode == 2 and "create_optimizer() reads" in done.stderr + done.stdout
    assert "fast_paths: {pool: false}" in done.stderr + done.stdout
    report = build_model(without(load_config(tmp_path / "config_online.yaml"), "pool"))
    assert report is not None and not report.problems


def test_joined_pools_compute_what_the_network_does(tmp_path: Path) -> None:
    """One batch is trained: of several, Paddle's pushes arrive in no fixed order."""
    config = pooled_job(tmp_path)
    first, batch = tmp_path / "first.txt", tmp_path / "batch.txt"
    first.write_text("".join(pooled_rows(1000, seed=1)))
    batch.write_text("".join(f"1 r{n} {row}" for n, row in enumerate(pooled_rows(256, seed=2))))
    saved = str(tmp_path / "saved")
    do(config, "train", [["train", str(first)], ["save", saved]])
    for name, of_path in (("fast", config), ("slow", without(config, "pool"))):
        folder = tmp_path / name
        folder.mkdir()
        after = [str(folder / part) for part in ("predicted", "trained", "saved", "network")]
        do(of_path, name, [
            ["load", saved], ["predict", str(batch), after[0]], ["train", str(batch), after[1]], ["save", after[2]],
            ["network", after[3]],
        ])  # fmt: skip
    fast, slow = tmp_path / "fast", tmp_path / "slow"
    for part in ("predicted", "trained"):
        rows = rows_of(fast / part)
        assert len(rows) == 256 and rows == rows_of(slow / part)
    assert len(next(iter(rows_of(fast / "predicted").values()))) == 20
    assert np.array_equal(np.load(fast / "predicted" / "stats.npy"), np.load(slow / "predicted" / "stats.npy"))
    before, after, expected = (files_of(folder) for folder in (Path(saved), fast / "saved", slow / "saved"))
    loose = {"hidden.b", "out.b", *(name for name in after if name.startswith(".dense"))}
    exact = after.keys() - loose
    assert len(exact) > 20 and not any(after[name] != expected[name] for name in exact)
    assert {"hidden.w", "out.w"} <= {name for name in exact if before[name] != after[name]}
    for name in ("hidden.b", "out.b"):  # Paddle sums their gradient over rows in the order of the buffer's alignment
        np.testing.assert_allclose(*(read_tensor(files[name]) for files in (after, expected)), rtol=1e-6)
    assert (fast / "network").read_bytes() == (slow / "network").read_bytes()
    pools, gradients = (
        [(folder / "trained" / "operators").read_text().split().count(name) for folder in (fast, slow)]
        for name in ("sequence_pool", "sequence_pool_grad")
    )
    assert gradients == [4 + 3, 16 + 6]
    assert pools == [4 + 3 + 13 + 4, 16 + 6 + 4]  # 13 of those joined are in all_vars, 4 have no gradient
