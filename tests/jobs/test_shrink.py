"""What Paddle's own tables do at a day's end, against the recount."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import yaml

from streamtrain.config import load_config
from streamtrain.contracts.table_text import (
    CTR_DEFAULTS,
    DEFAULT_ACCESSOR,
    DEFAULT_EMBEDX_THRESHOLD,
    DEFAULT_RULE,
    DEFAULT_SHARDS,
)
from streamtrain.engine.dry_build import role_environment
from streamtrain.proof.days import ShrinkRule
from streamtrain.proof.job import recount_job
from tests.support.jobs import SLOTS, rows, write_config, write_split
from tests.support.paths import ROOT, TESTS
from tests.support.roles import run_roles

pytestmark = pytest.mark.paddle
F = np.float32
PASSES = ("0000", "1200")


def day(number: int) -> str:
    return f"202401{number + 1:02d}"


def test_the_defaults_are_those_that_paddle_takes(tmp_path: Path) -> None:
    """Of a config that says nothing of its table but its width, as the servers are told of it."""
    config = write_config(tmp_path, "j", {"bootstrap.servers": "127.0.0.1:1"})
    raw = {**config.raw, "table_parameters": {"embedding": {"accessor": {"embedx_dim": 8}}}}
    config.path.write_text(yaml.safe_dump(raw))
    role = TESTS / "support" / "defaults_role.py"
    environment = {**os.environ, **role_environment(), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, str(role), str(config.path), str(tmp_path / "table.json")]
    subprocess.run(command, env=environment, cwd=tmp_path, check=True, capture_output=True)
    table = json.loads((tmp_path / "table.json").read_text())
    accessor = table["accessor"]
    thresholds = accessor["ctr_accessor_param"]
    assert {key: F(thresholds[key]) for key in CTR_DEFAULTS} == {key: F(value) for key, value in CTR_DEFAULTS.items()}
    assert asdict(ShrinkRule()).items() <= CTR_DEFAULTS.items()
    assert (int(table["shard_num"]), accessor["accessor_class"]) == (DEFAULT_SHARDS, DEFAULT_ACCESSOR)
    assert accessor["embedx_threshold"] == DEFAULT_EMBEDX_THRESHOLD
    assert {accessor[key]["name"] for key in ("embed_sgd_param", "embedx_sgd_param")} == {DEFAULT_RULE}


def multislot(lines: Sequence[str]) -> str:
    """As the feed gives rows to Paddle: show, click, then the slots 2 to 5."""
    found = []
    for line in lines:
        pairs = [tuple(map(int, token.split(":"))) for token in line.split()]
        slots = [[f for f, s in pairs if s == slot] or [0] for slot in (1, *range(2, SLOTS + 2))]
        found.append("1 1 " + " ".join(f"{len(its)} {' '.join(map(str, its))}" for its in slots))
    return "".join(f"{line}\n" for line in found)


def test_real_shrinks(tmp_path: Path) -> None:
    """Paddle's own table over two days and a half, with a restart between, against the recount."""
    config = write_config(tmp_path, "j", {"bootstrap.servers": "127.0.0.1:1"})
    rates = {"show_click_decay_rate": 0.9, "delete_threshold": 0.8, "delete_after_unseen_days": 0.0}
    config.raw["table_parameters"]["embedding"]["accessor"]["ctr_accessor_param"].update(rates)
    config.path.write_text(yaml.safe_dump(config.raw))
    config = load_config(config.path)
    steps: list[list[str]] = []
    saved: list[Path] = []
    count = 0
    for number in range(5):
        lines = rows(60 - 10 * number, seed=number, vocabulary=20 + 20 * number)
        count += len(lines)
        write_split(tmp_path / "data", f"{day(number // 2)}/{PASSES[number % 2]}", lines)
        (tmp_path / f"pass-{number}").write_text(multislot(lines))
        steps.append(["train", str(tmp_path / f"pass-{number}")])
        if number % 2:
            steps.append(["shrink"])
        if number in (1, 3, 4):
            saved.append(config.model_save_path / day(number // 2) / str(number % 2 + 1))
            steps.append(["save", str(saved[-1])])
            manifest = {"rows": count, "shrinks": (number + 1) // 2}
            saved[-1].parent.mkdir(parents=True, exist_ok=True)
            saved[-1].with_suffix(".json").write_text(json.dumps(manifest))
    cut = steps.index(["save", str(saved[0])]) + 1
    for name, part, servers in (("one", steps[:cut], 2), ("two", [["load", str(saved[0])], *steps[cut:]], 1)):
        (tmp_path / f"{name}.json").write_text(json.dumps(part))
        arguments = [str(config.path), str(tmp_path / f"{name}.json")]
        run_roles("steps_role.py", arguments, tmp_path, tmp_path / f"{name}.done", servers, servers)
    tables = []
    for checkpoint in saved:  # the newest one counts: manifests come one after the other
        checkpoint.with_suffix(".json").rename(checkpoint / "manifest.json")
        found = recount_job(config)
        assert found.ok and found.checkpoint == str(checkpoint) and found.sharp == found.keys, found
        tables.append(found)
    assert [t.shrinks for t in tables] == [1, 2, 2] and tables[0].deleted > 10 < tables[1].deleted - tables[0].deleted
    assert 0 < tables[2].tolerance < 1e-4
    source = tmp_path / "data" / day(2) / PASSES[0] / "part-0"
    text = source.read_text()
    for wrong, changed in (("lost", text + text[: text.index("\n") + 1]), ("duplicated", text[text.index("\n") + 1 :])):
        source.write_text(changed)
        rows_trained = count + (1 if wrong == "lost" else -1)  # the trainer's own count saw nothing
        (saved[-1] / "manifest.json").write_text(json.dumps({"rows": rows_trained, "shrinks": 2}))
        found = recount_job(config)
        assert not found.ok and getattr(found, wrong) > 0
