"""A save that the servers are at, while this process may predict the next pass: that changes no table.

    dense table        at once
    sparse tables      at a day's end the save mode in which Paddle counts the day, which is thrown away; keys touched
                       since the last inference model, where one needs them, which then count as untouched; every key

Both at the same time: a server writes a table by one thread for each of its shards, the dense one by one thread.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from streamtrain.engine import tables
from streamtrain.engine.table_commands import save_table
from streamtrain.errors import CheckpointError
from streamtrain.timings import Timings

#: Paddle's save modes of a sparse table: the touched keys; the same, and 1 is added to the unseen_days of every key;
#: every key, without side effect.
_TOUCHED, _DAY, _ALL = 1, 3, 4


class Exchange(Protocol):
    """Where worker 0 and the servers share no disk: directories between their machines. Raises CheckpointError."""

    def gather(self, directory: Path) -> None:
        """`directory` has what the servers have written to it, each on its own machine."""

    def scatter(self, directory: Path) -> None:
        """The machine of each server has a copy of `directory`."""

    def drop(self, directory: Path) -> None:
        """The machines of the servers have no such directory."""


@dataclass(frozen=True)
class SaveRequest:
    """What worker 0 has the servers save. directory: the checkpoint's, which exists and is empty. touched: an empty one
    for the touched keys; None: nobody needs them. day_end: ServerState.shrink() came before."""

    directory: Path
    touched: Path | None = None
    day_end: bool = False

    @property
    def raw(self) -> Path:
        """What the servers write, until it is arranged."""
        return self.directory / ".raw"

    @property
    def day(self) -> Path:
        """What they write at a day's end for nobody."""
        return self.directory / ".day"


@dataclass(frozen=True)
class Saved:
    """keys: in the servers, 0 on other workers than 0. touched: directories of the touched keys' part files, by table.
    timings: those in paddle_* are Paddle's own, dense and sparse at the same time."""

    keys: int = 0
    touched: Mapping[str, Path] | None = None
    timings: Timings = field(default_factory=Timings)


def _remove(directory: Path) -> None:
    """Raises CheckpointError: what stays would be taken for a file of the checkpoint."""
    try:
        shutil.rmtree(directory)
    except FileNotFoundError:
        return
    except OSError as error:
        raise CheckpointError(f"{directory} cannot be removed: {error}", remedy="Check the disk.") from error


class RunningSave:
    """servers: host:port of each. counts: keys that they hold, by table; values: dense ones. exchange: None where they
    share this machine's disk."""

    def __init__(
        self,
        request: SaveRequest,
        servers: Sequence[str],
        formats: Sequence[tables.TableFormat],
        counts: Mapping[str, int],
        values: int,
        timings: Timings,
        exchange: Exchange | None,
    ) -> None:
        self._request = request
        self._servers = servers
        self._formats = formats
        self._counts = counts
        self._values = values
        self._timings = timings
        self._exchange = exchange
        pool = ThreadPoolExecutor(2, thread_name_prefix="save")
        self._dense = pool.submit(self._save_dense)
        self._sparse = pool.submit(self._save_sparse)
        pool.shutdown(wait=False)

    @property
    def keys(self) -> int:
        """That the servers hold."""
        return sum(self._counts.values())

    def wait_for_tables(self) -> None:
        """Until they are written, and may change. Raises CheckpointError."""
        try:
            self._dense.result()
        finally:
            self._sparse.result()

    def arrange(self) -> Saved:
        """Checks the files, and arranges them as a checkpoint has them; needs nothing of Paddle. Raises as
        ServerState.save()."""
        self.wait_for_tables()
        request = self._request
        if self._exchange is not None:
            with self._timings("gathered"):
                for directory in filter(None, (request.raw, request.touched)):
                    self._exchange.gather(directory)
                if request.day_end:
                    self._exchange.drop(request.day)
                    _remove(request.day)
        with self._timings("checked"):
            for table in self._formats:
                if request.touched is not None:
                    tables.check_parts(self._of(table, request.touched), table)
                tables.arrange_sparse(self._of(table, request.raw), request.directory, table, self._counts[table.name])
            dense = request.raw / f"{len(self._formats):03d}"
            tables.arrange_dense(dense, request.directory, len(self._servers), self._values)
            shutil.rmtree(request.raw)
        touched = request.touched
        by_table = {t.name: self._of(t, touched) for t in self._formats} if touched is not None else None
        return Saved(self.keys, by_table, self._timings)

    def _save_dense(self) -> None:
        with self._timings("paddle_dense"):
            save_table(self._servers, len(self._formats), self._request.raw, 0, dense=True)

    def _save_sparse(self) -> None:
        """One table after the other, so that a server's threads answer pulls meanwhile."""
        request = self._request
        if request.day_end:
            with self._timings("paddle_day"):
                for table in self._formats:
                    save_table(self._servers, table.id, request.day, _DAY)
                if self._exchange is None:
                    _remove(request.day)
        if request.touched is not None:
            with self._timings("paddle_touched"):
                for table in self._formats:
                    save_table(self._servers, table.id, request.touched, _TOUCHED)
        with self._timings("paddle_sparse"):
            for table in self._formats:
                save_table(self._servers, table.id, request.raw, _ALL)

    @staticmethod
    def _of(table: tables.TableFormat, directory: Path) -> Path:
        """Where Paddle writes a table below `directory`."""
        return directory / f"{table.id:03d}"
