"""What the recount says where the marker log is known: red for what is lost or trained twice, and for nothing else."""

import gzip
import json
import os
import shutil
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from streamtrain.errors import StreamtrainError
from streamtrain.locations import Location
from streamtrain.object_store import ObjectStore
from streamtrain.proof.days import NEVER, ShrinkRule
from streamtrain.proof.markers import Log
from streamtrain.proof.recount import Recount, recount
from streamtrain.proof.stored_logs import StoredLogs
from tests.support import plain_store  # noqa: F401  registers plain://
from tests.support.markers import Bridged

FIRST, SECOND, THIRD = "20240101/0000", "20240101/1200", "20240102/0000"
LINES = {
    FIRST: {"part-0": ["1:1 5:2 6:3", "0:1 5:2"], "part-1": ["1:1 7:2", "0:1 9:99"]},
    SECOND: {"part-0": ["0:1 5:2 8:3"]},
}


class Job:
    """A tree, its marker log, and the model that a right trainer makes of the bridged rows.

    times: whether the recount looks at files' times too, which copies of a store's objects do not have.
    """

    def __init__(self, folder: Path, *, times: bool = False) -> None:
        self.folder = folder
        self.times = times
        self.data = folder / "data"
        self.bridged = Bridged(self.data)
        self.trained: list[str] = []
        for split, its in LINES.items():
            for file, lines in its.items():
                self.write(split, file, lines)
            (self.data / split / "data.done").touch()
            self.bridge(split)
        self.pass_of = ("20240101", 2)
        self.position = self.bridged.position

    def write(self, split: str, file: str, lines: Sequence[str], mode: str = "w") -> Path:
        path = self.data / split / file
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open(mode) as out:
            out.write("".join(f"{line}\n" for line in lines))
        return path

    def bridge(self, split: str, *files: str, **more: Any) -> None:
        before = {s.path: s.bytes for e in self.bridged.entries if e.split == split for s in e.files}
        entry = self.bridged.add(split, *files, **more)
        for source in entry.files:
            data = (self.data / split / source.path).read_bytes()[before.get(source.path, 0) :]
            self.trained += [line.decode() for line in data.splitlines() if line.strip()]

    def save(self, lines: Sequence[str] | None = None, **manifest: Any) -> None:
        shows: Counter[int] = Counter()
        clicks: Counter[int] = Counter()
        trained = self.trained if lines is None else lines
        for line in trained:
            label, *pairs = (tuple(map(int, pair.split(":"))) for pair in line.split())
            keys = [key for key, slot in pairs if slot in (2, 3)]
            shows.update(keys)
            clicks.update(keys if label[0] else [])
        day, number = self.pass_of
        folder = self.folder / "model" / day / str(number)
        (folder / "embedding.shard").mkdir(parents=True, exist_ok=True)
        values = {"rows": len(self.trained), "marker_offset": self.position, "splits_topic_id": "the-topic", **manifest}
        (folder / "manifest.json").write_text(json.dumps(values))
        text = "".join(f"{key} 2 0 0 {show} {clicks[key]} 0.1 0.1\n" for key, show in shows.items())
        (folder / "embedding.shard" / "part-0.txt").write_text(text)

    def recount(self, *, changed: str = "append", log: Log | None = None, rule: ShrinkRule = NEVER) -> Recount:
        """Of the tree, and of the same on a store: they say the same."""
        of_folder = self._recount(self.data, changed, log, rule)
        copies = self.folder / "copies"
        copies.mkdir(exist_ok=True)
        found = self._recount(StoredLogs(self.store(), copies), changed, log, rule)
        text = json.dumps(found.to_json()).replace(f"{copies}/", f"{self.data}/")
        assert self.times or json.loads(text) == json.loads(json.dumps(of_folder.to_json()))
        assert len(list(copies.glob("*/*"))) <= 1
        return of_folder

    def _recount(self, data: Path | StoredLogs, changed: str, log: Log | None, rule: ShrinkRule) -> Recount:
        return recount(
            data, self.folder / "model", split_interval=720, split_per_pass=1, start_day="20240101",
            slots=(2, 3), donefile="data.done", changed_split=changed, end_day="20240103",
            log=self.bridged.log if log is None else log, rule=rule,
        )  # fmt: skip

    def store(self) -> Location:
        """Where a store has the tree as it is."""
        shutil.rmtree(self.folder / "bucket.store", ignore_errors=True)
        location = Location("runner.train_data_dir", f"plain://{self.folder}/bucket.store/tree")
        objects = ObjectStore(location)
        for path in self.data.rglob("*"):
            if path.is_file():
                objects.put_file(path.relative_to(self.data).as_posix(), path)
        return location


@pytest.fixture
def job(tmp_path: Path) -> Job:
    return Job(tmp_path)


NO_LOG = Log(None, "Kafka is away")


def silent(found: Recount) -> bool:
    """Nothing is called wrong."""
    wrong = ("lost", "duplicated", "missing_keys", "unknown_keys", "wrong_clicks", "lost_rows", "duplicated_rows")
    return not any(getattr(found, name) for name in wrong) and not found.reason and not found.uneven


def test_right(job: Job) -> None:
    job.save()
    found = job.recount()
    assert found.ok and silent(found) and not found.pending and not found.unknown
    assert (found.rows, found.rows_in_markers, found.rows_in_manifest, found.keys) == (5, 5, 5, 4)
    assert job.recount(log=NO_LOG).ok


# red


def test_a_row_skipped_by_the_trainer(job: Job) -> None:
    job.save(job.trained[1:], rows=4)
    found = job.recount()
    assert found.verdict == "differs" and found.lost == 2 and found.lost_rows == 1 and found.missing_keys == 1
    assert found.places == {"6": [f"{FIRST}/part-0: 1"], "5": [f"{FIRST}/part-0: 2", f"{SECOND}/part-0: 1"]}


def test_a_row_without_known_features_skipped(job: Job) -> None:
    job.save(rows=4)
    found = job.recount()
    assert found.verdict == "differs" and (found.lost, found.lost_rows, found.duplicated_rows) == (0, 1, 0)


def test_a_row_trained_twice(job: Job) -> None:
    job.save([*job.trained, job.trained[0]], rows=6)
    found = job.recount()
    assert found.verdict == "differs" and (found.duplicated, found.duplicated_rows, found.lost_rows) == (2, 1, 0)


def test_one_row_lost_and_another_one_trained_twice_in_another_pass(job: Job) -> None:
    job.save()
    journal = [{"day": "20240101", "pass_id": n, "rows": rows} for n, rows in ((1, 3), (2, 2))]
    (job.folder / "model" / "passes.jsonl").write_text("".join(json.dumps(j) + "\n" for j in journal) + '{"da')
    found = job.recount()
    assert found.verdict == "differs" and (found.lost_rows, found.duplicated_rows) == (1, 1)
    assert [(p.split, p.rows) for p in found.uneven] == [("pass 20240101/1", -1), ("pass 20240101/2", 1)]


def test_a_row_skipped_by_the_bridge(job: Job) -> None:
    entry = job.bridged.entries[0]
    files = (entry.files[0], entry.files[1].__class__("part-1", entry.files[1].bytes, 1, entry.files[1].sha256))
    job.bridged.change(0, rows=3, files=files)
    del job.trained[2]
    job.save()
    found = job.recount()
    assert found.verdict == "differs" and found.lost_rows == 1 and found.lost == 1 and found.missing_keys == 1
    assert (found.uneven[0].split, found.uneven[0].file, found.uneven[0].rows) == (FIRST, "part-1", -1)


def test_a_part_file_dropped_by_the_bridge(tmp_path: Path) -> None:
    job = Job(tmp_path, times=True)
    os.utime(job.data / FIRST / "data.done")  # the donefile is the youngest
    job.bridged.change(0, rows=2, files=job.bridged.entries[0].files[:1])
    del job.trained[2:4]
    job.save()
    found = job.recount(changed="fail")
    assert found.verdict == "differs" and found.lost_rows == 2
    assert (found.uneven[0].split, found.uneven[0].file) == (FIRST, "part-1")
    found = job.recount(changed="append")  # the bridge appends it at its next check
    assert found.ok and found.pending_rows == 2


def test_a_part_file_dropped_by_the_trainer(job: Job) -> None:
    job.save([*job.trained[:2], *job.trained[4:]], rows=3)
    found = job.recount()
    assert found.verdict == "differs" and found.lost_rows == 2 and found.missing_keys == 1


def test_a_file_counted_twice(job: Job) -> None:
    entry = job.bridged.entries[1]
    job.bridged.change(1, rows=2, files=entry.files * 2)
    job.trained.append(LINES[SECOND]["part-0"][0])
    job.save()
    found = job.recount()
    assert found.verdict == "differs" and found.duplicated_rows == 1 and found.duplicated == 2
    assert (found.uneven[0].split, found.uneven[0].file, found.uneven[0].rows) == (SECOND, "part-0", 1)


def test_a_marker_whose_rows_are_not_those_of_its_files(job: Job) -> None:
    job.bridged.change(1, rows=3)
    job.trained += job.trained[-1:] * 2
    job.save()
    found = job.recount()
    assert found.verdict == "differs" and found.duplicated_rows == 2 and found.duplicated == 4


# green: pending


def test_rows_that_no_marker_has_yet(job: Job) -> None:
    job.save()
    job.write(FIRST, "part-0", ["1:1 5:2", "bad", "0:1 77:2"], "a")
    job.write(SECOND, "part-9", ["1:1 88:2"])
    job.write(THIRD, "part-0", ["1:1 99:2"])
    job.write("20240104/0000", "part-0", ["1:1 99:2"])  # after end_day
    found = job.recount()
    assert found.ok and silent(found) and found.pending_rows == 3
    places = {(p.split, p.file): p.rows for p in found.pending}
    assert places == {(FIRST, "part-0"): 2, (SECOND, "part-9"): 1, (THIRD, ""): None}
    assert job.recount(log=NO_LOG).verdict == "not provable"


def test_rows_of_markers_after_the_checkpoint(job: Job) -> None:
    job.save()
    job.write(FIRST, "part-0", ["1:1 5:2"] * 8, "a")
    job.bridged.add(FIRST, "part-0")
    job.write(THIRD, "part-0", ["1:1 99:2"])
    job.bridged.add(THIRD)
    found = job.recount()
    assert found.ok and silent(found) and found.pending_rows == 9
    assert [(p.split, p.rows) for p in found.pending] == [(FIRST, 8), (THIRD, 1)]


def test_a_revision_that_is_in_the_checkpoint(job: Job) -> None:
    """Its rows belong to the pass that its marker precedes: with decay that matters."""
    job.write(FIRST, "part-0", ["1:1 5:2"] * 8, "a")
    job.bridge(FIRST, "part-0")
    job.write(THIRD, "part-0", ["1:1 99:2"])
    job.bridge(THIRD)
    job.pass_of, job.position = ("20240102", 1), job.bridged.position
    job.save(late_rows=8, shrinks=1)
    assert job.recount().ok
    rule = ShrinkRule(show_click_decay_rate=0.5, delete_threshold=0.0)
    shard = job.folder / "model/20240102/1/embedding.shard/part-0.txt"
    shard.write_text("5 2 0 0 9.5 8.5 1\n6 2 0 0 0.5 0.5 1\n7 2 0 0 0.5 0.5 1\n8 2 0 0 0.5 0 1\n99 2 0 0 1 1 1\n")
    assert job.recount(rule=rule).ok
    assert job.recount(rule=rule, log=NO_LOG).verdict == "not provable"
    shard.write_text(shard.read_text().replace(" 9.5 8.5 ", " 5.5 4.5 "))  # as if they had come on the day before
    assert job.recount(rule=rule).verdict == "differs"


def test_half_a_line(job: Job) -> None:
    job.save()
    path = job.data / SECOND / "part-0"
    path.write_text(path.read_text() + "0:1 200")
    found = job.recount()
    assert found.ok and found.pending_rows == 0 and "no line end" in found.pending[0].why
    path.write_text(path.read_text() + "1:2\n")
    found = job.recount()
    assert found.ok and found.pending_rows == 1


def test_half_a_line_that_an_older_bridge_took_for_a_row(tmp_path: Path) -> None:
    job = Job(tmp_path)
    path = job.data / THIRD / "part-0"
    path.parent.mkdir(parents=True)
    path.write_text("1:1 5:2\n0:1 200:2")
    job.bridge(THIRD)
    job.pass_of, job.position = ("20240102", 1), job.bridged.position
    job.save()
    found = job.recount()
    assert found.ok and found.rows == 7 and not found.pending


def test_a_late_file_that_is_ignored(job: Job) -> None:
    job.save()
    job.write(FIRST, "part-5", ["1:1 5:2"])
    found = job.recount(changed="ignore")
    assert found.ok and found.pending_rows == 1 and "ignore leaves it out" in found.pending[0].why


# not provable: files are gone


def test_old_logs_were_deleted(job: Job) -> None:
    job.save()
    for path in (job.data / FIRST).iterdir():
        path.unlink()
    (job.data / FIRST).rmdir()
    found = job.recount()
    assert found.verdict == "not provable" and silent(found)
    assert found.not_recountable_rows == 4 and found.not_recountable_files == 2 and found.not_recountable_keys == 3
    assert [(p.split, p.file, p.rows) for p in found.not_recountable] == [(FIRST, "part-0", 2), (FIRST, "part-1", 2)]
    assert "is missing" in found.not_recountable[0].why and "SHA-256" in found.not_recountable[0].why
    without = job.recount(log=NO_LOG)
    assert without.verdict == "not provable" and silent(without)


@pytest.mark.parametrize("text", ["1:1 5:2 6:3\n0:1 6:2\n", "1:1 5:2\n", ""])
def test_a_file_was_changed(job: Job, text: str) -> None:
    job.save()
    (job.data / FIRST / "part-0").write_text(text)
    found = job.recount()
    assert found.verdict == "not provable" and silent(found) and found.not_recountable_files == 1
    assert found.not_recountable[0].file == "part-0"


def test_what_is_lost_from_the_files_that_are_there_is_still_seen(job: Job) -> None:
    job.save([*job.trained[:2], *job.trained[4:]])
    (job.data / SECOND / "part-0").unlink()
    found = job.recount()
    assert found.verdict == "differs" and (found.lost, found.missing_keys, found.duplicated) == (1, 1, 0)
    job.save(rows=3)
    found = job.recount()
    assert found.verdict == "differs" and found.lost_rows == 2 and found.lost == 0


@pytest.mark.parametrize("packed", [False, True])
def test_a_file_was_renamed_or_compressed(job: Job, packed: bool) -> None:
    job.save()
    path = job.data / FIRST / "part-0"
    data = path.read_bytes()
    path.unlink()
    (path.parent / "part-0.old").write_bytes(gzip.compress(data) if packed else data)
    found = job.recount()
    assert found.ok and not found.pending and not found.not_recountable


def test_a_file_was_copied_or_renamed_and_grew(job: Job) -> None:
    """The rows that it had are in Kafka; those that it has more are pending, then of its marker."""
    job.save()
    folder = job.data / FIRST
    (folder / "copy").write_bytes((folder / "part-1").read_bytes())
    (folder / "part-0").rename(folder / "part-7")
    job.write(FIRST, "part-7", ["1:1 5:2"], "a")
    found = job.recount()
    assert found.ok and [(p.file, p.rows) for p in found.pending] == [("part-7", 1)]
    job.bridged.add(FIRST, "part-7", rows={"part-7": 1})
    job.write(THIRD, "part-0", [])
    job.bridge(THIRD)
    job.trained.append("1:1 5:2")
    job.pass_of, job.position = ("20240102", 1), job.bridged.position
    job.save()
    found = job.recount()
    assert found.ok and found.rows == 6 and not found.pending


def test_half_a_gzip_file_that_is_late(job: Job) -> None:
    job.save()
    (job.data / FIRST / "part-8").write_bytes(gzip.compress(b"1:1 5:2\n" * 99)[:-9])
    found = job.recount()
    assert found.ok and "cannot be unpacked" in found.pending[0].why


def test_logs_that_do_not_fit_the_checkpoint(job: Job) -> None:
    job.save()
    entries = tuple(job.bridged.entries)
    for log, why in (
        (Log(entries, topic_id="another"), "the checkpoint was made from the one of the-topic"),
        (Log(entries[:1], topic_id="the-topic"), "ends at 20240101/1, the checkpoint is of 20240101/2"),
        (Log((), topic_id="the-topic"), "ends at no pass"),
        (Log(entries[1:], topic_id="the-topic"), "not where the config's schedule has it"),
        (NO_LOG, "Kafka is away"),
    ):
        found = job.recount(log=log)
        assert found.ok and why in found.marker_log
        (job.data / FIRST / "part-1").rename(job.folder / "aside")
        found = job.recount(log=log)
        assert found.verdict == "not provable" and silent(found) and why in found.unknown[0]
        (job.folder / "aside").rename(job.data / FIRST / "part-1")


# rows that are too large for Kafka


def large(job: Job, sizes: Sequence[int], refused: int, rows: int) -> Recount:
    lines = [" ".join(["1:1", *(f"{k}:2" for k in range(1000, 1000 + size))]) for size in sizes]
    job.write(THIRD, "part-0", ["0:1 5:2", *lines])
    entry = job.bridged.add(THIRD, rejected=refused, rows={"part-0": rows})
    assert entry.rows == rows
    job.trained += ["0:1 5:2", *lines[refused:]]
    job.pass_of, job.position = ("20240102", 1), job.bridged.position
    job.save()
    return job.recount()


def test_a_row_that_was_too_large(job: Job) -> None:
    found = large(job, [2000, 1500], refused=1, rows=2)
    assert found.ok and found.rows == 7 and found.rejected == 1


def test_it_is_not_known_which_one_was_too_large(job: Job) -> None:
    found = large(job, [2000, 2000], refused=1, rows=2)
    assert found.verdict == "not provable" and silent(found) and "too large for Kafka" in found.unknown[0]


def test_a_lost_row_is_not_taken_for_one_that_was_too_large(job: Job) -> None:
    found = large(job, [20, 10], refused=1, rows=2)
    assert found.verdict == "differs" and found.lost_rows == 1


# errors


def test_a_checkpoint_of_a_newer_version(job: Job) -> None:
    job.save(format=2)
    with pytest.raises(StreamtrainError, match="format 2") as caught:
        job.recount()
    assert caught.value.exit_code == 15
