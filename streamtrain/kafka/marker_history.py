"""What was read of the marker log so far, kept on this disk, so that a start reads what is new alone.

A cache: the marker log is the truth. A history of another topic, schedule or format, one that is damaged, or one that
the log does not confirm is thrown away, and the log is read from its beginning. Nothing is lost with the file.
"""

from __future__ import annotations

import contextlib
import hashlib
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import orjson

from streamtrain.contracts.marker import SCHEMA, Marker, Range, SourceFile
from streamtrain.errors import RetentionPassed
from streamtrain.kafka.marker_log import LogEntry, MarkerLog
from streamtrain.schedule import Schedule

#: Of the file; another number: it is read anew.
FORMAT: Final = 1
#: Seconds for which new entries may wait for those after them: a transaction each costs more than the split.
COMMIT_S = 2.0

_TABLES = """
create table if not exists key (text text not null);
create table if not exists markers (
    number integer primary key, offset integer, timestamp real, sequence integer, revision integer,
    splits integer, rows integer, rejected integer, newest text, marker blob, digest blob);
create index if not exists by_sequence on markers (sequence, revision);
"""
_COLUMNS = "number, offset, timestamp, sequence, revision, splits, rows, rejected, newest, marker, digest"

_INSERT = f"insert into markers ({_COLUMNS}) values ({', '.join('?' * 11)})"


class HistoryBroken(Exception):
    """The file is damaged: it is to be thrown away with discard(), and the log read from its beginning."""


@dataclass(frozen=True)
class Totals:
    """Of the marker log up to a marker.

    markers: revisions too. splits: without them. rows, rejected: lines, of all markers. newest: the newest split,
    day/HHMM, '' before the first one.
    """

    markers: int = 0
    splits: int = 0
    rows: int = 0
    rejected: int = 0
    newest: str = ""

    def plus(self, marker: Marker) -> Totals:
        new = marker.revision == 0
        return Totals(
            self.markers + 1,
            self.splits + new,
            self.rows + marker.rows,
            self.rejected + marker.rejected,
            f"{marker.day}/{marker.time}" if new else self.newest,
        )


def key_of(topic_id: str, schedule: Schedule) -> str:
    """What a history is of. topic_id: the marker log's, another one once the topic is made anew."""
    return orjson.dumps(
        {
            "format": FORMAT, "topic_id": topic_id, "marker": SCHEMA.text,
            "schedule": [schedule.start_day, schedule.split_interval],
        }
    ).decode()  # fmt: skip


def file_of(state_dir: Path, job: str, keeper: str = "bridge") -> Path:
    """Where a job's history is. keeper: bridge, or status, which keeps the totals alone where no bridge runs."""
    return state_dir / f"{job}.{keeper}.markers"


class MarkerHistory:
    """The markers of one log, in their order. totals: of all of them; last: the newest one, None when there is none.

    Nothing of the disk is ever reported: without a file that can be used, the history is in memory.
    """

    def __init__(self, path: Path | None, key: str, *, read_only: bool = False) -> None:
        """path: the file, made if need be; None: in memory. read_only: of a file that another process keeps."""
        self._path = path
        self._key = key
        self._read_only = read_only
        self._committed = 0.0
        self.totals = Totals()
        self.last: LogEntry | None = None
        self._database = self._open()

    def _open(self) -> sqlite3.Connection:
        try:
            return self._load()
        except (sqlite3.Error, OSError, HistoryBroken, ValueError):
            if not self._read_only:
                self._remove()
        try:
            return self._load()
        except (sqlite3.Error, OSError, HistoryBroken, ValueError):
            self._path = None
            return self._load()

    def _load(self) -> sqlite3.Connection:
        """Raises sqlite3.Error, OSError, HistoryBroken, ValueError."""
        if self._path is None:
            database = sqlite3.connect(":memory:", check_same_thread=False)
        elif self._read_only:
            database = sqlite3.connect(
                f"{self._path.absolute().as_uri()}?mode=ro", uri=True, timeout=1, check_same_thread=False
            )
        else:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            database = sqlite3.connect(self._path, timeout=1, check_same_thread=False)
        try:
            if not self._read_only or self._path is None:
                database.executescript(_TABLES)
            self._check_key(database)
            row = database.execute(f"select {_COLUMNS} from markers order by number desc limit 1").fetchone()
            self.totals, self.last = Totals(), None
            if row is not None:
                self.last = self._entry(row)
                self.totals = Totals(row[0], *row[5:9])
        except BaseException:
            database.close()
            raise
        return database

    def _check_key(self, database: sqlite3.Connection) -> None:
        keys = [text for (text,) in database.execute("select text from key")]
        if not keys and (self._path is None or not self._read_only):
            with database:
                database.execute("insert into key values (?)", (self._key,))
        elif keys != [self._key]:
            raise HistoryBroken("it is of something else")

    def _remove(self) -> None:
        if self._path is not None:
            for name in (self._path.name, f"{self._path.name}-journal"):
                with contextlib.suppress(OSError):
                    self._path.with_name(name).unlink()

    def _entry(self, row: tuple[Any, ...]) -> LogEntry:
        """Raises HistoryBroken for a row that is not as it was written."""
        try:
            if _digest(self._key, row[:-1]) != row[-1]:
                raise HistoryBroken(f"marker {row[0]} is damaged")
            return LogEntry(row[1], _decoded(row[9]), row[2])
        except (ValueError, TypeError, KeyError) as error:
            raise HistoryBroken(f"marker {row[0]}: {error}") from error

    def append(self, entry: LogEntry, *, commit: bool = True) -> None:
        """The next entry of the log. Entries reach the disk together, seconds later, or at commit(); commit: only then
        when it is False.

        Raises HistoryBroken for a full disk, or when another process writes to the file.
        """
        self.totals = self.totals.plus(entry.marker)
        self.last = entry
        try:
            self._insert(entry, self.totals)
        except sqlite3.Error as error:
            raise HistoryBroken(str(error)) from error
        if commit and time.monotonic() - self._committed > COMMIT_S:
            self.commit()

    def keep_newest(self, entry: LogEntry, totals: Totals) -> None:
        """The totals up to this entry, in place of all that the history has: of_split() finds nothing then."""
        if self._read_only:
            return
        with contextlib.suppress(sqlite3.Error), self._database:
            self._database.execute("delete from markers")
            self._insert(entry, totals)

    def _insert(self, entry: LogEntry, totals: Totals) -> None:
        marker = entry.marker
        row = (
            totals.markers, entry.offset, entry.timestamp, marker.sequence, marker.revision, totals.splits,
            totals.rows, totals.rejected, totals.newest, orjson.dumps(marker),
        )  # fmt: skip
        self._database.execute(_INSERT, (*row, _digest(self._key, row)))

    def commit(self) -> None:
        """Brings what was appended to the disk. Raises HistoryBroken."""
        self._committed = time.monotonic()
        try:
            self._database.commit()
        except sqlite3.Error as error:
            raise HistoryBroken(str(error)) from error

    def of_split(self, sequence: int) -> list[LogEntry]:
        """The markers of a split in their order, its revisions too. Raises HistoryBroken when one is missing."""
        try:
            rows = self._database.execute(
                f"select {_COLUMNS} from markers where sequence = ? order by revision", (sequence,)
            ).fetchall()
        except sqlite3.Error as error:
            raise HistoryBroken(str(error)) from error
        entries = [self._entry(row) for row in rows]
        if not entries or [e.marker.revision for e in entries] != list(range(len(entries))):
            raise HistoryBroken(f"markers of split number {sequence} are missing")
        return entries

    def discard(self, *, in_memory: bool = False) -> None:
        """Throws everything away: the history is empty then. in_memory: and stays so on the disk."""
        self._database.close()
        if self._read_only:
            self._path = None  # another process's file
        self._remove()
        if in_memory:
            self._path = None
        self._database = self._open()

    def close(self) -> None:
        with contextlib.suppress(HistoryBroken):
            self.commit()
        self._database.close()


def last_noted(path: Path, schedule: Schedule) -> Totals | None:
    """The totals of a history on this disk, of whatever topic, where Kafka cannot be asked; None when it is of no
    use."""
    try:
        with contextlib.closing(
            sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=1)
        ) as database:
            ((key,),) = database.execute("select text from key").fetchall()
        if key != key_of(orjson.loads(key)["topic_id"], schedule):
            return None
    except (sqlite3.Error, OSError, ValueError, KeyError, TypeError):
        return None
    with contextlib.closing(MarkerHistory(path, key, read_only=True)) as history:
        return history.totals if history.last is not None else None


@contextlib.contextmanager
def read_on(
    history: MarkerHistory,
    properties: Mapping[str, str],
    topic: str,
    group: str,
    look: Callable[[MarkerLog], None] = lambda _log: None,
) -> Iterator[Iterator[LogEntry]]:
    """The entries of the log after those of the history, up to its end as it is now: for the caller to append.

    look(log): whenever none came for a second; what it raises comes out.

    The log has to confirm the history first: it begins at offset 0, and has the newest marker at the same offset.
    Otherwise the history is emptied, and all entries come. Raises what MarkerLog raises.
    """
    if (last := history.last) is not None:
        with MarkerLog(properties, topic, group, last.offset) as log:
            entries = log.to_end(lambda: look(log))
            if _confirms(log, entries, last, lambda: look(log)):
                yield entries
                return
        history.discard()
    with MarkerLog(properties, topic, group) as log:
        yield log.to_end(lambda: look(log))


def _confirms(log: MarkerLog, entries: Iterator[LogEntry], last: LogEntry, on_idle: Callable[[], None]) -> bool:
    first, readable = log.offsets(on_idle)
    # it lost its beginning; it lost its end, or an open transaction holds readers back
    if first != 0 or readable <= last.offset:
        return False
    try:
        found = next(entries, None)
    except RetentionPassed:  # the log is shorter than that
        return False
    return found is not None and (found.offset, found.marker) == (last.offset, last.marker)


def _decoded(text: bytes) -> Marker:
    """The inverse of orjson.dumps, which is ten times as fast as the encoding of the log."""
    values = orjson.loads(text)
    values["ranges"] = tuple(Range(**r) for r in values["ranges"])
    values["files"] = tuple(SourceFile(**f) for f in values["files"])
    return Marker(**values)


def _digest(key: str, row: tuple[Any, ...]) -> bytes:
    """Of the row and of what the history is of: a row of another job's file is none of this one."""
    digest = hashlib.sha256(key.encode())
    digest.update(repr(row[:-1]).encode())
    digest.update(row[-1])
    return digest.digest()
