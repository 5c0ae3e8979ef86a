"""A judge with the documents and numpy alone: what online predicted is what the models on disk predict."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support.cli import run as streamtrain
from tests.support.layout_reader import SlotDNN, read_row
from tests.support.models import model_that_dumps, set_accessor
from tests.support.models_reader import Model, checkpoint_keys, overlay, read_all
from tests.support.paths import ROOT
from tests.support.scene import SPLITS, Scene

pytestmark = [pytest.mark.kafka, pytest.mark.paddle]

DAYS = ("20240101", "20240102")
PASSES = [(day, number) for day in DAYS for number in range(1, len(SPLITS) + 1)]
TOLERANCE = 1e-5


@dataclass
class Judged:
    """A finished job of two days and what its donefiles list."""

    folder: Path
    config: Path
    full: list[Model]
    incremental: list[Model]

    @property
    def root(self) -> Path:
        return self.folder / "model"

    def before(self, day: str, number: int) -> list[tuple[Model, list[Model]]]:
        """The chains on disk that are the model before that pass: two right after a day's end."""
        known = [m for m in (*self.full, *self.incremental) if (m.line["day"], m.line["pass_id"]) <= (day, number - 1)]
        bases = [m for m in known if m.line["kind"] == "full"]
        return [
            (base, [m for m in known if (m.line["base"] or {}).get("digest") == base.line["digest"]])
            for base in bases[-2 if number == 1 else -1 :]
        ]

    def rows(self, day: str, number: int) -> dict[str, str]:
        """ins_id -> the source's line."""
        split = f"{day}/{SPLITS[number - 1][-4:]}"
        files = sorted((self.folder / "data" / split).glob("part-*"))
        return {
            f"{split}/{index}/{line}": text
            for index, file in enumerate(files)
            for line, text in enumerate(file.read_text().splitlines(), 1)
            if text
        }

    def dumped(self, day: str, number: int) -> dict[str, dict[str, np.ndarray]]:
        """ins_id -> variable -> values, of the dump of predictions."""
        found: dict[str, dict[str, np.ndarray]] = {}
        for part in sorted((self.folder / "predict_dump_data" / day / str(number)).glob("part-*")):
            for line in part.read_text().splitlines():
                ins_id, _, fields = line.split("\t", 2)
                assert ins_id not in found
                found[ins_id] = {}
                for field in fields.split("\t"):
                    name, count, values = field.split(":")
                    found[ins_id][name] = np.array(values.split(","), np.float64)
                    assert len(found[ins_id][name]) == int(count)
        return found


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory, broker: Any) -> Iterator[Judged]:
    """Two servers, two workers; each day's shrink decays and deletes."""
    folder = tmp_path_factory.mktemp("layout")
    model = model_that_dumps(folder / "model_dir", "self.all_vars", "[]", "[]")
    runner = {"save_first_base": True, "model_dir": str(model), "train_batch_size": 4}
    faster = {"optimizer": {"class": "Adam", "learning_rate": 0.01}}
    job = f"test-{os.getpid()}-layout"
    scene = Scene(
        folder,
        {"bootstrap.servers": broker.bootstrap},
        job,
        2,
        2,
        days=2,
        runner=runner,
        hyper_parameters=faster,
        stream={"predict_dump_dir": "predict_dump_data"},
    )
    try:
        set_accessor(scene, show_click_decay_rate=0.6, delete_threshold=1.5, initial_g2sum=0.03)
        scene.start("run").finish(180)
        full, incremental = read_all(scene.config.model_save_path)
        yield Judged(folder, scene.config.path, full, incremental)
    finally:
        scene.close()


def test_online_is_offline(judged: Judged) -> None:
    """Every pass was predicted with the model that lay on disk before it: each row, each variable."""
    assert sum(len(m.deleted) for m in judged.incremental) > 0
    worst, rows, spread = 0.0, 0, 0.0
    for day, number in PASSES:
        lines, dumped = judged.rows(day, number), judged.dumped(day, number)
        assert set(dumped) == set(lines)
        chains = judged.before(day, number)
        assert len(chains) == (2 if (day, number) == (DAYS[1], 1) else 1)
        ids = sorted(lines)
        rows += len(ids)
        for base, over in chains if ids else []:
            model = SlotDNN.of(judged.root, base, over)
            computed = model.all_vars([read_row(lines[i])[1] for i in ids])
            names = model.manifest["variables"]
            assert names[-1] == model.manifest["target"] and all(list(dumped[i]) == names for i in ids)
            for name, values in zip(names, computed, strict=True):
                online = np.stack([dumped[i][name] for i in ids])
                difference = float(np.max(np.abs(online - values) / (1 + np.abs(values))))
                assert difference < TOLERANCE, (day, number, name)
                worst = max(worst, difference)
        spread = np.ptp([dumped[i][model.manifest["target"]] for i in ids]) if ids else spread
    print(f"\n{rows} rows, {len(judged.incremental)} incremental models: largest difference {worst:.1e}")
    assert rows > 800 and spread > 1000 * TOLERANCE  # predictions that say something


def test_a_model_too_few_is_seen(judged: Judged) -> None:
    """The comparison can fail: any one incremental model left out is seen, by its links and by its predictions."""
    day, number = DAYS[0], len(SPLITS)
    lines, dumped = judged.rows(day, number), judged.dumped(day, number)
    rows = [read_row(text)[1] for text in lines.values()]
    ((base, over),) = judged.before(day, number)
    for left_out in range(len(over)):
        if not over[left_out].keys:  # of the empty split
            continue
        with pytest.raises(AssertionError):
            overlay(base, over[:left_out] + over[left_out + 1 :] + judged.incremental[len(over) : len(over) + 1])
    older = SlotDNN.of(judged.root, base, over[:1])
    target = older.manifest["target"]
    online = np.array([dumped[i][target][0] for i in lines])
    assert np.abs(older.predict(rows) - online).max() > 100 * TOLERANCE


@pytest.mark.parametrize("kind", ["sparse/part-", "dense/", "model/", "manifest.json"])
def test_a_flipped_byte_is_refused(judged: Judged, kind: str) -> None:
    folder = judged.root / judged.incremental[1].line["path"]
    files = [str(p.relative_to(folder)) for p in sorted(folder.rglob("*")) if p.is_file() and p.stat().st_size]
    path = folder / next(f for f in files if f.startswith(kind))
    whole = path.read_bytes()
    middle = len(whole) // 2
    path.write_bytes(whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :])
    try:
        with pytest.raises(AssertionError):
            read_all(judged.root)
    finally:
        path.write_bytes(whole)
    read_all(judged.root)


def test_the_checkpoint_has_the_same_table(judged: Judged) -> None:
    """By the columns that .meta names; `checkpoints show` says the same of single keys."""
    for day, number in PASSES:
        checkpoint = judged.root / day / str(number)
        chain = [m for m in judged.incremental if (m.line["day"], m.line["pass_id"]) <= (day, number)]
        base = next(m for m in judged.full if m.line["digest"] == chain[-1].line["base"]["digest"])
        table = overlay(base, [m for m in chain if m.line["base"]["digest"] == base.line["digest"]])
        manifest = json.loads((checkpoint / "manifest.json").read_text())
        found, metas = {}, []
        for part in sorted((checkpoint / "embedding.shard").glob("part-*.txt")):
            meta = json.loads(part.with_suffix(".meta").read_text())
            lines = part.read_text().splitlines()
            assert meta["keys"] == len(lines)
            metas.append(meta)
            names = [c["name"] for c in meta["columns"]]
            for line in lines:
                values = dict(zip(names, line.split(" "), strict=False))
                embedx = [values.get(f"embedx_{i}", "0") for i in range(meta["embedx_dim"])]
                found[int(values["key"])] = " ".join([values["embed_w"], *embedx])
        assert found == table == checkpoint_keys(checkpoint)
        assert {m["shard_num"] for m in metas} == {len(metas)} and manifest["keys"] == len(found)
        for name in chain[-1].manifest["dense"]:
            published = judged.root / chain[-1].line["path"] / "dense" / name
            assert (checkpoint / name).read_bytes() == published.read_bytes()
    keys = [*sorted(table)[:2], *sorted(table)[-2:]]
    shown = streamtrain("checkpoints", "show", "-m", str(judged.config), *map(str, keys), "--json")
    assert shown.returncode == 0, shown.stderr
    for entry in json.loads(shown.stdout)["keys"]:
        values = [float(v) for v in table[entry["key"]].split(" ")]
        assert [entry["embed_w"], *entry["embedx"]] == pytest.approx(values, rel=1e-6)
    deleted = set().union(*(m.deleted for m in judged.incremental)) - set(table)
    gone = streamtrain("checkpoints", "show", "-m", str(judged.config), str(min(deleted)), "--json")
    assert gone.returncode == 1 and json.loads(gone.stdout)["absent"] == [min(deleted)]


def test_paddle_inference_says_the_same(judged: Judged, tmp_path: Path) -> None:
    """docs/serving.md's Python, as it stands there, with this model and these rows."""
    text = (ROOT / "docs" / "serving.md").read_text()
    snippet = next(s for s in re.findall(r"```python\n(.*?)```", text, re.DOTALL) if "inference.Config" in s)
    base = judged.full[1]
    lines = list(judged.rows(DAYS[1], 1).values())
    for pattern, value in (
        (r'Path\(".*?"\)', f"Path({str(judged.root / base.line['path'])!r})"),
        (r"rows = \[.*?\]", f"rows = {lines!r}"),
    ):
        snippet, count = re.subn(pattern, lambda _, v=value: v, snippet)
        assert count == 1
    (tmp_path / "offline.py").write_text("import numpy\nnumpy.set_printoptions(threshold=10**6)\n" + snippet)
    done = subprocess.run(
        [sys.executable, "offline.py"], cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = np.array(done.stdout.strip().strip("[]").split(), np.float64)
    expected = SlotDNN.of(judged.root, base, []).predict([read_row(x)[1] for x in lines])
    assert len(found) == len(lines) and np.abs(found - expected).max() < TOLERANCE
