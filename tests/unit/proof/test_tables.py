"""The recount of a network of several tables: each by its own slots, label and rule; what cannot be proven is reported,
and never called lost."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from streamtrain.errors import CheckpointError, UnknownFormat
from streamtrain.proof.days import NEVER, ShrinkRule
from streamtrain.proof.line_rules import Rules
from streamtrain.proof.recount import Recount, recount

RULES = Rules(
    (2, 3, 4), "name_value", names={"user": 2},
    labels=(("click", "binary"), ("stars", "int"), ("dwell", "float")), dense=(("price", 1),), weight="w",
)  # fmt: skip
LINES = [
    "click:1 stars:3 dwell:0.5 price:1 user:5 3:6 3:6 4:7",
    "click:0 stars:2 dwell:1 price:1 user:5 4:5 w:0.5",
    "click:0 stars:2 dwell:1 user:5",  # no price: it is rejected
]
WIDE = {"name": "wide", "slots": [2, 3], "show": True, "click": "click", "width": 1}
DEEP = {"name": "deep", "slots": [2, 2, 4], "show": True, "click": "stars", "width": 8}
#: key: (show, click) of each.
SHOWN: dict[str, dict[int, tuple[float, float]]] = {
    "wide": {5: (2, 1), 6: (2, 2)},
    "deep": {5: (5, 12), 7: (1, 3)},  # slot 2 is looked up twice: 2 * (3 + 2) and once in slot 4: 2
}


def check(
    folder: Path, tables: list[dict[str, Any]], shown: dict[str, dict[int, tuple[float, float]]], rule: Any = NEVER,
    rows: int = 2,
) -> Recount:  # fmt: skip
    split = folder / "data" / "20240101" / "0000"
    split.mkdir(parents=True)
    (split / "part-0").write_text("".join(f"{line}\n" for line in LINES))
    checkpoint = folder / "model" / "20240101" / "1"
    checkpoint.mkdir(parents=True)
    (checkpoint / "manifest.json").write_text(json.dumps({"rows": rows, "shrinks": 1 if rule is not NEVER else 0}))
    (checkpoint / "job.json").write_text(json.dumps({"format": 1, "network": {"feeds": [], "tables": tables}}))
    for name, keys in shown.items():
        shard = checkpoint / f"{name}.shard"
        shard.mkdir()
        text = "".join(f"{key} 2 0 0 {show} {click} 0.1 0.1\n" for key, (show, click) in keys.items())
        (shard / "part-000-00000.txt").write_text(text)
    return recount(
        folder / "data", folder / "model", split_interval=1440, split_per_pass=1, start_day="20240101",
        slots=RULES.slots, rules=RULES, rule=rule,
    )  # fmt: skip


def test_right(tmp_path: Path) -> None:
    found = check(tmp_path, [WIDE, DEEP], SHOWN)
    assert found.ok, found.to_json()
    assert (found.rows, found.rejected, found.keys, found.occurrences) == (2, 1, 4, 10)
    assert {name: its["keys"] for name, its in found.tables.items()} == {"deep": 2, "wide": 2}


@pytest.mark.parametrize(
    ("table", "key", "value", "wrong"),
    [
        ("wide", 6, (1, 1), {"lost": 1}), ("deep", 5, (6, 12), {"duplicated": 1}),
        ("deep", 5, (5, 11), {"wrong_clicks": 1}), ("wide", 5, (2, 2), {"wrong_clicks": 1}),
        ("deep", 9, (1, 0), {"unknown_keys": 1}),
    ],
)  # fmt: skip
def test_wrong(tmp_path: Path, table: str, key: int, value: tuple[float, float], wrong: dict[str, int]) -> None:
    shown = {name: {**keys, **({key: value} if name == table else {})} for name, keys in SHOWN.items()}
    found = check(tmp_path, [WIDE, DEEP], shown)
    assert found.verdict == "differs"
    for name in ("lost", "duplicated", "missing_keys", "unknown_keys", "wrong_clicks"):
        assert getattr(found, name) == wrong.get(name, 0)
        assert found.tables[table][name] == wrong.get(name, 0)


def test_a_table_whose_show_counts_no_rows_is_reported(tmp_path: Path) -> None:
    shown = {**SHOWN, "deep": {5: (0.0, 0.0)}}
    found = check(tmp_path, [WIDE, {**DEEP, "show": False, "click": ""}], shown)
    assert found.verdict == "not provable" and not found.lost and not found.missing_keys
    assert found.unknown == ["table deep, whose network has no ShowClickEntry: its show does not count rows"]
    assert found.keys == 2 and list(found.tables) == ["wide"]


def test_a_network_without_tables(tmp_path: Path) -> None:
    found = check(tmp_path, [], {})
    assert found.verdict == "not provable" and "has no sparse table" in found.unknown[0]


@pytest.mark.parametrize(("click", "right"), [("", 0.0), ("?", 77.5), ("dwell", 77.5)])
def test_clicks_that_are_none_or_not_known(tmp_path: Path, click: str, right: float) -> None:
    shown = {**SHOWN, "deep": {5: (5, right), 7: (1, right)}}
    assert check(tmp_path / "a", [WIDE, {**DEEP, "click": click}], shown).ok
    if not click:
        assert check(tmp_path / "b", [WIDE, {**DEEP, "click": click}], SHOWN).wrong_clicks == 2


def test_each_table_has_its_rule(tmp_path: Path) -> None:
    """The day has ended: show of the one is halved."""
    half = ShrinkRule(show_click_decay_rate=0.5, delete_threshold=0.0)
    shown = {**SHOWN, "deep": {key: (show / 2, click / 2) for key, (show, click) in SHOWN["deep"].items()}}
    assert check(tmp_path / "a", [WIDE, DEEP], shown, {"deep": half, "wide": NEVER, "": NEVER}).ok
    assert check(tmp_path / "b", [WIDE, DEEP], SHOWN, {"deep": half, "wide": NEVER, "": NEVER}).verdict == "differs"


def test_deletions_by_clicks_that_nobody_knows(tmp_path: Path) -> None:
    found = check(
        tmp_path,
        [WIDE, {**DEEP, "click": "?"}],
        SHOWN,
        {"deep": ShrinkRule(delete_threshold=0.8), "wide": NEVER, "": NEVER},
    )
    assert found.verdict == "not provable" and found.unknown[0].startswith(
        "table deep, whose keys are deleted by clicks"
    )


def test_one_table_lies_where_it_always_did(tmp_path: Path) -> None:
    both = Counter({key: show for key, (show, _) in SHOWN["wide"].items()})
    shown = {"embedding": {key: (show, SHOWN["wide"][key][1]) for key, show in both.items()}}
    found = check(tmp_path, [{**WIDE, "name": "mine"}], shown)
    assert found.ok and not found.tables


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ('{"format": 2}', UnknownFormat),
        ("[]", CheckpointError),
        ('{"network": {}}', CheckpointError),
        ('{"network": {"tables": [{"name": "../x", "slots": [2], "show": true, "click": ""}]}}', CheckpointError),
        ('{"network": {"tables": [{"name": "x", "slots": ["2"], "show": true, "click": ""}]}}', CheckpointError),
    ],
)
def test_a_job_json_that_is_not_to_be_read(tmp_path: Path, text: str, error: type[Exception]) -> None:
    check(tmp_path, [WIDE, DEEP], SHOWN)
    (tmp_path / "model/20240101/1/job.json").write_text(text)
    with pytest.raises(error, match=r"job\.json"):
        recount(tmp_path / "data", tmp_path / "model", split_interval=1440, split_per_pass=1, start_day="20240101",
                slots=(2, 3), rules=RULES)  # fmt: skip
