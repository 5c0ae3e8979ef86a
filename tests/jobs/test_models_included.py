"""Each model that comes with it, over ratings in MovieLens' form: built, trained, its models computed offline."""

import math
import random
import shutil
from pathlib import Path

import orjson
import pytest
import yaml

from streamtrain.checkpoint.journal import Journal
from streamtrain.config import JobConfig, load_config
from streamtrain.contracts import reports
from streamtrain.demo import movielens
from streamtrain.demo.run import merged, model_names, prepare
from streamtrain.dumps import read_dump
from streamtrain.runtime.model_build import build_model
from tests.support.cli import run
from tests.support.paths import ROOT
from tests.unit.demo.test_movielens import source

pytestmark = pytest.mark.paddle
LABELS = {"mmoe": ["click", "love"], "esmm": ["click", "love"]}
TABLES = {"deepfm": ["embedding", "first_order"], "wide_deep": ["embedding", "wide"]}
#: Those of two labels, of two tables; `make long` trains the others too.
IN_EACH_TEST = ("esmm", "wide_deep")
NAMES = ["dcn_v2", "deepfm", "din", "esmm", "mmoe", "wide_deep"]


@pytest.fixture
def ratings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In place of the download: ratings of two users on two days."""
    draw = random.Random(5)
    seconds = sorted(draw.sample(range(2 * 86400), 300))
    rows = [(draw.randint(1, 2), draw.randint(1, 2), draw.randint(1, 5), second) for second in seconds]
    folder = source(tmp_path / "source", rows)
    monkeypatch.setattr(movielens, "fetch", lambda _: folder)


def test_they_are_these() -> None:
    assert model_names() == sorted([*NAMES, "slot_dnn"])


def test_another_is_refused(tmp_path: Path) -> None:
    done = run("demo", "--model", "dlrm", "--dir", str(tmp_path / "demo"))
    assert done.returncode == 2 and "there is no dlrm" in done.stderr and "deepfm" in done.stderr
    assert not (tmp_path / "demo").exists()


@pytest.mark.parametrize("name", NAMES)
def test_its_folder_alone_is_a_model_directory(name: str, tmp_path: Path) -> None:
    """Its config too, but for the data."""
    shutil.copytree(ROOT / "models" / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / name / "data").mkdir()
    report = build_model(load_config(tmp_path / name / "config_online.yaml"))
    assert report is not None and not report.problems
    assert report.network is not None
    assert [table.name for table in report.network.tables] == TABLES.get(name, ["embedding"])
    assert all(table.show and table.click == "click" for table in report.network.tables)


@pytest.mark.kafka
@pytest.mark.usefixtures("ratings")
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in IN_EACH_TEST else pytest.mark.long) for name in NAMES]
)
def test_it_is_trained(name: str, tmp_path: Path, kafka: dict[str, str], job: str) -> None:
    config = prepare(tmp_path / "demo", 2, name)
    changes = {"stream": {"job": job, "consistency_rows": 60, "consistency_every": 1}}
    raw = merged(yaml.safe_load(config.path.read_text()), {**changes, "kafka": kafka})
    raw["stream"]["predict_dump_dir"] = "predict_dump_data"
    config.path.write_text(yaml.safe_dump(raw, sort_keys=False))
    config = load_config(config.path)
    done = run("run", "-m", str(config.path), seconds=150)
    assert done.returncode == 0, done.stdout + done.stderr

    proof = orjson.loads(run("recount", "-m", str(config.path), "--json").stdout)
    assert proof["verdict"] == "proven" and proof["rows"] == 300, proof
    found = reports.read(config.model_save_path, reports.CONSISTENCY)
    assert found is not None and found["ok"] and found["rows"] > 30, found
    records = Journal(config.model_save_path).read()
    labels = LABELS.get(name, ["click"])
    assert [list(record.labels) for record in records] == [labels, labels]
    rows = predicted(config)
    assert len(rows) == 300
    for values in zip(*rows, strict=True):
        assert all(math.isfinite(value) and 0 < value < 1 for value in values)
        assert len(set(values)) > 20
    if name == "esmm":
        assert all(love <= click for click, love in rows)


def predicted(config: JobConfig) -> list[tuple[float, ...]]:
    """The dumped predictions of each row."""
    folders = sorted((config.path.parent / "predict_dump_data").glob("*/*"))
    return [
        tuple(float(value[0]) for value in values.values()) for folder in folders for _, values in read_dump(folder)
    ]
