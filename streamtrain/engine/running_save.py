"""A save that the servers are at, while this process predicts the next pass: predicting changes no table."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from streamtrain.engine import tables
from streamtrain.engine.table_saves import save_table
from streamtrain.timings import Timings


@dataclass(frozen=True)
class Saved:
    """keys: in the servers, 0 on other workers than 0. timings: those in paddle_* are Paddle's own."""

    keys: int
    timings: Timings


class RunningSave:
    """servers: host:port of each. raw: a directory that they share with this process. arrange(): makes what they write
    there a checkpoint's files; it needs nothing of Paddle. keys: that the servers hold."""

    def __init__(
        self,
        servers: Sequence[str],
        formats: Sequence[tables.TableFormat],
        raw: Path,
        arrange: Callable[[tables.DenseCheck], None],
        keys: int,
        timings: Timings,
    ) -> None:
        self._servers = servers
        self._formats = formats
        self._raw = raw
        self._arrange = arrange
        self.keys = keys
        self._timings = timings
        pool = ThreadPoolExecutor(2, thread_name_prefix="save")
        self._dense = pool.submit(self._save_dense)
        self._sparse = pool.submit(self._save_sparse)
        pool.shutdown(wait=False)

    def wait_for_tables(self) -> None:
        """Until they are written, and may change. Raises CheckpointError."""
        try:
            self._dense.result()
        finally:
            self._sparse.result()

    def arrange(self) -> Saved:
        """Checks and arranges the files. Raises as ServerState.save()."""
        self.wait_for_tables()
        with self._timings("checked"):
            self._arrange(self._dense.result())
        return Saved(self.keys, self._timings)

    def _save_dense(self) -> tables.DenseCheck:
        number = len(self._formats)
        with self._timings("paddle_dense"):
            save_table(self._servers, number, self._raw, 0, dense=True)
        return tables.DenseCheck(self._raw / f"{number:03d}", len(self._servers))

    def _save_sparse(self) -> None:
        """One after the other, so that a server's threads answer pulls meanwhile."""
        with self._timings("paddle_sparse"):
            for table in self._formats:
                save_table(self._servers, table.id, self._raw, 4)
