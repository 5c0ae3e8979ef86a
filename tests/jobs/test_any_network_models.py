"""Inference models of a network that has it all: the worker's dump, Predictor, `serve`, `predict`, and numpy on what
lies on disk, for full and incremental ones, over a kill, a restart at another shape, and days' ends."""

import json
import os
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from streamtrain.config import JobConfig, load_config
from streamtrain.contracts import reports
from streamtrain.dumps import read_dump
from streamtrain.errors import DataError
from streamtrain.serving.predictor import Predictor
from tests.jobs.test_serve import ask, serving
from tests.support.cli import run
from tests.support.everything_job import FEATURES, RichRow, publish, rich_rows, write_everything
from tests.support.everything_reader import Model, read_all
from tests.support.scene import Scene

pytestmark = [pytest.mark.kafka, pytest.mark.paddle]
TARGETS = ("click", "like", "dwell")
DAYS = (("20240101", "20240102"), ("20240102", "20240103"))


def by_name(row: RichRow) -> dict[str, Any]:
    """As a client sends it: with a label, and an item of a list of one as it is."""
    found: dict[str, Any] = {name: row.slots[slot] for name, slot in FEATURES.items() if row.slots[slot]}
    return {**found, "user_id": row.slots[2][0], "price": row.price, "age": row.age, "click": 1, "unknown": "x"}


def arrays(rows: list[RichRow]) -> tuple[Any, ...]:
    pairs = [[(slot, key) for slot, keys in reversed(row.slots.items()) for key in keys] for row in rows]
    flat = [pair for row in pairs for pair in row]
    dense = {"age": [row.age for row in rows], "price": [row.price for row in rows]}
    return [len(row) for row in pairs], [slot for slot, _ in flat], [key for _, key in flat], dense


def write(folder: Path, job: str, kafka: dict[str, str], shape: int, decay_of_shown: float = 0.5) -> JobConfig:
    """decay_of_shown: of the show that the network reads."""
    config = write_everything(
        folder, job, kafka,
        runner={
            "start_day": "20240101", "end_day": "20240102", "split_interval": 480, "save_delta_frequency": 1,
        },
        stream={"servers": shape, "workers": shape, "inference_model": "both", "consistency_rows": 60,
            "predict_dump_dir": "predict_dump_data",
        },
    )  # fmt: skip
    values = yaml.safe_load(config.path.read_text())
    rules = {
        "a_liked": (0.5, 0.0, 4), "wide": (0.5, 0.55, 0), "deep": (1.0, 0.0, 0), "counted": (decay_of_shown, 0.5, 3)
    }  # fmt: skip
    for name, (decay, least, threshold) in rules.items():
        accessor = values["table_parameters"][name]["accessor"]
        accessor["ctr_accessor_param"] = {"show_click_decay_rate": decay, "delete_threshold": least}
        accessor["embedx_threshold"] = threshold
    config.path.write_text(yaml.safe_dump(values, sort_keys=False))
    return load_config(config.path)


def test_all_that_a_network_may_have_is_served(tmp_path: Path, kafka: dict[str, str], job: str) -> None:
    scene = Scene(tmp_path, kafka, job, 2, 2)
    scene.config = write(tmp_path, job, kafka, 2)
    splits = [rich_rows(110 + number, seed=number) for number in range(6)]
    publish(scene.config, splits)
    trainer = scene.start("train", failpoints="commit.model=stop@2")
    trainer.wait_for(lambda: scene.has_fired("commit.model"), 120)
    for role in (trainer.pid, *(process.pid for kind in ("worker", "server") for process in scene.roles(kind))):
        os.kill(role, signal.SIGKILL)
    time.sleep(0.5)
    scene.config = write(tmp_path, job, kafka, 1)
    scene.start("train").finish(200)

    root = scene.config.model_save_path
    models = read_all(root)
    within = [f"{day}/inference_model_{number}" for day, _ in DAYS for number in (1, 2, 3)]
    assert set(models) == {*within, "20240102/inference_model_0", "20240103/inference_model_0"}
    full = {path for path, model in models.items() if model.kind == "full"}
    # the first of all, and those after a shrink, which changes the show that the network reads
    assert full == {within[0], within[2], within[5], "20240102/inference_model_0", "20240103/inference_model_0"}
    checked = reports.read(root, reports.CONSISTENCY)
    assert checked is not None and checked["ok"] and len(checked["variables"]) == 6, checked
    assert "consistency: " in (log := (tmp_path / "log" / "workerlog.0").read_text()) and "DIFFERS" not in log

    compare_with_dumps(scene, models, splits)

    newest = models["20240103/inference_model_0"]
    rows = rich_rows(70, seed=99)
    rows[0].slots.update({slot: [] for slot in (3, 4, 5)})
    rows[1].slots[4] = [4_000_000, *rows[1].slots[4], 2**64 - 1]
    numpy = newest.predict(rows)
    assert np.ptp(numpy["click"]) > 0.05
    turned = [RichRow(r.labels, r.price, r.age, r.weight, {**r.slots, 4: r.slots[4][::-1]}) for r in rows]
    assert not np.allclose(newest.predict(turned)["dwell"], numpy["dwell"], atol=1e-6)  # the order counts
    predictor = Predictor(root)
    assert predictor.targets == TARGETS and predictor.version and predictor.version.day == "20240103"
    answers(predictor, rows, numpy)
    answers(predictor, turned, newest.predict(turned))
    over_http(root, rows, numpy)
    by_command(root, rows, numpy, tmp_path)
    refused(predictor, rows)
    patches = (root / "patch_donefile.txt").read_text()
    (root / "patch_donefile.txt").unlink()
    (root / "base_donefile.txt").write_text(first_line(root / "base_donefile.txt"))
    growing = Predictor(root)
    answers(growing, rows, models[within[0]].predict(rows))
    (root / "patch_donefile.txt").write_text(patches)
    assert growing.refresh()  # the one over it, upon the tables that are there
    assert growing.version and (growing.version.day, growing.version.pass_id) == (DAYS[0][0], 2)
    answers(growing, rows, models[within[1]].predict(rows))
    scene.close()


@pytest.mark.long
def test_a_days_end_is_patched(tmp_path: Path, kafka: dict[str, str], job: str) -> None:
    """Where the show that the network reads does not decay: keys of other tables are deleted, or lose their embedx."""
    scene = Scene(tmp_path, kafka, job)
    scene.config = write(tmp_path, job, kafka, 1, decay_of_shown=1.0)
    values = yaml.safe_load(scene.config.path.read_text())
    values["runner"]["save_first_base"] = True
    scene.config.path.write_text(yaml.safe_dump(values, sort_keys=False))
    splits = [rich_rows(60 + number, seed=number) for number in range(6)]
    publish(scene.config, splits)
    scene.start("train", failpoints="commit.renamed=kill@3").finish(200)
    models = read_all(scene.config.model_save_path)
    full = {path for path, model in models.items() if model.kind == "full"}
    assert full == {f"2024010{day}/inference_model_0" for day in (1, 2, 3)}
    assert models["20240101/inference_model_0"].manifest["keys"] == 0
    ends = [(models[f"{day}/inference_model_3"], models[f"{after}/inference_model_0"]) for day, after in DAYS]
    for patched, complete in ends:
        assert patched.tables.keys() == complete.tables.keys()
        for name, keys in patched.tables.items():
            assert keys.keys() == complete.tables[name].keys()
            assert all((vector == complete.tables[name][key]).all() for key, vector in keys.items())
    assert all(patched.deleted["wide"] and not patched.deleted["deep"] for patched, _ in ends)
    forgotten = [v for patched, _ in ends for v in patched.own["a_liked"].values() if not v[1:].any()]
    assert forgotten
    compare_with_dumps(scene, models, splits)
    scene.close()


def compare_with_dumps(scene: Scene, models: dict[str, Model], splits: list[list[RichRow]]) -> None:
    """Each pass was predicted by the model that the pass before published."""
    root = scene.config.model_save_path
    paths = [f"{day}/inference_model_{number}" for day, _ in DAYS for number in (1, 2, 3)]
    before = {**dict(zip(paths[1:], paths, strict=False)), paths[3]: "20240102/inference_model_0"}
    for number, path in enumerate(paths[1:], 1):
        model, rows, split = models[before[path]], splits[number], scene.config.schedule.split(number)
        numpy = model.predict(rows)
        dumped = dict(read_dump(scene.folder / "predict_dump_data" / path.replace("inference_model_", "")))
        assert len(dumped) == len(rows)
        online = [dumped[f"{split.day}/{split.time}/0/{line}"] for line in range(1, len(rows) + 1)]
        for field, target in zip(online[0], TARGETS, strict=False):
            np.testing.assert_allclose([row[field][0] for row in online], numpy[target], atol=2e-5, rtol=2e-5)
        if model.kind == "full":
            answers(Predictor(root / before[path]), rows, numpy)


def first_line(path: Path) -> str:
    return path.read_text().splitlines()[0] + "\n"


def answers(predictor: Predictor, rows: list[RichRow], expected: dict[str, np.ndarray]) -> None:
    """By name, as text of JSON, as arrays."""
    table = np.stack([expected[name] for name in TARGETS], axis=1)
    objects = [by_name(row) for row in rows]
    for found in (
        predictor.predict(objects), predictor.predict([json.dumps(each) for each in objects]),
        predictor.predict_arrays(*arrays(rows)),
    ):  # fmt: skip
        np.testing.assert_allclose(found, table, atol=1e-5, rtol=1e-5)
    named = predictor.predict_by_name(objects)
    assert list(named) == list(TARGETS)
    np.testing.assert_allclose(named["like"], expected["like"], atol=1e-5)


def over_http(root: Path, rows: list[RichRow], expected: dict[str, np.ndarray]) -> None:
    with serving(root, "--max-features", "40") as (url, _process):
        for _ in range(200):
            if ask(f"{url}/healthz")[0] == 200:
                break
            time.sleep(0.05)
        objects: list[Any] = [by_name(row) for row in rows]
        objects[2] = json.dumps(objects[2])
        status, found = ask(f"{url}/predict", {"rows": objects})
        assert status == 200 and list(found["predictions"]) == list(TARGETS), found
        for name in TARGETS:
            np.testing.assert_allclose(found["predictions"][name], expected[name], atol=1e-5, rtol=1e-5)
        wide = {**by_name(rows[0]), "last_items": list(range(50))}
        for row, code, reason in (
            ({"user_id": 1, "price": [1, 2, 3]}, 400, "row 2: age is missing: the model takes 1 number of it"),
            ({"user_id": 1, "price": [1, 2], "age": 1}, 400, "row 2: price has 2 numbers, the model takes 3"),
            ({"user_id": [1, "x"], "price": [1, 2, 3], "age": 1}, 400, "row 2: user_id: 'x' is not a feasign"),
            ({"usr": 1}, 400, "row 2: none of its names is the model's, 'usr' is one"),
            ("5:2", 400, "row 2: price is missing"),
            (wide, 422, "row 2 has"),
            (7, 422, "row 2 is neither a text nor an object"),
        ):  # fmt: skip
            status, found = ask(f"{url}/predict", {"rows": [objects[0], row]})
            assert (status, found["error"][: len(reason)]) == (code, reason)


def by_command(root: Path, rows: list[RichRow], expected: dict[str, np.ndarray], folder: Path) -> None:
    file = folder / "rows.jsonl"
    file.write_text("".join(json.dumps(by_name(row)) + "\n" for row in rows))
    done = run("predict", "--model", str(root), str(file))
    assert done.returncode == 0, done.stderr
    found = np.array([line.split("\t") for line in done.stdout.splitlines()], float)
    table = np.stack([expected[name] for name in TARGETS], axis=1)
    np.testing.assert_allclose(found, table, atol=2e-5, rtol=2e-5)
    done = run("predict", "--model", str(root), str(file), "--json")
    np.testing.assert_allclose(json.loads(done.stdout)["predictions"]["dwell"], expected["dwell"], atol=2e-5, rtol=2e-5)
    file.write_text(json.dumps(by_name(rows[0])) + "\n" + json.dumps({"user_id": 5}) + "\n")
    done = run("predict", "--model", str(root), str(file))
    assert done.returncode != 0 and f"{file}, line 2: price is missing" in done.stderr


def refused(predictor: Predictor, rows: list[RichRow]) -> None:
    counts, slots, feasigns, dense = arrays(rows)
    for given, reason in (
        ({"price": dense["price"]}, "age is missing"),
        ({**dense, "price": [1.0] * len(rows)}, "price has the shape"),
        ({**dense, "age": [np.nan] * len(rows)}, "row 1: age is not finite"),
    ):
        with pytest.raises(DataError, match=reason):
            predictor.predict_arrays(counts, slots, feasigns, given)
    many = {**by_name(rows[1]), "item_id": [1, 2]}
    with pytest.raises(DataError, match="line 2: item_id has 2 feasigns, the model takes 1"):
        predictor.predict([by_name(rows[0]), many])
