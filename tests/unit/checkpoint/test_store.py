"""Manifests, the store and the journal, on a real file system."""

import errno
from collections.abc import Callable
from pathlib import Path

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamtrain.checkpoint.journal import Journal, PassRecord, pack, unpack
from streamtrain.checkpoint.runs import Run
from streamtrain.contracts.json_codec import UnknownFormatError
from streamtrain.contracts.manifest import Manifest, Witness
from streamtrain.engine.stats import Counts
from streamtrain.errors import Fenced, UnknownFormat, Unreadable
from streamtrain.schedule import PassId
from tests.support.checkpoints import save, taken_over

counts = st.lists(st.integers(0, 5), min_size=6, max_size=6).map(lambda x: np.array(x, np.int64))


@given(counts, counts)
def test_auc_is_the_chance_that_a_click_ranks_higher(pos: np.ndarray, neg: np.ndarray) -> None:
    pairs = [(i > j) + (i == j) / 2 for i in range(6) for j in range(6) for _ in range(pos[i] * neg[j])]
    auc = Counts(pos, neg).auc
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
    assert "part-0.txt is damaged" in str(problems[0]) and "manifest.json" in str(problems[1])
    assert [p.kind if p else None for p in problems] == ["damaged", "damaged", None]
    part.unlink()
    assert "part-0.txt" in str(store.verify(store.list()[2]))
    (first / "manifest.json").unlink()
    assert [c.problem.kind if c.problem else None for c in store.list()] == ["damaged", "damaged", None]


@pytest.mark.parametrize("name", [".nfs00000001", ".DS_Store", "embedding.shard/part-9.txt", "listing/ls-lR"])
def test_files_of_others_damage_nothing(tmp_path: Path, name: str) -> None:
    store = taken_over(tmp_path / "model")
    path = save(store, PassId("20240101", 1))
    (path / name).parent.mkdir(exist_ok=True)
    (path / name).write_text("somebody's")
    assert store.verify(store.list()[0]) is None


@pytest.mark.parametrize("change", [{"format": 2}, {"format": "1"}, {"format": None}])
def test_a_newer_format_is_not_damaged(tmp_path: Path, change: dict[str, object]) -> None:
    store = taken_over(tmp_path / "model")
    file = save(store, PassId("20240101", 1)) / "manifest.json"
    file.write_bytes(orjson.dumps({**orjson.loads(file.read_bytes()), **change}))
    problem = store.list()[0].problem
    assert problem is not None and problem.kind == "unknown"
    assert isinstance(problem.refusal(PassId("20240101", 1)), UnknownFormat)


def test_a_newer_key_is_ignored_and_a_flipped_one_is_not(tmp_path: Path) -> None:
    store = taken_over(tmp_path / "model")
    file = save(store, PassId("20240101", 1)) / "manifest.json"
    data = file.read_bytes()
    file.write_bytes(orjson.dumps({**orjson.loads(data), "gate_state": {"held": False}}))
    assert store.verify(store.list()[0]) is None
    file.write_bytes(data.replace(b'"shrinks"', b'"shrinkz"'))
    assert "shrinkz" in str(store.verify(store.list()[0]))


def test_what_cannot_be_read_is_not_damaged(tmp_path: Path, refused: Callable[[Path, int], None]) -> None:
    store = taken_over(tmp_path / "model")
    path = save(store, PassId("20240101", 1))
    refused(path / "manifest.json", errno.EIO)
    problem = store.verify(store.list()[0])
    assert problem is not None and problem.kind == "unreadable" and "Input/output error" in problem.text
    assert isinstance(problem.refusal(PassId("20240101", 1)), Unreadable)
    refused(path / "manifest.json", 0)
    refused(path / "embedding.shard" / "part-0.txt", errno.EACCES)
    problem = store.verify(store.list()[0])
    assert problem is not None and problem.kind == "unreadable" and "part-0.txt" in problem.text
    refused(path.parent, errno.EACCES)
    with pytest.raises(Unreadable, match="Permission denied"):
        store.list()
    refused(path.parent, 0)
    refused(path / "embedding.shard" / "part-0.txt", 0)
    assert store.verify(store.list()[0]) is None


def test_a_pass_trained_again_replaces_what_came_after(tmp_path: Path) -> None:
    store = taken_over(tmp_path)
    for number in (1, 2, 3):
        save(store, PassId("20240101", number))
    save(store, PassId("20240101", 2), "again")
    lines = [line.split("\t") for line in (tmp_path / "donefile.txt").read_text().splitlines()]
    assert [(x[0], x[3], x[4]) for x in lines] == [("20240101", "1", "0"), ("20240101", "2", "0")]
    assert (tmp_path / "20240101" / "2" / "embedding.shard" / "part-0.txt").read_text() == "again"
    assert store.verify(store.list()[1]) is None


def test_a_restart_leaves_the_line_of_its_checkpoint(tmp_path: Path) -> None:
    """Its time is when the checkpoint was made."""
    store = taken_over(tmp_path)
    store.append_donefile(PassId("20240101", 1), 100)
    store.append_donefile(PassId("20240101", 1), 200)
    [line] = (tmp_path / "donefile.txt").read_text().splitlines()
    assert line.split("\t")[1] == "100"
    (tmp_path / "donefile.txt").write_text("20240101\t100\t/old/20240101/1\t1\t0\n# by hand")  # the root was moved
    store.append_donefile(PassId("20240101", 1), 200)
    store.append_donefile(PassId("20240101", 2), 300)
    lines = (tmp_path / "donefile.txt").read_text().splitlines()
    assert lines[0] == "# by hand" and [x.split("\t")[1:3] for x in lines[1:]] == [
        ["200", str(tmp_path / "20240101" / "1")], ["300", str(tmp_path / "20240101" / "2")],
    ]  # fmt: skip


def test_manifest_and_witness_come_back(tmp_path: Path) -> None:
    pass_id = PassId("20240101", 1)
    store = taken_over(tmp_path)
    path = save(store, pass_id)
    data = (path / "manifest.json").read_bytes()
    assert Manifest.decode(data).encode() == data
    witness = Witness("20240101", 1, "d")
    assert Witness.decode(witness.encode()) == witness
    assert Witness.decode(None) is None and Witness.decode("") is None
    newer = {**orjson.loads(witness.encode()), "run": 7}
    assert Witness.decode(orjson.dumps(newer).decode()) == witness
    for text in ("somebody's", "7", "{}", orjson.dumps({**newer, "format": 2}).decode(), '{"day": 1', "\ud800"):
        with pytest.raises(UnknownFormatError):
            Witness.decode(text)
    with pytest.raises(UnknownFormatError, match="format is 99"):
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


def test_the_journal_keeps_the_keys_of_a_newer_version(tmp_path: Path) -> None:
    run = taken_over(tmp_path).run
    line = {"day": "20240101", "rows": 5, "predict_auc": 0.5, "train_auc": None, "seconds": 1.0, "read_seconds": 0.0,
            "predict_seconds": 0.5, "train_seconds": 0.5, "copc": [1, {"label": 2}]}  # fmt: skip
    file = tmp_path / "passes.jsonl"
    lines = [orjson.dumps({**line, "pass_id": number}) + b"\n" for number in (1, 2, 3)]
    file.write_bytes(lines[0] + b"damaged\n" + lines[1] + lines[2])
    journal = Journal(tmp_path)
    assert [r.pass_id for r in journal.read()] == [1, 2, 3]
    assert [r.pass_id for r in journal.after(PassId("20240101", 1))] == [2, 3] and journal.after(None)
    newest = journal.newest()
    assert newest is not None and newest.pass_id == 3
    before = journal.identity()
    journal.roll_back(PassId("20240101", 2), run)
    assert file.read_bytes() == lines[0] + b"damaged\n" + lines[1] and journal.identity() != before
    file.write_bytes(lines[0] + orjson.dumps({**line, "pass_id": 2, "format": 2}) + b"\n")
    with pytest.raises(UnknownFormat, match=r"passes\.jsonl, the line at byte"):
        journal.roll_back(PassId("20240101", 1), run)
    assert len(file.read_bytes().splitlines()) == 2


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
