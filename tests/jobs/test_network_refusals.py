"""What a network may not have is refused by name, with the user's file and line, and what to write."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from streamtrain.config import load_config
from streamtrain.engine.dry_build import BuildReport
from streamtrain.runtime.model_build import build_model
from tests.support.cli import run
from tests.support.everything_job import (
    MODEL,
    TABLES,
    WIDTHS,
    counted_in,
    expected,
    rich_rows,
    text_of,
    write_everything,
)
from tests.support.roles import run_roles

pytestmark = pytest.mark.paddle

TAGS = '        tags = _look_up(by_name["tags"], "counted", 7, None)\n'
TARGETS = '        self.inference_target_var = {"click": rate, "like": liking, "dwell": seconds}\n'
EMBEDDING = '        liked = paddle.reshape(paddle.nn.Embedding(9, 2, sparse=True)(by_name["user_id"]), [-1, 2])\n'
TOGETHER = EMBEDDING.replace('by_name["user_id"]', 'paddle.concat([by_name["user_id"], by_name["item_id"]], axis=1)')
FIRST = (  # of all parameters; servers died of it
    'paddle.create_parameter([1], "float32", "a", default_initializer=paddle.nn.initializer.TruncatedNormal())'
)
LIKED = '        liked = _look_up(by_name["user_id"], "a_liked", 2, of_like)\n'
ENTRY = "of_click = paddle.distributed.ShowClickEntry(show.name, click.name)"


def built(folder: Path, *replaced: tuple[str, str], config: dict[str, Any] | None = None) -> BuildReport:
    """The network of tests/support/everything with texts replaced. config: values by dotted key; None takes it out."""
    shutil.copytree(MODEL, folder / "net", ignore=shutil.ignore_patterns("__pycache__"))
    text = (folder / "net" / "static_model.py").read_text()
    for old, new in replaced:
        assert old in text, old
        text = text.replace(old, new)
    (folder / "net" / "static_model.py").write_text(text)
    path = write_everything(folder, "job", {"bootstrap.servers": "127.0.0.1:1"}, runner={"model_dir": "net"}).path
    values = yaml.safe_load(path.read_text())
    for key, value in (config or {}).items():
        *parents, last = key.split(".")
        section = values
        for parent in parents:
            section = section[parent]
        if value is None:
            del section[last]
        else:
            section[last] = value
    path.write_text(yaml.safe_dump(values))
    report = build_model(load_config(path))
    assert report is not None
    return report


def test_a_network_that_has_it_all_builds(tmp_path: Path) -> None:
    report = built(tmp_path)
    assert report.problems == [] and report.notes == () and report.network is not None
    assert {t.name: (t.slots, t.click) for t in report.network.tables} == TABLES
    assert {t.name: t.width for t in report.network.tables} == WIDTHS
    done = run("config", "check", "-m", str(tmp_path / "config_online.yaml"), "--json")
    assert done.returncode == 0, done.stderr
    assert [feed["name"] for feed in json.loads(done.stdout)["model"]["feeds"]][:3] == ["price", "user_id", "click"]
    done = run("config", "check", "-m", str(tmp_path / "config_online.yaml"))
    assert "# table wide: 3 numbers; slots 2, 5; show counts rows, click is 0" in done.stdout
    assert "# slots: user_id (2), item_id (3, 1 a row), last_items (4), tags (5)" in done.stdout


@pytest.mark.parametrize(
    ("replaced", "config", "line", "words"),
    [
        (
            [(LIKED, EMBEDDING), ('sequence_pool(liked, "sum")', "liked")], {},
            "paddle.nn.Embedding", "feed user_id is looked up in embedding_0.w_0, an embedding that no server keeps",
        ),
        (
            [(LIKED, TOGETHER), ('sequence_pool(liked, "sum")', "liked")], {},
            "paddle.nn.Embedding", "feeds user_id to item_id are looked up together in embedding_0.w_0, an embedding",
        ),
        (
            [("continuous_value_model(sequence_pool(tags, \"sum\"), shown, False)", 'sequence_pool(tags, "sum")')], {},
            "_look_up(by_name[\"tags\"], \"counted\"", "used without paddle.static.nn.continuous_value_model",
        ),
        (
            [], {"table_parameters.counted.accessor": {"embedx_dim": 6}}, "_look_up(by_name[\"last_items\"]",
            "goes through continuous_value_model, and the accessor of table counted does not give show and click",
        ),
        (
            [('_look_up(by_name["user_id"], "a_liked", 2, of_like)',
              '_look_up(by_name["user_id"], "a_liked", 2, of_like) + _look_up(by_name["tags"], "a_liked", 2, None)')],
            {}, "", "table a_liked is looked up with 2 different entries",
        ),
        (
            [(LIKED, LIKED.replace('by_name["user_id"]', 'by_name["user_id"] + 1'))], {},
            "_look_up(by_name[\"user_id\"] +", "table a_liked is looked up by",
        ),
        ([], {"table_parameters.wide": None}, "for name in (\"user_id\", \"tags\")]", "table_parameters lacks wide"),
        (
            [(TARGETS, ""), ("paddle.concat([1 - predicted, predicted], axis=1)", "predicted")], {}, None,
            "does not set the attribute inference_target_var",
        ),
        ([], {"table_parameters.more": {}}, None, "table_parameters.more: the network has no such table"),
        (
            [('sequence_pool(liked, "sum"),', "")], {}, "_look_up(by_name[\"user_id\"], \"a_liked\"",
            "the loss does not depend on the embedding of user_id in table a_liked",
        ),
        (
            [],
            {"stream.features": {"user_id": 2, "item_id": 3, "tags": 5}, "stream.format": "name_value",
             "stream.columns": None}, None,
            "slot last_items is not in stream.features",
        ),
        (
            [], {"stream.dense": {"price": 2}}, None,
            "feed price (float32, [None, 3], lod_level 0): stream.dense says 2 floats, the network reads 3; "
            "feed age (float32, [None, 1], lod_level 0) is not in stream.dense",
        ),
        ([], {"stream.labels": {"click": "binary", "like": "binary"}}, None, "feed dwell (float32"),
        (
            [('by_name["price"], by_name["age"]', 'paddle.static.nn.data_norm(by_name["price"]), by_name["age"]')], {},
            "paddle.static.nn.data_norm", "data_norm keeps its sums in a table of their own",
        ),
        (
            [('data("item_id", [None, 1]', 'data("item_id", [None, 2]'),
             ('_look_up(by_name[name], "deep", 5, of_click) for name in ("user_id", "item_id", "tags")}',
              '_look_up(paddle.reshape(by_name[name], [-1, 1]) if name == "item_id" else by_name[name], "deep", 5, '
              'of_click) for name in ("user_id", "item_id", "tags")}'),
             ('deep["item_id"]', 'paddle.reshape(deep["item_id"], [-1, 10])')], {},
            "paddle.reshape(by_name[name]", "which has 2 feasigns a row with lod_level 0: Paddle would count clicks of",
        ),
        (
            [('hidden = _layer(layer, self', 'hidden = _layer(layer * by_name["importance"], self')],
            {"stream.inference_model": "both"}, None, "the prediction depends on the feed importance (weight)",
        ),
        (
            [(ENTRY, 'of_click = paddle.distributed.ShowClickEntry("shw", "clck")')], {}, "return sparse_embedding",
            "the ShowClickEntry of table deep names shw, which is no variable of the network",
        ),
        (
            [("optimizer = fleet.distributed_optimizer(optimizer, strategy)", "fleet.barrier_worker")], {}, None,
            "static_model.py: create_optimizer() trains no table",
        ),
        ([("def create_optimizer", "def make_optimizer")], {}, None, "StaticModel has no create_optimizer(strategy)"),
        (
            [('weight = "importance"', 'weight = "importanc"')], {}, None,
            "StaticModel.weight names importanc, which is no feed",
        ),
        (
            [('weight = "importance"', 'weight = "importance"\n    labels = ("click", "like", "click")')], {}, None,
            "StaticModel.labels names click twice",
        ),
    ],
)  # fmt: skip
def test_what_does_not_fit(
    tmp_path: Path, replaced: list[tuple[str, str]], config: dict[str, Any], line: str | None, words: str
) -> None:
    report = built(tmp_path, *replaced, config=config)
    assert len(report.problems) == 1, report.problems
    message, remedy = report.problems[0]
    assert words in message and remedy, (message, remedy)
    source = tmp_path / "net" / "static_model.py"
    if line is not None:
        lines = source.read_text().splitlines()
        numbers = [number for number, text in enumerate(lines, 1) if line in text or "return sparse_embedding" in text]
        assert any(f"{source}, line {number}" in message for number in numbers), message
    assert "\n" not in message + remedy and "Traceback" not in message


def test_what_is_found_where_the_code_does_not_say_it(tmp_path: Path) -> None:
    report = built(
        tmp_path,
        (TARGETS, ""),
        ("hidden = _layer(layer,", "norm = paddle.static.nn.batch_norm\n        hidden = _layer(norm(norm(layer)),"),
    )
    assert report.problems == [] and len(report.notes) == 1 and "static_model.py, line " in report.notes[0]
    assert report.own_parameters == ("batch_norm_0.w_1", "batch_norm_0.w_2", "batch_norm_1.w_1", "batch_norm_1.w_2")


@pytest.mark.parametrize("prediction", ["", "* 1.0"])
def test_an_auc_is_no_prediction(tmp_path: Path, prediction: str) -> None:
    """PaddleRec's models have it as inference_target_var; what it is of is served, a softmax's column too."""
    auc = "paddle.static.auc(paddle.concat([1 - predicted, predicted], axis=1)"
    own = (TARGETS, ""), (auc, f"self.inference_target_var, *_ = {auc}{prediction}")
    report = built(tmp_path / "alone", *own, config={"stream.inference_model": "both"})
    assert report.problems == []
    beside = (*own, ("self.infer_dump_fields", "self.inference_target_var = [rate, self.inference_target_var]; a"))
    report = built(tmp_path / "beside", *beside, config={"stream.inference_model": "both"})
    assert "inference_target_var names auc_" in report.problems[0][0], report.problems


def test_a_network_without_an_auc_and_show_counts_its_rows(tmp_path: Path) -> None:
    """steps_role.py compares the rows that were trained with those that were read."""
    auc = "paddle.static.auc(paddle.concat([1 - predicted, predicted], axis=1), by_name[label], slide_steps=0)"
    shows = '("show", "click", "like"))'
    report = built(
        tmp_path,
        (auc, "print(predicted, label)"),
        (shows, '("click", "click", "like"))\n        show = paddle.full_like(click, 1.0)'),
        ('            data("show", [None, 1], "int64", 1),\n', ""),
        ("hidden = _layer(layer,", f"hidden = _layer(layer * {FIRST},"),
    )
    assert report.problems == [] and report.network is not None
    assert {t.name: (t.slots, t.click) for t in report.network.tables} == TABLES
    assert all(table.show for table in report.network.tables)
    config = load_config(tmp_path / "config_online.yaml")
    rows = rich_rows(100, seed=3)
    (tmp_path / "rows.txt").write_bytes(text_of(rows, report.network, config.layout))
    steps = [["train", str(tmp_path / "rows.txt")], ["save", str(tmp_path / "saved")]]
    (tmp_path / "steps.json").write_text(json.dumps(steps))
    arguments = [str(config.path), str(tmp_path / "steps.json")]
    run_roles("steps_role.py", arguments, tmp_path, tmp_path / "steps.done", 1, 1)
    assert counted_in(tmp_path / "saved") == expected(rows)
