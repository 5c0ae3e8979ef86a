"""The metrics of a job everywhere that they appear, against those of its dumped predictions."""

import json
import math
import re
from pathlib import Path
from typing import Any

import pytest

from streamtrain.checkpoint.journal import Journal, unpack
from streamtrain.checkpoint.store import CheckpointStore
from streamtrain.dumps import read_dump
from streamtrain.proof.job import recount_job
from tests.support.models import model_that_dumps
from tests.support.scene import Scene

pytestmark = [pytest.mark.kafka, pytest.mark.paddle]
PREDICTED = "sigmoid_0.tmp_0"


def of_rows(rows: list[tuple[int, float]]) -> dict[str, float]:
    """By its definition each: label and prediction a row."""
    n = len(rows)
    clicks = [p for label, p in rows if label]
    others = [p for label, p in rows if not label]
    above = sum((math.floor(a * 4095) > math.floor(b * 4095)) + 0.5 * (math.floor(a * 4095) == math.floor(b * 4095))
                for a in clicks for b in others)  # fmt: skip
    return {
        "rows": n,
        "auc": above / (len(clicks) * len(others)),
        "mae": sum(abs(p - label) for label, p in rows) / n,
        "rmse": math.sqrt(sum((p - label) ** 2 for label, p in rows) / n),
        "actual_ctr": len(clicks) / n,
        "predicted_ctr": sum(p for _, p in rows) / n,
        "copc": len(clicks) / sum(p for _, p in rows),
        "mean_q": sum(1 / (1 + math.exp(-p)) for _, p in rows) / n,
    }


def agrees(recorded: dict[str, Any], rows: list[tuple[int, float]]) -> bool:
    expected = of_rows(rows)
    assert recorded["resolution"] == 0
    auc = expected.pop("auc")  # a dump has six digits: a prediction at a bucket's edge may be in the next one
    assert recorded["auc"] == pytest.approx(auc, abs=1e-2)
    assert {name: recorded[name] for name in expected} == pytest.approx(expected, rel=2e-5)
    return True


def gauc_of(dumped: dict[str, Any], data: Path) -> float | None:
    """Of the users that the source files name, the first feasign of slot 2."""
    users: dict[str, list[tuple[int, float]]] = {}
    for ins_id, values in dumped.items():
        day, time, _, line = ins_id.split("/")
        text = (data / day / time / "part-0").read_text().splitlines()[int(line) - 1]
        user = next((pair.partition(":")[0] for pair in text.split() if pair.endswith(":2")), None)
        if user is not None:
            users.setdefault(user, []).append((int(values["click"][0]), float(values[PREDICTED][0])))
    both = [rows for rows in users.values() if {label for label, _ in rows} == {0, 1}]
    aucs = [(len(rows), [(a > b) + (a == b) / 2 for x, a in rows if x for y, b in rows if not y]) for rows in both]
    total = sum(n for n, _ in aucs)
    return sum(n * sum(pairs) / len(pairs) for n, pairs in aucs) / total if total else None


def in_words(line: str) -> dict[str, float]:
    names = {"AUC": "auc", "GAUC": "gauc", "BUCKET_ERROR": "bucket_error", "MAE": "mae", "RMSE": "rmse",
             "Actural_CTR": "actual_ctr", "Predicted_CTR": "predicted_ctr", "COPC": "copc", "Q_VALUE": "mean_q",
             "number": "rows"}  # fmt: skip
    return {names[n]: float(value) for n, value in re.findall(r"(\w+)=(\S+)", line)}


@pytest.mark.parametrize(("servers", "workers"), [(1, 1), (2, 2)])
def test_metrics(servers: int, workers: int, tmp_path: Path, kafka: dict[str, str], job: str) -> None:
    model = model_that_dumps(tmp_path / "model_dir", '[predicted, "click"]', '[predicted, "click"]', "[]")
    runner = {"need_train_dump": True, "model_dir": str(model)}
    scene = Scene(
        tmp_path,
        kafka,
        job,
        servers,
        workers,
        runner=runner,
        stream={"group_slot": "2", "predict_dump_dir": "predict_dump_data"},
    )
    output = scene.start("run").finish()
    scene.recount()
    dumps: dict[str, list[list[tuple[int, float]]]] = {}
    gaucs: dict[str, float | None] = {}
    for kind in ("predict", "train"):
        for place in sorted((tmp_path / f"{kind}_dump_data").glob("*/*")):
            dumped = dict(read_dump(place))
            rows = [(int(v["click"][0]), float(v[PREDICTED][0])) for v in dumped.values()]
            dumps.setdefault(f"{place.parent.name}/{place.name}", []).append(rows)
            gaucs.setdefault(f"{place.parent.name}/{place.name}", gauc_of(dumped, tmp_path / "data"))

    root = scene.config.model_save_path
    lines = [json.loads(line) for line in (root / "passes.jsonl").read_text().splitlines()]
    assert [line["rows"] for line in lines] == [150, 151, 0, 153]
    workerlog = (tmp_path / "log" / "workerlog.0").read_text()
    for line in lines:
        [(name, label)] = line["labels"].items()
        place = f"{line['day']}/{line['pass_id']}"
        assert name == "click"
        if not line["rows"]:
            assert {k for k, v in label["predict"].items() if v is not None} == {"rows", "resolution"}
            continue
        assert label["predict"]["gauc"] == pytest.approx(gaucs[place]) and gaucs[place] is not None
        assert label["train"]["gauc"] is None
        for kind, rows, word in zip(("predict", "train"), dumps[place], ("Infer", "Train"), strict=True):
            assert agrees(label[kind], rows)
            assert line[f"{kind}_auc"] == label[kind]["auc"]
            [text] = re.findall(
                rf"Day:{line['day']}, Pass: {line['pass_id']}, {word} Global Metric:  global (.*)", workerlog
            )
            recorded = {name: math.nan if value is None else value for name, value in label[kind].items()}
            words = in_words(text)
            assert words == pytest.approx({name: recorded[name] for name in words}, abs=1e-6, nan_ok=True)

    newest = lines[-1]["labels"]
    manifest = CheckpointStore(root).list()[-1].manifest
    assert manifest is not None and manifest.metrics["labels"] == newest
    [status] = [json.loads(scene.start("status", "--json").finish())]
    assert status["trained"]["labels"] == newest
    assert "COPC" in scene.start("status").finish()
    models = {}
    for donefile in ("base_donefile.txt", "patch_donefile.txt"):
        for text in (root / donefile).read_text().splitlines():
            done = json.loads(text)
            models[done["path"]] = done
            of_model = json.loads((root / done["path"] / "manifest.json").read_text())["metrics"]["labels"]["click"]
            assert done["job_name"] == job and done["input"] == f"{root}/{done['path']}/sparse"
            of_pass = (of_model["train"] or of_model["predict"]) if of_model["predict"]["rows"] else of_model["train"]
            if of_pass["rows"]:
                assert in_words(done["monitor_data"])["copc"] == pytest.approx(of_pass["copc"], abs=1e-6)
            else:
                assert "AUC=nan" in done["monitor_data"] and "Ins number=0" in done["monitor_data"]
    base = models["20240102/inference_model_0"]
    assert base["id"] == base["key"] == str(int(base["published"]))
    patches = [done for done in models.values() if done["kind"] == "incremental"]
    assert len(patches) == 3 and all(done["id"] == str(int(done["published"])) for done in patches)
    first = models["20240101/inference_model_1"]
    assert {done["key"] for done in patches} == {first["key"]}
    assert "Traceback" not in output and Journal(root).read()[-1].labels["click"].train is not None


def test_several_labels_and_a_pass_that_is_not_trained(tmp_path: Path, kafka: dict[str, str], job: str) -> None:
    """A second AUC, whose network sums nothing: its metrics come from the buckets; the gate judges by it."""
    model = model_that_dumps(tmp_path / "model_dir", '[predicted, "click"]', "[]", "[]")
    text = (model / "static_model.py").read_text()
    line = "        ctr_stats = paddle.static.ctr_metric_bundle("
    second = (
        "        lower = 0.1 + 0.1 * predicted\n"
        "        second = paddle.static.auc(paddle.concat([1 - lower, lower], axis=1), click, slide_steps=0)[2]\n"
    )
    assert line in text
    text = text.replace(line, second + line)
    text = text.replace("self.metric_list = [", "self.metric_list = [*second, ")
    text = text.replace("self.thread_stat_var_names = [", "self.thread_stat_var_names = [*(v.name for v in second), ")
    (model / "static_model.py").write_text(text)
    gate = {"copc": [0.2, 5.0], "labels": {"click_2": {"copc": [0.9, 1.1]}}, "min_rows": 152, "train": False}
    runner = {"model_dir": str(model)}
    scene = Scene(
        tmp_path, kafka, job, 2, 2, runner=runner, stream={"gate": gate, "predict_dump_dir": "predict_dump_data"}
    )
    scene.start("run").finish()
    recount = recount_job(scene.config)
    assert recount.ok and recount.rows == 150 + 151, recount.to_json()
    lines = [json.loads(line) for line in (scene.config.model_save_path / "passes.jsonl").read_text().splitlines()]
    for line in lines:
        assert list(line["labels"]) == ["click", "click_2"] and list(line["histograms"]) == ["click_2"]
        first, other = (line["labels"][name]["predict"] for name in ("click", "click_2"))
        assert first["rows"] == other["rows"] == line["rows"]
        if not line["rows"]:
            continue
        dumped = dict(read_dump(tmp_path / "predict_dump_data" / line["day"] / str(line["pass_id"])))
        rows = [(int(v["click"][0]), float(v[PREDICTED][0])) for v in dumped.values()]
        assert agrees(first, rows)
        expected = of_rows([(label, 0.1 + 0.1 * p) for label, p in rows])
        assert other["resolution"] == 0.5 / 4095
        for name in ("mae", "rmse", "predicted_ctr", "mean_q"):
            assert other[name] == pytest.approx(expected[name], abs=other["resolution"])
        assert other["copc"] == pytest.approx(expected["copc"], rel=2e-3)
        pos, neg = unpack(line["histograms"]["click_2"])
        assert (pos.sum(), neg.sum()) == (sum(x for x, _ in rows), sum(not x for x, _ in rows))
    trained = [line["labels"]["click_2"]["train"] is not None for line in lines]
    assert trained == [True, True, True, False] == [line["trained"] for line in lines]
    assert "predict COPC of click_2" in lines[-1]["gate"] and "stream.gate.labels.click_2.copc" in lines[-1]["gate"]
    assert lines[-1]["labels"]["click"]["train"] is None and lines[-1]["train_auc"] is None
    workerlog = (tmp_path / "log" / "workerlog.0").read_text()
    assert len(re.findall(r"Infer Global Metric: click global AUC=.*; click_2 global AUC=", workerlog)) == 4
    assert "Pass: 4, Train Global" not in workerlog
    assert "click_2" in scene.start("status").finish()
