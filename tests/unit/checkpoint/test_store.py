"""Manifests, the store and the journal, on a real file system."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamtrain.checkpoint.journal import Journal, PassRecord, pack, unpack
from streamtrain.checkpoint.runs import Run
from streamtrain.contracts.manifest import Manifest, Witness
from streamtrain.engine.stats import PassStats
from streamtrain.errors import Fenced
from streamtrain.schedule import PassId
from tests.support.checkpoints import save, taken_over

counts = st.lists(st.integers(0, 5), min_size=6, max_size=6).map(lambda x: np.array(x, np.int64))


@given(counts, counts)
def test_auc_is_the_chance_that_a_click_ranks_higher(pos: np.ndarray, neg: np.ndarray) -> None:
    pairs = [(i > j) + (i == j) / 2 for i in range(6) for j in range(6) for _ in range(pos[i] * neg[j])]
    auc = PassStats(pos, neg).auc
    assert auc == pytest.approx(sum(pairs) / len(pairs)) if pairs else np.isnan(auc)
    assert all((a == b).all() for a, b in zip(unpack(pack(pos, neg)), (pos, neg), strict=True))


def test_what_is_damaged_is_named(tmp_path: Path) -> None:
    store = taken_over(tmp_path / "model")
    first, second, third = (save(store, PassId("20240101", i)) for i in (2, 9, 10))
    assert [c.id.pass_id for c in store.list()] == [2, 9, 10]  # by number, not by name
    part = third / "embedding.shard" / "part-0.txt"
    part.write_text("rowz")
    (second / "manifest.json").write_bytes(b"{")
    problems = [problem for _, problem in store.newest_first()]
    assert "part-0.txt is damaged" in (problems[0] or "")
    assert "manifest.json" in (problems[1] or "") and problems[2] is None
    (first / "more").touch()
    assert "more is not in the manifest" in (store.verify(store.list()[0]) or "")
    part.unlink()
    assert "part-0.txt" in (store.verify(store.list()[2]) or "")


def test_a_pass_trained_again_replaces_what_came_after(tmp_path: Path) -> None:
    store = taken_over(tmp_path)
    for number in (1, 2, 3):
        save(store, PassId("20240101", number))
    save(store, PassId("20240101", 2), "again")
    lines = [line.split("\t") for line in (tmp_path / "donefile.txt").read_text().splitlines()]
    assert [(x[0], x[3], x[4]) for x in lines] == [("20240101", "1", "0"), ("20240101", "2", "0")]
    assert (tmp_path / "20240101" / "2" / "embedding.shard" / "part-0.txt").read_text() == "again"
    assert store.verify(store.list()[1]) is None


def test_manifest_and_witness_come_back(tmp_path: Path) -> None:
    pass_id = PassId("20240101", 1)
    store = taken_over(tmp_path)
    path = save(store, pass_id)
    data = (path / "manifest.json").read_bytes()
    assert Manifest.decode(data).encode() == data
    witness = Witness("20240101", 1, "d")
    assert Witness.decode(witness.encode()) == witness
    assert Witness.decode(None) is None and Witness.decode("somebody's") is None
    with pytest.raises(ValueError, match="format is 99"):
        Manifest.decode(data.replace(b'"format": 1', b'"format": 99'))


def test_the_journal_forgets_passes_that_are_trained_again(tmp_path: Path) -> None:
    run = taken_over(tmp_path).run
    journal = Journal(tmp_path)
    journal.roll_back(None, run)
    for number in (1, 2, 3):
        journal.append(PassRecord("20240101", number, 5, 0.5, None, 1, 0, 0.5, 0.5))
    with (tmp_path / "passes.jsonl").open("a") as out:
        out.write('{"day": "2024')  # a crash
    assert [r.pass_id for r in journal.read()] == [1, 2, 3]
    journal.roll_back(PassId("20240101", 2), run)
    assert [r.pass_id for r in journal.read()] == [1, 2]
    lost = PassRecord("20240101", 3, 5, 0.5, None, 1, 0, 0.5, 0.5)  # a crash between the rename and its line
    journal.roll_back(lost.id, run, lost)
    assert [r.pass_id for r in journal.read()] == [1, 2, 3]
    journal.roll_back(lost.id, run, lost)
    assert [r.pass_id for r in journal.read()] == [1, 2, 3]
    journal.roll_back(None, run)
    assert journal.read() == []


def test_a_run_started_again_steps_down_for_a_newer_one_alone(tmp_path: Path) -> None:
    before = Run(tmp_path)
    before.take_over("older")
    since = before.newest_number()
    Run(tmp_path).claim()  # the first run of "mine", killed before it took over
    before.check_owner("mine", since)
    Run(tmp_path).take_over("mine")
    (tmp_path / ".staging" / "9").mkdir()
    (tmp_path / ".staging" / "9" / "owner").touch()  # a run that died of a full disk
    before.check_owner("mine", since)
    Run(tmp_path).take_over("newer")
    with pytest.raises(Fenced, match="a newer trainer has taken over"):
        before.check_owner("mine", since)
