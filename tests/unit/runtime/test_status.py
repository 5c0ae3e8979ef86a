"""What status finds on the disk: the same as all lines together say, from the newest ones alone."""

from __future__ import annotations

import re
import socket
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from streamtrain.checkpoint import journal as journals
from streamtrain.checkpoint.journal import Journal, PassRecord
from streamtrain.cli.status import summary
from streamtrain.config import JobConfig
from streamtrain.contracts.donefiles import DoneLine
from streamtrain.contracts.manifest import Manifest
from streamtrain.errors import CheckpointError
from streamtrain.kafka.marker_history import MarkerHistory, file_of, key_of
from streamtrain.runtime.part_state import PartState
from streamtrain.runtime.status import Trained, status_on_disk, was_started
from tests.support.cli import run_here
from tests.support.jobs import write_config
from tests.unit.kafka.test_marker_history import Topic

REASON = "the embedded Kafka is not running"


def config_in(folder: Path) -> JobConfig:
    return write_config(folder, "job", {}, runner={"split_interval": 360, "end_day": "20240110"})


def record(config: JobConfig, number: int, rows: int, *, trained: bool = True) -> PassRecord:
    pass_id = config.schedule.pass_at(number)
    return PassRecord(
        pass_id.day, pass_id.pass_id, rows, 0.5 + number / 1000, None, 1.0, 0.1, 0.4, 0.5, trained=trained
    )


def write_journal(config: JobConfig, records: list[PassRecord]) -> None:
    lines = [orjson.dumps(asdict(r)) + b"\n" for r in records]
    (config.model_save_path / "passes.jsonl").write_bytes(b"".join(lines))


def write_checkpoint(config: JobConfig, records: list[PassRecord]) -> None:
    """Of the last of the records."""
    last = records[-1]
    folder = config.model_save_path / last.day / str(last.pass_id)
    folder.mkdir(parents=True)
    untrained = tuple(str(r.id) for r in records if not r.trained)
    manifest = Manifest(
        "job", last.day, last.pass_id, len(records), {}, "a", "b", "c", 2, sum(r.rows for r in records if r.trained), 3,
        asdict(last), "", "", "2024-01-01T00:00:00+00:00", (), untrained=untrained,
    )  # fmt: skip
    (folder / "manifest.json").write_bytes(manifest.encode())


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    passes=st.lists(st.tuples(st.integers(0, 50), st.booleans()), max_size=12),
    saved=st.sets(st.integers(0, 11)), unrecorded=st.booleans(),
)  # fmt: skip
def test_passes_and_rows_are_those_of_all_lines(
    tmp_path_factory: pytest.TempPathFactory, passes: list[tuple[int, bool]], saved: set[int], unrecorded: bool
) -> None:
    """unrecorded: a crash came between the newest checkpoint's rename and its line."""
    config = config_in(tmp_path_factory.mktemp("job"))
    config.model_save_path.mkdir()
    records = [record(config, n, rows, trained=trained) for n, (rows, trained) in enumerate(passes)]
    for number in sorted(saved):
        if number < len(records):
            write_checkpoint(config, records[: number + 1])
    lost = unrecorded and len(records) - 1 in saved and records[-1].trained
    write_journal(config, records[:-1] if lost else records)
    last = records[-1] if records else None
    assert status_on_disk(config, REASON).trained == Trained(
        pass_id=str(last.id) if last else None, passes=len(records), rows=sum(r.rows for r in records), of_passes=40,
        predict_auc=last.predict_auc if last else None, train_auc=None,
    )  # fmt: skip


def test_only_the_lines_after_the_newest_checkpoint_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = config_in(tmp_path)
    config.model_save_path.mkdir()
    records = [record(config, n, 5, trained=n != 3) for n in range(30)]
    write_checkpoint(config, records[:28])
    write_journal(config, records)
    read: list[bytes] = []
    real = journals.decode
    monkeypatch.setattr(journals, "decode", lambda line: read.append(line) or real(line))
    assert status_on_disk(config, REASON).trained.rows == 150
    assert len(read) <= 5  # two new ones, the one before them, the one that was not trained, the newest


def test_nothing_was_started(tmp_path: Path) -> None:
    config = config_in(tmp_path)
    done = run_here("status", "-m", str(config.path))
    assert done.returncode == 0 and "job job: nothing was started yet" in done.stdout and not done.stderr
    assert "deleted" not in done.stdout
    done = run_here("status", "-m", str(config.path), "--json")
    found = orjson.loads(done.stdout)
    assert done.returncode == 0 and found["started"] is False and found["bridged"] is None
    assert "is not running" in found["without_kafka"] and "nothing was started yet" in found["summary"]


@pytest.mark.parametrize("trace", ["checkpoint", "journal", "model", "history"])
def test_what_says_that_a_job_was_started(tmp_path: Path, trace: str) -> None:
    config = config_in(tmp_path)
    assert not was_started(config)
    config.model_save_path.mkdir()
    if trace == "checkpoint":
        (config.model_save_path / "20240101" / "1").mkdir(parents=True)
    elif trace == "journal":
        write_journal(config, [record(config, 0, 5)])
    elif trace == "model":
        line = DoneLine(path="20240101/inference_model_0", digest="d", day="20240101", pass_id=0, kind="full")
        (config.model_save_path / "base_donefile.txt").write_bytes(line.encode())
    else:
        topic = Topic()
        history = MarkerHistory(file_of(config.state_dir, "job"), key_of("one", config.schedule))
        history.append(topic.add(0, rows=7))
        history.close()
        found = status_on_disk(config, REASON)
        assert found.bridged is not None and (found.bridged.split, found.bridged.rows) == ("20240101/0000", 7)
        assert found.lag is not None and found.lag.splits == 1
    assert was_started(config)
    assert status_on_disk(config, REASON).started


def test_the_newest_model_is_read_and_a_damaged_line_named(tmp_path: Path) -> None:
    config = config_in(tmp_path)
    config.model_save_path.mkdir()
    for name, kind, numbers in (("base", "full", (1, 4)), ("patch", "incremental", (2, 3))):
        lines = [
            DoneLine(
                path=f"20240101/inference_model_{n}", digest="d", published=n, day="20240101", pass_id=n,
                kind=kind,  # type: ignore[arg-type]
            )
            for n in numbers
        ]  # fmt: skip
        (config.model_save_path / f"{name}_donefile.txt").write_bytes(b"".join(line.encode() for line in lines))
    model = status_on_disk(config, REASON).inference_model
    assert model is not None and model["pass_id"] == 4
    with (config.model_save_path / "patch_donefile.txt").open("ab") as file:
        file.write(b"{}\n")
    with pytest.raises(CheckpointError, match=r"patch_donefile.txt cannot be read: line 3"):
        status_on_disk(config, REASON)


@pytest.mark.parametrize(
    ("doing", "alive", "words"),
    [
        ("done", False, "ended; run: done"),
        ("stopped by a signal", False, "ended; run: stopped by a signal"),
        ("failed with exit code 3: a line", False, "ended; run: failed with exit code 3: a line"),
        ("running", False, "ended without a word, killed perhaps; run was last: running"),
        ("running", True, "running"),
        ("running", None, "it runs on another machine, or has ended there"),
    ],
)
def test_how_a_job_is_in_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, doing: str, alive: object, words: str
) -> None:
    config = config_in(tmp_path)
    config.model_save_path.mkdir()
    monkeypatch.setattr(PartState, "alive", alive)
    parts = [PartState("trainer", "training", 1.0, "host", 1), PartState("run", doing, 2.0, "host", 2)]
    text = summary(status_on_disk(config, REASON), parts)
    assert text == f"job job: nothing was bridged or trained yet; {words}. What follows is what is on disk: {REASON}."
    write_journal(config, [record(config, 0, 5)])
    assert summary(status_on_disk(config, REASON), parts).startswith(f"job job: {words}. What follows")
    write_checkpoint(config, [record(config, n, 5) for n in range(40)])
    last = "done: all 40 passes are trained" if "failed" not in words else words
    assert summary(status_on_disk(config, REASON), parts).startswith(f"job job: {last}.")


def test_rows_of_passes_that_were_not_trained(tmp_path: Path) -> None:
    config = config_in(tmp_path)
    config.model_save_path.mkdir()
    records = [record(config, n, n, trained=n % 3 > 0) for n in range(9)]
    write_journal(config, records)
    with (config.model_save_path / "passes.jsonl").open("ab") as file:
        file.write(b'{"trained":false, cut')
    assert Journal(config.model_save_path).rows_of([r.id for r in records if not r.trained]) == 0 + 3 + 6
    assert Journal(config.model_save_path).rows_of([config.schedule.pass_at(20)]) == 0


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda data: data.replace(b'"format": 1', b'"format": 2'), "is unknown: .*its format is 2"),
        (lambda data: data[:-9], "is damaged: "),
    ],
)
def test_a_newest_checkpoint_that_cannot_be_taken_is_told(
    tmp_path: Path, change: Callable[[bytes], bytes], problem: str
) -> None:
    config = config_in(tmp_path)
    records = [record(config, number, 5) for number in range(2)]
    for number in (1, 2):
        write_checkpoint(config, records[:number])
    assert status_on_disk(config, REASON).checkpoint_problem is None
    file = config.model_save_path / records[1].day / str(records[1].pass_id) / "manifest.json"
    file.write_bytes(change(file.read_bytes()))
    found = status_on_disk(config, REASON)
    assert found.checkpoint is not None and found.checkpoint.pass_id == str(records[0].id)
    assert re.match(f"checkpoint {records[1].id} {problem}", found.checkpoint_problem or "")
    assert str(file) in run_here("status", "-m", str(config.path), "--json").stdout


def test_a_failure_after_the_last_pass_is_the_word(tmp_path: Path) -> None:
    config = write_config(tmp_path, "job", {}, runner={"split_interval": 360, "end_day": "20240101"})
    write_checkpoint(config, [record(config, number, 5) for number in range(4)])
    status = status_on_disk(config, REASON)
    ended = PartState("bridge", "done", 100.0, socket.gethostname(), 2**22)
    assert "done: all 4 passes are trained" in summary(status, [ended])
    failed = replace(ended, part="run", doing="failed with exit code 13: it is gone", since=200.0)
    assert "ended; run: failed with exit code 13: it is gone" in summary(status, [ended, failed])
    assert "done: all 4 passes are trained" in summary(status, [replace(failed, since=50.0), ended])
    moved = replace(status, trained=replace(status.trained, passes=6))
    assert "done: all 4 passes are trained, and 2 after end_day" in summary(moved, [ended])
