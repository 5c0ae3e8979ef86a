"""The cache of the marker log: whatever becomes of its file, the answers are those of the whole log."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from streamtrain.connectors import ledger as ledgers
from streamtrain.connectors.ledger import Ledger
from streamtrain.contracts.marker import Marker, SourceFile
from streamtrain.errors import DataError, RetentionPassed
from streamtrain.kafka import marker_history
from streamtrain.kafka.marker_history import HistoryBroken, MarkerHistory, Totals, key_of, read_on
from streamtrain.kafka.marker_log import LogEntry
from streamtrain.schedule import Schedule
from tests.support.ledgers import replayed

SCHEDULE = Schedule(360, 1, "20240101", "20240131")


class Topic:
    """A marker log made of a list. reads: offsets of the entries that were read from it. held: the offset from which on
    an open transaction holds readers back."""

    def __init__(self, topic_id: str = "one") -> None:
        self.topic_id = topic_id
        self.entries: list[LogEntry] = []
        self.first = 0
        self.held: int | None = None
        self.reads: list[int] = []

    @property
    def key(self) -> str:
        return key_of(self.topic_id, SCHEDULE)

    def add(self, sequence: int, revision: int = 0, rows: int = 5, rejected: int = 1) -> LogEntry:
        split = SCHEDULE.split(sequence)
        files = (SourceFile(f"part-{revision}", rows, rows, "0" * 64),)
        marker = Marker(
            split.day, split.time, sequence, revision, "data", self.topic_id, (), rows, rejected, files, ""
        )  # fmt: skip
        offset = self.entries[-1].offset + 2 if self.entries else 0
        self.entries.append(LogEntry(offset, marker, 100.5 + offset))
        return self.entries[-1]


class Reader:
    """MarkerLog's part that read_on uses."""

    topic: Topic

    def __init__(self, _properties: Any, _topic: str, _group: str, offset: int = 0) -> None:
        self._offset = offset

    def __enter__(self) -> Reader:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def offsets(self, _on_idle: Callable[[], None] = lambda: None) -> tuple[int, int]:
        end = self.topic.entries[-1].offset + 2 if self.topic.entries else 0
        return self.topic.first, end if self.topic.held is None else self.topic.held

    def to_end(self, _on_idle: Callable[[], None]) -> Iterator[LogEntry]:
        first, end = self.offsets()
        if not first <= self._offset <= end:
            raise RetentionPassed("the offset is not there")
        for entry in self.topic.entries:
            if self._offset <= entry.offset < end:
                self.topic.reads.append(entry.offset)
                yield entry


@pytest.fixture(autouse=True)
def topic(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Topic], None]]:
    def use(one: Topic) -> None:
        monkeypatch.setattr(Reader, "topic", one, raising=False)

    monkeypatch.setattr(marker_history, "MarkerLog", Reader)
    yield use


def follow(history: MarkerHistory) -> Ledger:
    """As the bridge does it."""
    with read_on(history, {}, "splits", "group") as entries:
        ledger = Ledger(SCHEDULE, history)
        for entry in entries:
            ledger.add(entry.marker, entry.timestamp)
            history.append(entry)
    history.commit()
    return ledger


def state_of(ledger: Ledger) -> list[object]:
    splits = [ledger.splits[sequence] for sequence in range(ledger.next_sequence)]
    return [ledger.next_sequence, len(ledger), *((s.revision, s.files, s.timestamp, s.history) for s in splits)]


def totals_of(entries: list[LogEntry]) -> Totals:
    totals = Totals()
    for entry in entries:
        totals = totals.plus(entry.marker)
    return totals


def start(path: Path, one: Topic, *, read_only: bool = False) -> tuple[list[object], Totals]:
    """One start of a bridge: its ledger's state, the totals."""
    with contextlib.closing(MarkerHistory(path, one.key, read_only=read_only)) as history:
        return state_of(follow(history)), history.totals


def check(path: Path, one: Topic) -> None:
    """What a start finds with the file is what it finds in the whole log."""
    assert start(path, one) == (state_of(replayed(SCHEDULE, one.entries)), totals_of(one.entries))


steps = st.lists(
    st.sampled_from(["split", "revision", "start", "recreate", "truncate", "cut", "overwrite", "lose", "other job"]),
    max_size=25,
)


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=steps, data=st.data())
def test_a_start_with_the_file_knows_what_the_whole_log_says(
    steps: list[str], data: st.DataObject, topic: Callable[[Topic], None], tmp_path: Path
) -> None:
    path = tmp_path / "markers"
    path.unlink(missing_ok=True)
    one = Topic()
    number = 1
    for step in [*steps, "start"]:
        splits = sum(e.marker.revision == 0 for e in one.entries)
        if step == "split":
            one.add(splits, rows=data.draw(st.integers(0, 9)))
        elif step == "revision" and splits:
            sequence = data.draw(st.integers(0, splits - 1))
            one.add(sequence, sum(e.marker.sequence == sequence for e in one.entries))
        elif step == "recreate":  # with as many markers, or fewer
            number += 1
            again, one = one, Topic(f"number {number}")
            for entry in again.entries[: data.draw(st.integers(0, len(again.entries)))]:
                one.add(entry.marker.sequence, entry.marker.revision, rows=3)
        elif step == "truncate":  # the same topic, its end lost: an unclean election of a leader
            del one.entries[data.draw(st.integers(0, len(one.entries))) :]
        elif step == "cut" and path.exists():
            path.write_bytes(path.read_bytes()[: data.draw(st.integers(0, path.stat().st_size))])
        elif step == "overwrite" and path.exists():
            content = bytearray(path.read_bytes())
            at = data.draw(st.integers(0, max(0, len(content) - 1)))
            content[at : at + 1] = b"\x00" if content[at : at + 1] != b"\x00" else b"\xff"
            path.write_bytes(content)
        elif step == "lose":
            path.unlink(missing_ok=True)
        elif step == "other job":
            other = Topic("of another job")
            other.add(0, rows=77)
            topic(other)
            start(path, other)
        elif step == "start":
            topic(one)
            with contextlib.suppress(HistoryBroken):  # then the bridge throws the file away and starts again
                check(path, one)
                continue
            MarkerHistory(path, one.key).discard()
            check(path, one)


def test_a_start_reads_the_newest_marker_and_what_came_after_it(topic: Callable[[Topic], None], tmp_path: Path) -> None:
    one = Topic()
    topic(one)
    for sequence in range(100):
        one.add(sequence)
    check(tmp_path / "markers", one)
    assert len(one.reads) == 100
    for new in (0, 3):
        for sequence in range(100, 100 + new):
            one.add(sequence)
        one.reads.clear()
        check(tmp_path / "markers", one)
        assert len(one.reads) == 1 + new


def test_what_the_bridge_appends_needs_not_be_read(topic: Callable[[Topic], None], tmp_path: Path) -> None:
    one = Topic()
    topic(one)
    with contextlib.closing(MarkerHistory(tmp_path / "markers", one.key)) as history:
        ledger = follow(history)
        for sequence in range(10):
            entry = one.add(sequence)
            ledger.add(entry.marker, entry.timestamp)
            history.append(entry)
    one.reads.clear()
    check(tmp_path / "markers", one)
    assert len(one.reads) == 1


def test_the_ledger_keeps_few_splits_in_memory(
    topic: Callable[[Topic], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledgers, "KEPT", 3)
    one = Topic()
    topic(one)
    for sequence in range(20):
        one.add(sequence)
    with contextlib.closing(MarkerHistory(tmp_path / "markers", one.key)) as history:
        ledger = follow(history)
        ledger.splits[4].looked["part-0"] = (1, 2.0)
        entry = one.add(4, 1)
        ledger.add(entry.marker, entry.timestamp)
        history.append(entry)
        found = [ledger.splits[sequence].revision for sequence in range(20)]
        assert found == [int(sequence == 4) for sequence in range(20)]
        assert len(ledger.splits) == 3
        assert ledger.splits[4].looked == {"part-0": (1, 2.0)}  # what was found out by reading files is not lost
        with pytest.raises(KeyError):
            ledger.splits[20]


def test_markers_out_of_order_are_refused_at_each_start(topic: Callable[[Topic], None], tmp_path: Path) -> None:
    one = Topic()
    topic(one)
    one.add(0)
    one.add(2)
    for _ in range(2):
        with pytest.raises(DataError, match="out of order"):
            start(tmp_path / "markers", one)


def test_a_log_that_lost_its_beginning_is_refused_as_without_the_file(
    topic: Callable[[Topic], None], tmp_path: Path
) -> None:
    one = Topic()
    topic(one)
    for sequence in range(4):
        one.add(sequence)
    check(tmp_path / "markers", one)
    one.first = one.entries[2].offset
    with pytest.raises(RetentionPassed):
        start(tmp_path / "markers", one)


def test_another_marker_at_the_same_offset(topic: Callable[[Topic], None], tmp_path: Path) -> None:
    one = Topic()
    topic(one)
    one.add(0)
    check(tmp_path / "markers", one)
    entry = one.entries[0]
    one.entries[0] = replace(entry, marker=replace(entry.marker, rows=8))
    check(tmp_path / "markers", one)


def test_another_schedule_reads_anew(topic: Callable[[Topic], None], tmp_path: Path) -> None:
    """Else a changed start_day would go unseen."""
    one = Topic()
    topic(one)
    one.add(0)
    check(tmp_path / "markers", one)
    other = key_of(one.topic_id, replace(SCHEDULE, start_day="20240102"))
    assert MarkerHistory(tmp_path / "markers", other).totals == Totals()


def test_a_folder_that_cannot_be_written(topic: Callable[[Topic], None], tmp_path: Path) -> None:
    one = Topic()
    topic(one)
    one.add(0)
    (tmp_path / "file").touch()
    for _ in range(2):
        check(tmp_path / "file" / "markers", one)
    assert one.reads == [0, 0]


def test_status_keeps_the_totals_and_leaves_the_bridge_s_file_alone(
    topic: Callable[[Topic], None], tmp_path: Path
) -> None:
    one = Topic()
    topic(one)
    for sequence in range(5):
        one.add(sequence)
    check(tmp_path / "markers", one)
    before = (tmp_path / "markers").read_bytes()
    entry = one.add(5)
    with contextlib.closing(MarkerHistory(tmp_path / "markers", one.key, read_only=True)) as history:
        history.keep_newest(entry, totals_of(one.entries))
    assert (tmp_path / "markers").read_bytes() == before
    with contextlib.closing(MarkerHistory(tmp_path / "own", one.key)) as history:
        history.keep_newest(entry, totals_of(one.entries))
    with contextlib.closing(MarkerHistory(tmp_path / "own", one.key)) as history:
        assert history.totals == totals_of(one.entries) and history.last == entry


def test_another_process_writes_to_the_file(topic: Callable[[Topic], None], tmp_path: Path) -> None:
    one = Topic()
    topic(one)
    history = MarkerHistory(tmp_path / "markers", one.key)
    other = sqlite3.connect(tmp_path / "markers", isolation_level=None)
    other.execute("begin exclusive")
    with pytest.raises(HistoryBroken, match="locked"):
        history.append(one.add(0))
    other.close()
    history.discard(in_memory=True)
    assert state_of(follow(history)) == state_of(replayed(SCHEDULE, one.entries))
    history.close()


def test_a_file_that_lost_a_row(topic: Callable[[Topic], None], tmp_path: Path) -> None:
    one = Topic()
    topic(one)
    one.add(0)
    one.add(1)
    check(tmp_path / "markers", one)
    with sqlite3.connect(tmp_path / "markers") as database:
        database.execute("delete from markers where sequence = 0")
    with pytest.raises(HistoryBroken, match="missing"):
        start(tmp_path / "markers", one)


def test_what_cannot_be_read_now_is_not_known(tmp_path: Path, topic: Callable[[Topic], None]) -> None:
    """Kafka says nothing to a reader behind the offset that an open transaction holds readers back from."""
    one = Topic()
    topic(one)
    for number in range(5):
        one.add(number)
    path = tmp_path / "history"
    for held, known in ((None, 5), (4, 2), (None, 5)):
        one.held = held
        with contextlib.closing(MarkerHistory(path, one.key)) as history:
            assert len(follow(history)) == known


@pytest.mark.parametrize("value", ["text", None, 7])
def test_a_marker_of_another_type_is_damage(value: object, topic: Callable[[Topic], None], tmp_path: Path) -> None:
    one = Topic()
    topic(one)
    one.add(0)
    path = tmp_path / "history"
    with contextlib.closing(MarkerHistory(path, one.key)) as history:
        follow(history)
    with contextlib.closing(sqlite3.connect(path)) as database, database:
        database.execute("update markers set marker = ?", (value,))
    with contextlib.closing(MarkerHistory(path, one.key)) as history:
        assert history.last is None and len(follow(history)) == 1
