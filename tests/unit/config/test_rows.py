"""What stream: says of rows and lines: what is wrong is named by its key; what means the same is the same."""

from pathlib import Path
from typing import Any

import pytest

from streamtrain.checkpoint.identity_keys import fixed_keys, free_keys
from streamtrain.config import ConfigProblems
from tests.support.jobs import write_config
from tests.support.value_rows import COLUMNS, HEADER, value_config


def problems(folder: Path, line_format: str, **stream: Any) -> list[str]:
    with pytest.raises(ConfigProblems) as refused:
        value_config(folder, line_format, **stream)
    return list(refused.value.problems)


def columns(part: str, name: str, value: Any) -> dict[str, Any]:
    return {**COLUMNS, part: {**COLUMNS[part], name: value}}


@pytest.mark.parametrize(
    ("line_format", "stream", "problem"),
    [
        ("feasign_slot", {}, "stream.format: feasign_slot carries feasigns and one label of 0 or 1 alone, not what "
                             "stream.labels and stream.dense and stream.weight name"),
        ("csv", {"columns": None, "features": {"user": 2}}, "stream.columns: required by the format csv"),
        ("name_value", {"columns": COLUMNS}, "stream.columns: the format name_value does not read it"),
        ("json", {"header": ["a"]}, "stream.header: the format json does not read it"),
        ("json", {"feed_order": ["a"]}, "stream.feed_order: the format json does not read it"),
        ("csv", {"header": HEADER[1:]}, "stream.header: it has no action, which stream.columns names"),
        ("csv", {"header": [*HEADER, "user"]}, "stream.header: user is given twice"),
        ("csv", {"header": "none"}, "stream.header"),
        ("multislot", {"feed_order": ["click", "dwell", "stars", "price", "vec", "2", "items", "bucket", "cross"]},
         "stream.feed_order: it lacks ready"),
        ("multislot", {"feed_order": ["click", "x"]}, "stream.feed_order: x is no label, float, weight or slot"),
        ("multislot", {"feed_order": ["user", "2"]}, "stream.feed_order: 2 is given twice"),
        ("csv", {"columns": columns("labels", "like", "x")}, "stream.columns.labels.like: stream.labels has click"),
        ("csv", {"columns": columns("labels", "click", {"field": "a", "over": 1, "in": ["b"]})},
         "stream.columns.labels.click: over and in exclude each other"),
        ("csv", {"columns": columns("labels", "click", {"field": "a", "in": [True]})},
         "stream.columns.labels.click.in.0"),
        ("csv", {"columns": columns("labels", "click", {"field": "a", "values": ["b"]})},
         "stream.columns.labels.click.values: unknown key"),
        ("csv", {"columns": columns("labels", "click", {"field": "a", "ovr": 1})},
         "stream.columns.labels.click.ovr: unknown key"),
        ("csv", {"columns": columns("labels", "click", {"field": "a", "default": "x"})},
         "stream.columns.labels.click.default: 'x' is no number"),
        ("csv", {"columns": columns("dense", "size", "x")}, "stream.columns.dense.size: stream.dense has price, vec"),
        ("csv", {"columns": columns("dense", "vec", ["x", "y", "z"])},
         "stream.columns.dense.vec: 3 fields, stream.dense says 2 floats"),
        ("csv", {"columns": columns("fields", "user", 1)}, "stream.columns.fields.user.slot"),
        ("csv", {"columns": columns("fields", "more", None)},
         "stream.columns.fields.more: its slot's number is wanted"),
        ("csv", {"columns": columns("fields", "user", 3)}, "stream.columns.fields.items: slot 3 is user already"),
        ("csv", {"columns": columns("fields", "no name", 9)}, "stream.columns.fields.no name"),
        ("csv", {"features": {"user": 7}}, "stream.columns.fields.user.slot: 2, stream.features says 7"),
        ("csv", {"columns": columns("fields", "bucket", {"slot": 4, "buckets": [2, 1]})},
         "stream.columns.fields.bucket.buckets: they must ascend"),
        ("csv", {"columns": columns("fields", "bucket", {"slot": 4, "buckets": [1], "default": "x"})},
         "stream.columns.fields.bucket.default: 'x' is no number, which buckets want"),
        ("csv", {"columns": columns("fields", "cross", {"slot": 5, "of": ["a"]})}, "stream.columns.fields.cross.of"),
        ("csv", {"columns": columns("fields", "cross", {"slot": 5, "of": ["a", "b"], "field": "c"})},
         "stream.columns.fields.cross.of: a cross takes neither"),
        ("csv", {"columns": columns("fields", "ready", {"slot": 6, "feasign": True, "hash_as": 2})},
         "stream.columns.fields.ready.feasign: what is one already"),
        ("csv", {"columns": columns("fields", "user", {"slot": 2, "hash_as": 99})},
         "stream.columns.fields.user.hash_as: 99 is not one of the job's slots"),
        ("csv", {"columns": columns("fields", "ready", {"slot": 6, "feasign": True, "default": -1})},
         "stream.columns.fields.ready.default: -1 is no feasign"),
        ("csv", {"columns": columns("fields", "user", {"slot": 2, "default": 1.5})},
         "stream.columns.fields.user.default: 1.5 is a float"),
        ("csv", {"slots": [2, 3, 4, 5, 6, 9]}, "stream.columns.fields: nothing says which field 9 is"),
        ("csv", {"weight": ""}, "stream.columns.weight: rows have none"),
        ("csv", {"dense": {"user": 1}}, "stream.features: the name user is in stream.dense already"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named_by_its_key(
    tmp_path: Path, line_format: str, stream: dict[str, Any], problem: str
) -> None:
    found = problems(tmp_path, line_format, **stream)
    assert any(each.startswith(problem) for each in found), found


def test_names_come_from_the_columns(tmp_path: Path) -> None:
    config = value_config(tmp_path, "csv")
    assert config.slots == (2, 3, 4, 5, 6) and config.layout.names["items"] == 3
    numbered = {"labels": {}, "fields": {"2": {"field": "user"}, "item": 3}}
    config = write_config(
        tmp_path, "j", {}, stream={"job": "j", "format": "json", "columns": numbered, "slots": [2, 3]}
    )
    assert config.layout.names == {"item": 3}
    assert config.line_format.columns is not None
    assert [(c.slot, c.fields) for c in config.line_format.columns.slots] == [(2, ("user",)), (3, ("item",))]


@pytest.mark.parametrize(
    ("part", "name", "value"),
    [
        ("fields", "user", {"slot": 2}), ("fields", "user", {"slot": 2, "field": "user", "hash_as": 2, "split": ""}),
        ("dense", "price", "price"), ("labels", "dwell", {"field": "dwell"}), ("dense", "price", {"field": ["price"]}),
    ],
)  # fmt: skip
def test_what_means_the_same_is_the_same_job(tmp_path: Path, part: str, name: str, value: Any) -> None:
    before = value_config(tmp_path / "a", "csv")
    now = value_config(tmp_path / "b", "csv", columns=columns(part, name, value))
    assert fixed_keys(before) == fixed_keys(now)
    assert {k for k in fixed_keys(now) if k.startswith("stream.columns.")} >= {"stream.columns.fields.user"}
    assert not [key for key in free_keys(now) if key.startswith(("stream.columns", "stream.header", "stream.feed"))]


@pytest.mark.parametrize(
    ("part", "name", "value"),
    [
        ("fields", "user", {"slot": 2, "field": "uid"}), ("fields", "user", {"slot": 2, "hash_as": 3}),
        ("labels", "click", {"field": "action", "in": ["click"]}), ("labels", "dwell", {"field": "dwell", "over": 0}),
        ("dense", "vec", {"field": "vec", "split": ",", "default": 0.5}), ("labels", "stars", "stars"),
        ("fields", "ready", 6),
    ],
)  # fmt: skip
def test_what_makes_another_row_makes_another_job(tmp_path: Path, part: str, name: str, value: Any) -> None:
    before = value_config(tmp_path / "a", "csv")
    now = value_config(tmp_path / "b", "csv", columns=columns(part, name, value))
    assert fixed_keys(before)[f"stream.columns.{part}.{name}"] != fixed_keys(now)[f"stream.columns.{part}.{name}"]


def test_other_jobs_have_the_keys_that_they_had(tmp_path: Path) -> None:
    config = write_config(tmp_path, "j", {})
    assert {key for key in fixed_keys(config) if key.startswith("stream.")} == {
        "stream.job", "stream.partitions", "stream.format", "stream.unknown_slot", "stream.slots"
    }  # fmt: skip


def test_a_slot_may_be_called_1_and_no_other_number(tmp_path: Path) -> None:
    """PaddleRec's text of Criteo's rows calls its slots 1 to 26."""
    config = write_config(
        tmp_path, "j", {}, stream={"job": "j", "format": "name_value", "features": {"1": 4}, "slots": [4, 2, 3]}
    )
    assert [config.layout.slot_number(name) for name in ("1", "2", "3", "4", "5")] == [4, 2, 3, 4, None]
    assert any("'3' is no name" in each for each in problems(tmp_path, "name_value", features={"3": 4}))


def test_a_default_of_no_characters_is_another_than_none(tmp_path: Path) -> None:
    """A row without a value gets the feasign of an empty text by it, and no feasign without it."""
    one, other = (
        value_config(tmp_path / str(number), "csv", columns=columns("fields", "user", of))
        for number, of in enumerate(({"slot": 2}, {"slot": 2, "default": ""}))
    )
    assert fixed_keys(one) != fixed_keys(other)
