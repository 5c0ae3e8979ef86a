"""A network that has it all, as a whole job: killed in the middle, continued at another shape, exact."""

import os
import re
import shutil
import signal
from pathlib import Path

import orjson
import pytest
import yaml

from streamtrain.checkpoint.store import CheckpointStore
from streamtrain.config import JobConfig, load_config
from streamtrain.contracts.identity import JobIdentity
from streamtrain.dumps import read_dump
from streamtrain.engine.tables import table_formats
from streamtrain.errors import DataError
from streamtrain.runtime.model_build import build_model
from tests.jobs.test_exact_restart import optimizer, values
from tests.support.any_models_reader import predictions
from tests.support.cli import run
from tests.support.everything_job import (
    MODEL,
    TABLES,
    RichRow,
    counted_in,
    expected,
    publish,
    rich_rows,
    text_of,
    write_everything,
)
from tests.support.roles import run_roles
from tests.support.scene import Scene

pytestmark = pytest.mark.paddle


def lines_of(checkpoint: Path, table: str) -> dict[str, str]:
    """Of a table's text, by key."""
    found = [x for p in checkpoint.glob(f"{table}.shard/*.txt") for x in p.read_text().splitlines()]
    by_key = {line.split(" ", 1)[0]: line for line in found}
    assert len(by_key) == len(found)
    return by_key


#: The pass that is predicted with each chain of models.
CHAINS = {
    "20240101/2": ["20240101/inference_model_1"],
    "20240102/1": ["20240102/inference_model_0"],
    "20240102/2": ["20240102/inference_model_0", "20240102/inference_model_1"],
}


def check_models(config: JobConfig, splits: list[list[RichRow]]) -> None:
    """Each pass was predicted with what the models on disk say."""
    jobs, dumps = [], []
    for number, (name, chain) in enumerate(CHAINS.items(), 1):
        rows = [{"slots": row.slots, "floats": {"price": row.price, "age": [row.age]}} for row in splits[number]]
        jobs.append({"root": str(config.model_save_path), "chain": chain, "rows": rows})
        dump = dict(read_dump(config.path.parent / "predict_dump_data" / name))
        split = config.schedule.split(number)
        dumps.append([dump[f"{split.path}/0/{line}"] for line in range(1, len(rows) + 1)])
    for online, offline in zip(dumps, predictions(config.path.parent, jobs), strict=True):
        assert len(offline) == 3
        for variable, computed in offline.items():
            assert computed == pytest.approx([float(row[variable][0]) for row in online], rel=2e-5, abs=2e-5)
            assert len({round(value, 4) for value in computed}) > 20


@pytest.mark.kafka
def test_all_that_a_network_may_have(tmp_path: Path, kafka: dict[str, str], job: str) -> None:
    scene = Scene(tmp_path, kafka, job, 2, 2)
    dumps = {"need_train_dump": True}
    days = {"start_day": "20240101", "end_day": "20240102", "split_interval": 720}
    shape = {"servers": 2, "workers": 2, "inference_model": "both", "predict_dump_dir": "predict_dump_data"}
    models = {"save_delta_frequency": 1}
    runner = {**days, **dumps, **models}
    scene.config = config = write_everything(tmp_path, job, kafka, runner=runner, stream=shape)
    splits = [rich_rows(180 + number, seed=number) for number in range(4)]
    publish(config, splits)

    trainer = scene.start("train", failpoints="save.written=stop@2")
    trainer.wait_for(lambda: scene.has_fired("save.written"), 120)
    for role in (trainer.pid, *(process.pid for kind in ("worker", "server") for process in scene.roles(kind))):
        os.kill(role, signal.SIGKILL)
    assert scene.checkpoints() == ["20240101/1"]
    shape = {"servers": 1, "workers": 1, "inference_model": "both", "predict_dump_dir": "predict_dump_data"}
    scene.config = config = write_everything(tmp_path, job, kafka, runner=runner, stream=shape)
    scene.start("train").finish(150)

    assert scene.checkpoints() == ["20240101/1", "20240101/2", "20240102/1", "20240102/2"]
    store = CheckpointStore(config.model_save_path)
    for number, checkpoint in enumerate(store.list(), 1):
        assert store.verify(checkpoint) is None and checkpoint.manifest is not None
        rows = [row for split in splits[:number] for row in split]
        found = counted_in(checkpoint.path)
        assert found == expected(rows)
        assert checkpoint.manifest.keys == sum(len(shows) for shows, _ in found.values())
        assert checkpoint.manifest.rows == len(rows)
    newest = store.list()[-1]
    dumped = dict(read_dump(tmp_path / "predict_dump_data" / "20240102" / "2"))
    assert len(dumped) == len(splits[3])
    name = next(name for name in next(iter(dumped.values())) if name == "like")
    for line, row in enumerate(splits[3], 1):
        assert dumped[f"20240102/1200/0/{line}"][name].tolist() == [row.labels["like"]]

    network = JobIdentity.decode((newest.path / "job.json").read_bytes()).network
    assert network is not None
    assert {t.name: (t.slots, t.click) for t in network.tables} == TABLES and all(t.show for t in network.tables)
    key = str(splits[0][0].slots[2][0])
    shown = run("checkpoints", "show", key, "-m", str(config.path), "--json")
    assert shown.returncode == 0, shown.stderr
    assert [row["table"] for row in orjson.loads(shown.stdout)["keys"]] == ["a_liked", "deep", "wide"]

    proof = orjson.loads(run("recount", "-m", str(config.path), "--json").stdout)
    assert proof["verdict"] == "proven" and proof["rows"] == sum(map(len, splits)), proof
    assert sorted(proof["tables"]) == sorted(TABLES)
    printed = run("recount", "-m", str(config.path)).stdout
    assert all(re.search(rf"│ {name} +│ {proof['tables'][name]['keys']} +│ 0 +│ 0 +│", printed) for name in TABLES)
    check_models(config, splits)
    again = tmp_path / "again"
    run_roles(
        "resave_role.py", [str(config.path), str(newest.path), str(again)], tmp_path, tmp_path / "again.done", 2, 2
    )
    for table in TABLES:
        assert lines_of(again, table) == lines_of(newest.path, table)
    assert values(again) == values(newest.path) and optimizer(again) == optimizer(newest.path)
    scene.close()


@pytest.mark.kafka
def test_show_and_labels_that_are_integers(tmp_path: Path, kafka: dict[str, str], job: str) -> None:
    """ShowClickEntry of feeds as they are; show and click of continuous_value_model concatenated before the cast."""
    shutil.copytree(MODEL, tmp_path / "network")
    code = tmp_path / "network" / "static_model.py"
    text = code.read_text()
    for old, new in (
        ("ShowClickEntry(show.name, click.name)", 'ShowClickEntry("show", "click")'),
        ("ShowClickEntry(show.name, like.name)", 'ShowClickEntry("show", "like")'),
        (
            "paddle.concat([show, click], axis=1)",
            'paddle.cast(paddle.concat([by_name["show"], by_name["click"]], axis=1), "float32")',
        ),
    ):
        assert old in text
        text = text.replace(old, new)
    code.write_text(text)
    runner = {"start_day": "20240101", "end_day": "20240101", "split_interval": 1440, "model_dir": "network"}
    scene = Scene(tmp_path, kafka, job)
    scene.config = config = write_everything(tmp_path, job, kafka, runner=runner)
    rows = rich_rows(100)
    publish(config, [rows])
    scene.start("train").finish(150)
    scene.close()
    assert counted_in(config.model_save_path / "20240101" / "1") == expected(rows)


@pytest.mark.kafka
def test_a_row_with_more_feasigns_than_a_feed_takes(tmp_path: Path, kafka: dict[str, str], job: str) -> None:
    runner = {"start_day": "20240101", "end_day": "20240101", "split_interval": 1440}
    scene = Scene(tmp_path, kafka, job)
    scene.config = config = write_everything(tmp_path, job, kafka, runner=runner)
    rows = rich_rows(9)
    rows[6].slots[3] = [3001, 3002]
    publish(config, [rows])
    trainer = scene.start("train")
    assert trainer.end(150) == DataError.exit_code, trainer.output
    assert "20240101/0000/part-0, line 7 (topic " in trainer.output
    assert "the row does not fit the network: it has 2 feasigns of slot item_id, the network reads 1" in trainer.output
    assert scene.checkpoints() == []
    scene.close()


def test_a_days_end_of_several_tables(tmp_path: Path) -> None:
    """Each table decays and deletes by its own parameters, and counts its own days, with a restart between."""
    config = write_everything(tmp_path, "job", {"bootstrap.servers": "127.0.0.1:1"})
    raw = yaml.safe_load(config.path.read_text())
    rules = {"a_liked": (0.5, 0.0), "wide": (0.5, 0.449), "deep": (1.0, 0.0), "counted": (1.0, 0.0)}
    for name, (decay, least) in rules.items():
        accessor = raw["table_parameters"][name]["accessor"]
        accessor["ctr_accessor_param"] = {"show_click_decay_rate": decay, "delete_threshold": least}
        accessor["embedx_threshold"] = 2 if name == "counted" else 0
    config.path.write_text(yaml.safe_dump(raw))
    report = build_model(load_config(config.path))
    assert report is not None and report.network is not None
    rows = rich_rows(300, seed=7)
    (tmp_path / "rows.txt").write_bytes(text_of(rows, report.network, config.layout))
    for name, steps, servers in (
        ("one", [["train", str(tmp_path / "rows.txt")], ["save", str(tmp_path / "before")]], 2),
        ("two", [["load", str(tmp_path / "before")], ["shrink"], ["save", str(tmp_path / "after")]], 1),
    ):
        (tmp_path / f"{name}.json").write_text(orjson.dumps(steps).decode())
        arguments = [str(config.path), str(tmp_path / f"{name}.json")]
        run_roles("steps_role.py", arguments, tmp_path, tmp_path / f"{name}.done", servers, servers)
    counts = expected(rows)
    assert counted_in(tmp_path / "before") == counts
    deleted = 0
    for name, (decay, least) in rules.items():
        after = {int(key): line.split() for key, line in lines_of(tmp_path / "after", name).items()}
        shows, clicks = counts[name]
        kept = {k for k in shows if 0.1 * decay * (shows[k] - clicks[k]) + decay * clicks[k] >= least}
        assert set(after) == kept
        deleted += len(shows) - len(kept)
        for key, columns in after.items():
            assert columns[2] == "1" and float(columns[4]) == decay * shows[key]
            assert float(columns[5]) == decay * clicks[key]
        own = table_formats(raw)[name].columns
        lengths = {len(columns) for columns in after.values()}
        assert lengths <= {own.embedx_begin, own.count}
        assert len(lengths) == (2 if name == "counted" else 1), lengths  # some keys are below embedx_threshold
    assert deleted > 5
