"""The checker where show decays and keys are deleted at the end of each day."""

import json
import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamtrain.errors import ConfigError
from streamtrain.proof.days import DAILY, ShrinkRule
from streamtrain.proof.job import shrink_rule
from streamtrain.proof.recount import Recount, recount
from tests.support.checkpoints import write_checkpoint
from tests.support.jobs import write_config, write_split

F = np.float32
PASSES = ("0000", "1200")
#: (label, feasigns); all of slot 2.
Row = tuple[int, list[int]]


def day(number: int) -> str:
    return f"202401{number + 1:02d}"


class Table:
    """Paddle's table, a key at a time, in float32: [show, click, unseen_days]."""

    def __init__(self, rule: ShrinkRule) -> None:
        self.rule = rule
        self.keys: dict[int, list[Any]] = {}

    def train(self, rows: Sequence[Row]) -> None:
        for label, feasigns in rows:
            for key in feasigns:
                value = self.keys.setdefault(key, [F(0), F(0), 0])
                value[:] = [value[0] + F(1), value[1] + F(label), 0]

    def shrink(self) -> None:
        rule = self.rule
        for key, value in list(self.keys.items()):
            show, click = (x * F(rule.show_click_decay_rate) for x in value[:2])
            score = (show - click) * F(rule.nonclk_coeff) + click * F(rule.click_coeff)
            if score < F(rule.delete_threshold) or value[2] > F(rule.delete_after_unseen_days):
                del self.keys[key]
            else:
                self.keys[key] = [show, click, value[2] + 1]

    def restart(self) -> None:
        """Through the text of a checkpoint."""
        for value in self.keys.values():
            value[:2] = [F(f"{x:.6g}") for x in value[:2]]

    def save(self, root: Path, rows: int, days: int, passes: int, **manifest: Any) -> None:
        """After so many whole days and so many passes of the next one."""
        at = (day(days), passes) if passes else (day(days - 1), len(PASSES))
        shard = root / at[0] / str(at[1]) / "embedding.shard"
        shard.mkdir(parents=True)
        (shard.parent / "manifest.json").write_text(json.dumps({"rows": rows, "shrinks": days, **manifest}))
        lines = [
            f"{key} 2 {unseen} 0 {show:.6g} {click:.6g} 0.1 0.1\n" for key, (show, click, unseen) in self.keys.items()
        ]
        (shard / "part-0.txt").write_text("".join(lines))


def write_tree(data: Path, rows: dict[str, list[Row]]) -> None:
    for split, its in rows.items():
        write_split(data, split, [" ".join([f"{label}:1", *(f"{k}:2" for k in keys)]) for label, keys in its])


def check(folder: Path, rule: ShrinkRule) -> Recount:
    return recount(
        folder / "data", folder / "model", split_interval=720, split_per_pass=1, start_day=day(0), slots=(2, 3),
        donefile="data.done", rule=rule,
    )  # fmt: skip


def job(seed: int, days: int, extra: int) -> dict[str, list[Row]]:
    """Rows by split, of days and of `extra` passes after them. Some keys are in every row, some in one."""
    source = random.Random(seed)
    found: dict[str, list[Row]] = {}
    for number in range(days * len(PASSES) + extra):
        split = f"{day(number // len(PASSES))}/{PASSES[number % len(PASSES)]}"
        found[split] = [
            (int(source.random() < 0.3), [1, *{int(source.paretovariate(0.5)) % 10**6 + 2 for _ in range(3)}])
            for _ in range(source.choice((0, 5, 40)))
        ]
    return found


def trained(rows: dict[str, list[Row]], rule: ShrinkRule, restarts: int) -> Table:
    table = Table(rule)
    source = random.Random(restarts)
    for number, split in enumerate(rows, 1):
        table.train(rows[split])
        if number % len(PASSES) == 0:
            table.shrink()
        if source.random() < restarts / 4:
            table.restart()
    return table


rules = st.builds(
    ShrinkRule,
    show_click_decay_rate=st.sampled_from((0.98, 0.5, 0.9, 1.0)),
    delete_threshold=st.sampled_from((0.8, 0.0, 1.3)),
    delete_after_unseen_days=st.sampled_from((1.0, 30.0)),
)


@settings(max_examples=40, deadline=None)
@given(
    rule=rules, seed=st.integers(0, 999), days=st.integers(0, 6), extra=st.integers(0, 1), restarts=st.integers(0, 4)
)
def test_any_job_is_right_and_one_row_turns_it_red(
    tmp_path_factory: pytest.TempPathFactory, rule: ShrinkRule, seed: int, days: int, extra: int, restarts: int
) -> None:
    if not days + extra:
        return
    folder = tmp_path_factory.mktemp("job")
    rows = job(seed, days, extra)
    last = list(rows)[-1]
    rows[last] += [(1, [1, 10**7])] * 3  # enough of them to stay above the threshold
    write_tree(folder / "data", rows)
    count = sum(map(len, rows.values()))
    trained(rows, rule, restarts).save(folder / "model", count, days, extra)
    found = check(folder, rule)
    assert found.ok, found
    assert found.shrinks == days and (found.tolerance == 0 or rule.show_click_decay_rate < 1)
    assert found.sharp == found.keys > 1 and found.undecided < 3
    one = random.Random(seed).randrange(len(rows[last]))
    for wrong, its in (
        ("lost", rows[last][:one] + rows[last][one + 1 :]),
        ("duplicated", [*rows[last], rows[last][one]]),
    ):
        (folder / wrong).mkdir()
        (folder / wrong / "data").symlink_to(folder / "data")
        trained({**rows, last: its}, rule, restarts).save(folder / wrong / "model", count, days, extra)
        seen = check(folder / wrong, rule)
        assert not seen.ok and getattr(seen, wrong) > 0, seen


def test_one_row_of_a_long_job_whose_every_day_has_restarts(tmp_path: Path) -> None:
    """The parameters of Paddle's messages, 60 days; the row's keys have been there on every day."""
    rule = ShrinkRule(show_click_decay_rate=0.98, delete_threshold=0.8)
    rows = {f"{day(n % 30)}/{p}".replace("202401", f"20240{1 + n // 30}"): [(n % 2, [1, 2])] * 4 + [(0, [3])] * 300
            for n in range(60) for p in PASSES}  # fmt: skip
    rows = {split: rows[split] for split in sorted(rows) if split < "20240131"}
    write_tree(tmp_path / "data", rows)
    count = sum(map(len, rows.values()))
    days = len(rows) // 2
    right = trained(rows, rule, 4)
    right.save(tmp_path / "model", count, days, 0)
    found = check(tmp_path, rule)
    assert found.ok and found.keys == 3 and found.sharp == 2  # 12,000 shows of key 3 are too many
    assert DAILY < found.tolerance < 30 * DAILY
    last = list(rows)[-1]
    for its in (rows[last][1:], [*rows[last], rows[last][0]]):
        wrong = trained({**rows, last: its}, rule, 4)
        (tmp_path / "model" / day(days - 1) / "2").rename(tmp_path / f"aside-{len(its)}")
        wrong.save(tmp_path / "model", count, days, 0)
        seen = check(tmp_path, rule)
        assert not seen.ok and seen.lost + seen.duplicated == 2


def two_days(folder: Path, shows: dict[int, tuple[float, float]], **manifest: Any) -> None:
    """Key 5 ten times on the first day, key 6 on the second; the checkpoint says `shows`."""
    rows: dict[str, list[Row]] = {f"{day(n)}/{p}": [] for n in range(2) for p in PASSES}
    rows[f"{day(0)}/0000"] = [(0, [5])] * 10
    rows[f"{day(1)}/1200"] = [(1, [6])] * 4
    write_tree(folder / "data", rows)
    write_checkpoint(folder / "model", shows, day=day(1), **{"rows": 14, "shrinks": 2, **manifest})  # type: ignore[arg-type]


RULE = ShrinkRule(show_click_decay_rate=0.98, delete_threshold=0.8)
TWO_DAYS = {5: (9.604, 0), 6: (3.92, 3.92)}


@pytest.mark.parametrize(
    ("rule", "shows", "wrong"),
    [
        (RULE, TWO_DAYS, {}),
        (RULE, {6: (3.92, 3.92)}, {"missing_keys": 1, "lost": 10}),
        (RULE, {**TWO_DAYS, 6: (2.94, 2.94)}, {"lost": 1}),
        (RULE, {**TWO_DAYS, 6: (4.9, 4.9)}, {"duplicated": 1}),
        (RULE, {**TWO_DAYS, 6: (3.92, 2.94)}, {"wrong_clicks": 1}),
        (RULE, {**TWO_DAYS, 5: (9.8, 0)}, {"duplicated": 1}),  # one shrink left out
        (replace(RULE, delete_threshold=1.0), {6: (3.92, 3.92)}, {}),
        (replace(RULE, delete_threshold=1.0), TWO_DAYS, {"unknown_keys": 1}),
        (replace(RULE, delete_after_unseen_days=0.0), {6: (3.92, 3.92)}, {}),
        (replace(RULE, delete_after_unseen_days=0.0), TWO_DAYS, {"unknown_keys": 1}),
        (replace(RULE, delete_after_unseen_days=1.0), TWO_DAYS, {}),
        (replace(RULE, show_click_decay_rate=1.0), {5: (10, 0), 6: (4, 4)}, {}),
        (replace(RULE, show_click_decay_rate=1.0, delete_threshold=1.0), {5: (10, 0), 6: (4, 4)}, {}),  # not below 1
        (replace(RULE, show_click_decay_rate=1.0, delete_threshold=1.1), {6: (4, 4)}, {}),
        (replace(RULE, show_click_decay_rate=1.0), {5: (10, 0), 6: (4.0001, 4)}, {"duplicated": 1}),
    ],
)
def test_two_days(
    tmp_path: Path, rule: ShrinkRule, shows: dict[int, tuple[float, float]], wrong: dict[str, int]
) -> None:
    two_days(tmp_path, shows)
    found = check(tmp_path, rule)
    assert found.ok == (not wrong)
    for name in ("lost", "duplicated", "missing_keys", "unknown_keys", "wrong_clicks"):
        assert getattr(found, name) == wrong.get(name, 0), name
    assert found.undecided == 0 and found.decay == rule.show_click_decay_rate


@pytest.mark.parametrize(
    ("shows", "ok"),
    [(TWO_DAYS, True), ({6: (3.92, 3.92)}, True), ({**TWO_DAYS, 5: (9.7, 0)}, False), ({**TWO_DAYS, 5: (0, 0)}, False)],
)
def test_a_key_at_the_threshold_is_undecided(tmp_path: Path, shows: dict[int, tuple[float, float]], ok: bool) -> None:
    two_days(tmp_path, shows)
    found = check(tmp_path, replace(RULE, delete_threshold=0.9604))
    assert found.ok == ok and found.undecided == 1 and found.keys == 2 and found.missing_keys == 0


@pytest.mark.parametrize(("show", "ok"), [(3, True), (12.604, True), (12, False), (9.604, False)])
def test_it_goes_on_with_both_of_its_histories(tmp_path: Path, show: float, ok: bool) -> None:
    two_days(tmp_path, TWO_DAYS)
    write_split(tmp_path / "data", f"{day(2)}/0000", ["0:1 5:2"] * 3)
    shows = {5: (show, 0), 6: (3.92, 3.92)}
    write_checkpoint(tmp_path / "model", shows, day=day(2), pass_id=1, rows=17, shrinks=2)
    found = check(tmp_path, replace(RULE, delete_threshold=0.9604))
    assert found.ok == ok and found.undecided == 1


@pytest.mark.parametrize(
    ("rule", "shows", "shrinks", "ok"),
    [
        (replace(RULE, show_click_decay_rate=1.0), {5: (10, 0), 6: (4, 4)}, 0, True),  # of before there were shrinks
        (replace(RULE, show_click_decay_rate=1.0), {5: (10, 0), 6: (4, 4)}, 1, False),
        (replace(RULE, show_click_decay_rate=1.0, delete_threshold=2.0), {6: (4, 4)}, 0, False),
        (RULE, TWO_DAYS, 0, False),
        (RULE, TWO_DAYS, 3, False),
    ],
)
def test_the_manifest_says_how_often_it_was_shrunk(
    tmp_path: Path, rule: ShrinkRule, shows: dict[int, tuple[float, float]], shrinks: int, ok: bool
) -> None:
    two_days(tmp_path, shows, shrinks=shrinks)
    found = check(tmp_path, rule)
    assert (found.lost, found.duplicated, found.unknown_keys) == (0, 0, 0)
    assert found.ok == ok and (f"shrunk {shrinks} times, 2 days" in found.reason) == (not ok)


KEEP = replace(RULE, show_click_decay_rate=1.0, delete_threshold=0.0)


def test_late_rows_are_not_provable_where_their_day_matters(tmp_path: Path) -> None:
    two_days(tmp_path, {5: (10, 0), 6: (4, 4)}, late_rows=3)
    assert check(tmp_path, KEEP).ok
    for rule in (RULE, replace(KEEP, delete_threshold=0.8), replace(KEEP, delete_after_unseen_days=1.0)):
        found = check(tmp_path, rule)
        assert found.verdict == "not provable" and "3 rows of revisions" in found.unknown[0]


def test_a_pass_that_was_not_trained_counts_for_nothing(tmp_path: Path) -> None:
    two_days(tmp_path, {6: (4, 4)}, untrained=[f"{day(0)}/1"], rows=4)
    assert check(tmp_path, KEEP).ok
    two_days(tmp_path / "b", {6: (4, 4)}, untrained=[f"{day(0)}/2"], rows=14)
    assert check(tmp_path / "b", KEEP).lost == 10
    two_days(tmp_path / "c", {6: (4, 4)}, untrained=[f"{day(0)}/1"], rows=4, late_rows=1)
    found = check(tmp_path / "c", KEEP)
    assert found.verdict == "not provable" and "was not trained" in found.unknown[0]


def test_a_million_shows(tmp_path: Path) -> None:
    """Past a million the text has no room for one row."""
    write_split(tmp_path / "data", f"{day(0)}/0000", ["1:1 " + "5:2 " * 1000] * 1100)
    write_checkpoint(tmp_path / "model", {5: (1.10001e6, 1.1e6)}, day=day(0), pass_id=1, rows=1100)
    found = check(tmp_path, KEEP)
    assert found.ok and found.sharp == 0 and found.keys == 1


def test_the_rule_is_the_configs(tmp_path: Path) -> None:
    config = write_config(tmp_path, "j", {"bootstrap.servers": "127.0.0.1:1"})
    assert shrink_rule(config) == ShrinkRule(0.1, 1.0, 1.0, 0.0, 3000.0)
    given = config.raw["table_parameters"]["embedding"]["accessor"]
    for value in (1.5, -0.1, "much", True):
        given["ctr_accessor_param"]["show_click_decay_rate"] = value
        with pytest.raises(ConfigError, match=r"embedding.accessor.ctr_accessor_param.show_click_decay_rate"):
            shrink_rule(config)
    del given["ctr_accessor_param"]
    assert shrink_rule(config) == ShrinkRule()
