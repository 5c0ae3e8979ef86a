"""What may be deleted, and that deleting does it."""

import time
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from streamtrain.checkpoint.retention import Keep, old_checkpoints, old_models
from streamtrain.checkpoint.runs import Run
from streamtrain.contracts.donefiles import DoneLine
from streamtrain.contracts.inference_models import DueModel, due_models
from streamtrain.contracts.manifest import Kind, ModelRef
from streamtrain.schedule import PassId, Schedule


def line(number: int, kind: Kind, base: int | None, published: float) -> DoneLine:
    patched = ModelRef("20240101", base, f"x{base}") if base is not None else None
    return DoneLine(
        path=f"d/{number}", digest=f"x{number}", day="20240101", pass_id=number, kind=kind, published=published,
        base=patched,
    )  # fmt: skip


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=12), st.integers(1, 15), st.floats(0, 1e6), st.floats(1e6, 2e6))
def test_checkpoints(made: list[float], count: int, seconds: float, now: float) -> None:
    found = [(PassId("20240101", n + 1), at) for n, at in enumerate(made)]
    gone = old_checkpoints(found, Keep(count, seconds), now)
    kept = [pass_id for pass_id, _ in found if pass_id not in gone]
    assert kept[-2:] == [pass_id for pass_id, _ in found][-2:] and len(kept) >= min(count, len(found))
    for pass_id, at in found:
        assert (pass_id in gone) == (pass_id not in [x for x, _ in found][-max(count, 2) :] and now - at >= seconds)


@given(st.lists(st.booleans(), min_size=1, max_size=20), st.integers(1, 4), st.floats(0, 50), st.floats(0, 50))
def test_models_go_by_chains(kinds: list[bool], count: int, seconds: float, grace: float) -> None:
    lines, base = [], 0
    for number, is_full in enumerate([True, *kinds]):
        base = number if is_full else base
        lines.append(line(number, "full" if is_full else "incremental", None if is_full else base, float(number)))
    now = float(len(lines))
    gone = old_models(lines, Keep(count, seconds), now, grace)
    bases = [x.digest for x in lines if x.kind == "full"]
    for x in gone:
        mine = x.base.digest if x.base else x.digest
        assert mine not in bases[-count:]
        together = [y for y in lines if y.digest == mine or (y.base and y.base.digest == mine)]
        assert all(y in gone for y in together)  # never a base without its increments
        assert all(now - y.published >= seconds for y in together)
    if not seconds and not grace:
        assert {x.digest for x in gone if x.kind == "full"} == set(bases[:-count])


def test_a_replaced_model_stays_for_its_readers() -> None:
    lines = [line(0, "full", None, 0.0), line(1, "full", None, 100.0)]
    assert old_models(lines, Keep(1, 0), 150.0, grace_s=60) == []
    assert old_models(lines, Keep(1, 0), 160.0, grace_s=60) == lines[:1]


@given(
    st.sampled_from(["both", "full", "incremental", "none"]), st.integers(0, 6), st.sampled_from([1, 2, 4]),
    st.integers(0, 11), st.booleans(),
)  # fmt: skip
def test_due(mode: str, frequency: int, per_pass: int, index: int, has_base: bool) -> None:
    schedule = Schedule(120, per_pass, "20240101", "20240103")
    pass_id = schedule.pass_at(index)
    due = due_models(mode, frequency, pass_id, schedule, has_base=has_base)
    daily = [x for x in due if x.id.pass_id == 0]
    within = [x for x in due if x.id.pass_id]
    assert len({x.id for x in due}) == len(due)
    if mode == "none":
        assert not due
    assert bool(daily) == (mode in ("both", "full") and schedule.is_day_end(pass_id))
    assert all(x.kind == "full" and x.id.day > pass_id.day for x in daily)
    assert within in ([], [DueModel(pass_id, "full")], [DueModel(pass_id, "incremental")])
    if within and mode != "full":
        assert within[0].kind == ("incremental" if has_base else "full")
    if frequency and pass_id.pass_id % frequency == 0 and mode != "none":
        assert due


def test_removed_at_once(tmp_path: Path) -> None:
    run = Run(tmp_path)
    run.take_over()
    for number in (1, 2):
        folder = tmp_path / f"2024010{number}" / "1"
        folder.mkdir(parents=True)
        (folder / "x").write_text(str(time.time()))
    assert run.remove(tmp_path / "20240101" / "1")
    assert not run.remove(tmp_path / "20240101" / "1")
    assert not (tmp_path / "20240101").exists() and (tmp_path / "20240102" / "1" / "x").exists()
