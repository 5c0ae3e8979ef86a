"""Whole jobs that predict another data set after each pass, and are killed while they do."""

import gzip
import json
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest

from streamtrain.checkpoint.journal import Journal
from streamtrain.dumps import FILES, read_dump
from streamtrain.errors import DataError
from streamtrain.locations import Location
from streamtrain.object_store import ObjectStore
from tests.support import plain_store  # noqa: F401  registers plain://
from tests.support.jobs import rows, write_split
from tests.support.layout_reader import SlotDNN, read_row
from tests.support.models import model_that_dumps
from tests.support.models_reader import read_all
from tests.support.scene import SPLITS, Scene

pytestmark = [pytest.mark.kafka, pytest.mark.paddle]
DAY = SPLITS[0][:8]
TOLERANCE = 1e-5


def write_items(folder: Path) -> dict[str, str]:
    """Lines by their ins_ids: two files, one of them packed and deeper, with keys that no log has."""
    lines = rows(900, seed=77, vocabulary=90)
    (folder / "more").mkdir(parents=True)
    (folder / "a.txt").write_text("".join(f"{line}\n" for line in ["", *lines[:700]]))
    (folder / "more" / "b.gz").write_bytes(gzip.compress("".join(f"{line}\n" for line in lines[700:]).encode()))
    (folder / "c.tmp").write_text("somebody still writes\n")
    found = {f"0/{number}": line for number, line in enumerate(lines[:700], 2)}
    return {**found, **{f"1/{number}": line for number, line in enumerate(lines[700:], 1)}}


@pytest.mark.usefixtures("plain_protocol")
@pytest.mark.parametrize(
    ("servers", "workers", "stored"), [(1, 1, True), pytest.param(2, 2, False, marks=pytest.mark.long)]
)
def test_vectors_are_those_of_the_model_on_disk(
    servers: int, workers: int, stored: bool, tmp_path: Path, kafka: dict[str, str], job: str
) -> None:
    """Every row, every variable, though workers are killed while they read, dump, commit and replace a dump. stored:
    the other data set is on a store."""
    items = write_items(tmp_path / "items")
    data_dir = "items"
    if stored:
        bucket = ObjectStore(Location("runner.infer_data_dir", f"plain://{tmp_path}/bucket.store/items"))
        data_dir = bucket.location.url
        for file in (path for path in (tmp_path / "items").rglob("*") if path.is_file()):
            bucket.put_file(file.relative_to(tmp_path / "items").as_posix(), file)
        shutil.rmtree(tmp_path / "items")
    model = model_that_dumps(tmp_path / "model_dir", '[*self.all_vars, "3"]', "[]", "[]")
    runner = {"need_infer_dump": True, "infer_data_dir": data_dir, "model_dir": str(model)}
    faster = {"optimizer": {"class": "Adam", "learning_rate": 0.01}}
    scene = Scene(tmp_path, kafka, job, servers, workers, runner=runner, hyper_parameters=faster)
    points = {"infer.read": 2, "dump.written": 1, "commit.manifest": 2, "dump.aside": 1}
    run = scene.start("run", failpoints=",".join(f"{point}=kill@{number}" for point, number in points.items()))
    output = run.finish(240)
    for point in points:
        scene.fired(point)
    scene.recount()
    assert not list((tmp_path / "infer_dump_data").glob("*/.*"))

    full, incremental = read_all(scene.config.model_save_path)
    base = full[0]
    assert base.line["day"] == DAY or len(full) == 1, [m.line for m in full]
    read = {ins_id: read_row(line)[1] for ins_id, line in items.items()}
    assert len({key for row in read.values() for key, _ in row} - set(base.keys)) > 40
    moved = 0.0
    for number in range(1, len(SPLITS) + 1):
        place = tmp_path / "infer_dump_data" / DAY / str(number)
        lines = list(read_dump(place, whole=["3"]))
        dumped = dict(lines)
        assert len(lines) == len(dumped) and set(dumped) == set(items)
        assert (place / FILES).read_text() == "0\ta.txt\n1\tmore/b.gz\n"
        parts = sorted(p.name for p in place.glob("part-*") if p.stat().st_size)
        assert parts == [f"part-{worker:03d}-00000" for worker in range(workers)]
        chain = [m for m in incremental if m.line["pass_id"] <= number and m.line["day"] == DAY]
        network = SlotDNN.of(scene.config.model_save_path, base, chain)
        ids = sorted(items)
        names = network.manifest["variables"]
        before = SlotDNN.of(scene.config.model_save_path, base, chain[:-1]).all_vars([read[i] for i in ids])
        for name, values, older in zip(names, network.all_vars([read[i] for i in ids]), before, strict=True):
            online = np.stack([dumped[i][name] for i in ids])
            assert float(np.max(np.abs(online - values) / (1 + np.abs(values)))) < TOLERANCE, (number, name)
            moved = max(moved, float(np.max(np.abs(online - older) / (1 + np.abs(older)))))
        assert all(dumped[i]["3"].tolist() == ([key for key, slot in read[i] if slot == 3] or [0]) for i in ids)
    assert moved > 100 * TOLERANCE, f"a model of the pass before would have passed too\n{output}"


def test_nothing_of_it_reaches_the_model(tmp_path: Path, kafka: dict[str, str], job: str) -> None:
    """Two jobs, with and without: the same rows in the metrics, keys, counts and touched keys. The weights differ in
    any two jobs: servers draw them."""
    found = []
    for name in ("with", "without"):
        folder = tmp_path / name
        write_items(folder / "items")
        runner = {"need_infer_dump": name == "with", "infer_data_dir": "items"}
        scene = Scene(folder, kafka, f"{job}-{name}", runner=runner)
        output = scene.start("run").finish()
        scene.recount()
        log = (folder / "log" / "workerlog.0").read_text()
        assert ("Infer Dump Dataset Done, using time" in log) == (name == "with"), output
        root = scene.config.model_save_path
        records = Journal(root).read()
        assert [record.infer_dump_seconds is not None for record in records] == [name == "with"] * 4
        counted = {}
        for part in sorted((root / DAY / "4" / "embedding.shard").glob("part-*.txt")):
            names = [c["name"] for c in json.loads(part.with_suffix(".meta").read_text())["columns"]]
            for line in part.read_text().splitlines():
                values = dict(zip(names, line.split(" "), strict=False))
                counted[values["key"]] = {name: values[name] for name in ("slot", "unseen_days", "show", "click")}
        full, incremental = read_all(root)
        touched = [(model.line["pass_id"], sorted(model.keys), model.deleted) for model in (*full, *incremental)]
        metrics = [
            (label, each.rows, each.actual_ctr)
            for record in records
            for label, values in record.labels.items()
            for each in (values.predict, values.train)
            if each is not None
        ]
        found.append((counted, touched, metrics))
    assert found[0] == found[1]


@pytest.mark.long
def test_days_belong_to_their_passes_and_a_donefile_is_awaited(tmp_path: Path, kafka: dict[str, str], job: str) -> None:
    """PaddleRec's layout. A stop ends the wait; the next start trains the pass again."""
    items = rows(40, seed=5)
    for number, split in enumerate(SPLITS):
        if number != 2:
            write_split(tmp_path / "items", split, items[: 10 * number + 5], done=number != 1)
    (tmp_path / "items" / SPLITS[2]).mkdir()
    (tmp_path / "items" / SPLITS[2] / "data.done").touch()
    runner = {"need_infer_dump": True, "infer_data_dir": "items"}
    scene = Scene(tmp_path, kafka, job, 1, 2, runner=runner)
    run = scene.start("run")
    log = tmp_path / "log" / "workerlog.0"
    run.wait_for(lambda: log.exists() and f"data not ready: {tmp_path}/items/{SPLITS[1]}" in log.read_text(), 90)
    status = scene.start("status", "--json", name="status").finish()
    assert f'"waiting for {tmp_path}/items/{SPLITS[1]}"' in status, status
    run.signal(signal.SIGTERM)
    assert run.end() == 0, run.output
    assert scene.checkpoints() == [f"{DAY}/1"]
    (tmp_path / "items" / SPLITS[1] / "data.done").touch()
    scene.settle()
    for number, split in enumerate(SPLITS, 1):
        dumped = dict(read_dump(tmp_path / "infer_dump_data" / DAY / str(number)))
        count = 0 if number == 3 else 10 * (number - 1) + 5
        assert sorted(dumped) == sorted(f"{split}/0/{line}" for line in range(1, count + 1))


def test_a_line_that_is_no_row_ends_the_job(tmp_path: Path, kafka: dict[str, str], job: str) -> None:
    (tmp_path / "items").mkdir()
    file = tmp_path / "items" / "a.txt"
    good = rows(9)
    file.write_text("".join(f"{line}\n" for line in [*good[:5], "1:1 x:2", *good[5:]]))
    scene = Scene(tmp_path, kafka, job, runner={"need_infer_dump": True, "infer_data_dir": "items"})
    run = scene.start("run")
    assert run.end() == DataError.exit_code, run.output
    assert f"{file}, line 6: " in run.output and "Correct it below runner.infer_data_dir" in run.output
    assert "published" not in run.output.split(f"{file}, line 6")[1].splitlines()[0]
    assert not scene.checkpoints() and not (tmp_path / "infer_dump_data").exists()
    file.write_text("".join(f"{line}\n" for line in good))
    scene.settle()
    assert len(list(read_dump(tmp_path / "infer_dump_data" / DAY / "4"))) == 9
