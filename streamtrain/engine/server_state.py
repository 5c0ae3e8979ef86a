"""What the servers hold: sparse tables, dense parameters, the optimizer's state. Saved, loaded, decayed.

Every worker calls each of these; worker 0 alone has directories.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import paddle
from paddle.distributed import fleet
from paddle.distributed.ps.utils.public import get_the_one_recv_context, get_the_one_send_context

from streamtrain.contracts.tensors import read_tensor
from streamtrain.engine import soundness, tables
from streamtrain.engine.collective import all_reduce_sum, barrier
from streamtrain.engine.running_save import Exchange, RunningSave, Saved, SaveRequest
from streamtrain.engine.table_commands import load_tables
from streamtrain.errors import CheckpointError, UnknownFormat
from streamtrain.timings import Timings


class ServerState:
    """formats: of the sparse tables, in the order of their ids; the dense table comes after them. parameters: names of
    all the others."""

    def __init__(self, formats: Sequence[tables.TableFormat], program: Any, parameters: Sequence[str]) -> None:
        self.formats = list(formats)
        self._program = program
        self._parameters = tuple(parameters)
        #: Worker 0's, where it shares no disk with the servers.
        self.exchange: Exchange | None = None

    @property
    def table(self) -> tables.TableFormat:
        """Of a network with one table."""
        return self.formats[0]

    @property
    def own_parameters(self) -> tuple[str, ...]:
        """The parameters that no optimizer changes, and no server has: batch_norm's mean and variance. Worker 0's are
        in checkpoints and inference models."""
        served = {name for names in self._dense_names[1].values() for name in names}
        return tuple(name for name in self._parameters if name not in served)

    @property
    def forgets_embedx(self) -> bool:
        """Whether a shrink can take keys of a table below its embedx_threshold."""
        return any(table.forgets_embedx for table in self.formats)

    def shrink(self) -> int:
        """A day's end, as PaddleRec has it: decays show and click, deletes keys below the accessor's thresholds; worker
        0 gets the number of deleted keys. The save that follows adds a day to the unseen_days of every key: Paddle
        counts the days in a save mode."""
        before = sum(self._count_keys().values()) if fleet.worker_index() == 0 else 0
        runtime()._shrink()  # all tables
        return before - sum(self._count_keys().values()) if fleet.worker_index() == 0 else 0

    def save(self, request: SaveRequest | None) -> Saved:
        """Worker 0 has the servers write a checkpoint's files; other workers give None. Comes after a barrier.

        Raises CheckpointError when what Paddle wrote is incomplete, BadModel when a number of it is not finite, or
        out of all bounds.
        """
        saved = self.start_save(request).arrange() if request is not None else Saved()
        barrier()
        return saved

    def start_save(self, request: SaveRequest) -> RunningSave:
        """Worker 0 alone: the servers begin to write the same files while this process goes on. Comes after a barrier;
        nothing may be pushed until RunningSave.wait_for_tables() has returned. Raises as save()."""
        timings = Timings()
        with timings("paddle_values"):
            values = soundness.pull_sound(lambda: self.pull_dense() | self._own_values())
            for name, value in values.items():
                _save_variable(request.directory / name, value)
            served = sum(np.asarray(values[name]).size for name in values.keys() - set(self.own_parameters))
            counts = self._count_keys()
        return RunningSave(request, tuple(runtime().endpoints), self.formats, counts, served, timings, self.exchange)

    def load(self, directory: Path, scratch: Path | None, files: Collection[str] | None = None) -> int:
        """Comes after connect(), with fresh servers, or with those that were saved just now: Paddle keeps keys that the
        files lack. Returns the number of keys in the servers, on each worker.

        scratch: on worker 0, a directory on the same file system; None on others. files: the checkpoint's, by its
        manifest; None: all that are in `directory`.
        Raises CheckpointError when files are missing or Paddle did not load them.
        """

        def give() -> None:
            if scratch is not None:
                with (
                    tables.paddle_layout(directory, scratch, self.formats, files) as temporary,
                    self._scattered([temporary]),
                ):
                    load_tables(runtime().endpoints, len(self.formats) + 1, temporary)
                self._push_dense(directory)
                self._set_own_values(directory, files)

        with _loading(str(directory)):
            return self._given(give)

    def begin_from(
        self, tables_at: Mapping[str, Path], dense: Path | None, values: Mapping[str, npt.NDArray[Any]]
    ) -> int:
        """Comes once, after connect(), with fresh servers; worker 0 gives what it has, others nothing. Returns the
        number of keys in the servers, on each worker.

        tables_at: by table, a directory with a folder of Paddle's id (000 ..) with shard_num files. dense: the same of
        the dense table with its optimizer's state. values: of dense parameters, by name; the others stay as they are.
        Raises CheckpointError when Paddle did not load them.
        """

        def give() -> None:
            worker = runtime()._worker
            with self._scattered(dict.fromkeys([*tables_at.values(), *([dense] if dense is not None else [])])):
                for table in self.formats:
                    if table.name in tables_at:
                        worker.load_one_table(table.id, str(tables_at[table.name]), 0)
                if dense is not None:
                    worker.load_one_table(len(self.formats), str(dense), 0)
            self.pull_dense()
            self._set_dense(values)

        with _loading("the warm start"):
            return self._given(give)

    @contextlib.contextmanager
    def _scattered(self, directories: Iterable[Path]) -> Iterator[None]:
        """Within it the servers' machines have these directories."""
        if self.exchange is None:
            yield
            return
        for directory in directories:
            self.exchange.scatter(directory)
        yield
        for directory in directories:
            self.exchange.drop(directory)

    def _given(self, give: Callable[[], None]) -> int:
        """What worker 0 gives the servers, before any other worker takes the dense parameters. Returns their keys."""
        keys = 0
        barrier()
        if fleet.worker_index() == 0:
            give()
            keys = sum(self._count_keys().values())
        barrier()
        self.pull_dense()
        barrier()
        return int(all_reduce_sum(np.array([keys], np.int64))[0])

    def pull_dense(self) -> dict[str, Any]:
        """Dense parameters from the servers into this process, by name."""
        scope = paddle.static.global_scope()
        names = runtime()._pull_all_dense([scope], *self._dense_names)
        block = self._program.global_block()
        return {n: block.var(n).get_value(scope) for n in dict.fromkeys(names) if block.has_var(n)}

    def _push_dense(self, directory: Path) -> None:
        """The exact binary values over those that went through text."""
        self._set_dense({name: _value_of(directory / name) for name in self.pull_dense()})

    def _own_values(self) -> dict[str, Any]:
        """This process's own_parameters, by name."""
        block, scope = self._program.global_block(), paddle.static.global_scope()
        return {name: block.var(name).get_value(scope) for name in self.own_parameters if block.has_var(name)}

    def _set_own_values(self, directory: Path, files: Collection[str] | None) -> None:
        """The own_parameters of a checkpoint; one of a version before 0.4.0 has none."""
        block, scope = self._program.global_block(), paddle.static.global_scope()
        for name in self._own_values():
            if name in files if files is not None else (directory / name).is_file():
                block.var(name).set_value(_value_of(directory / name), scope)

    def _set_dense(self, values: Mapping[str, npt.NDArray[Any]]) -> None:
        """In this process and in the servers; pull_dense() comes before, since all of them are pushed."""
        scope = paddle.static.global_scope()
        block = self._program.global_block()
        for name, value in values.items():
            block.var(name).set_value(value, scope)
        runtime()._init_all_params([scope], *self._dense_names)

    @cached_property
    def _dense_names(self) -> tuple[Any, Any]:
        """As Paddle wants them for a pull or a push: it goes through the whole program for them, and prints a line."""
        context = runtime().context
        return (
            get_the_one_send_context(context, split_dense_table=False, ep_list=runtime().endpoints),
            get_the_one_recv_context(context, split_dense_table=False),
        )

    def _count_keys(self) -> dict[str, int]:
        """Keys that the servers hold, by table."""
        worker = runtime()._worker
        return {
            table.name: tables.count_keys(lambda number=table.id: worker.print_table_stat(number, 0, 0))
            for table in self.formats
        }


def _save_variable(path: Path, value: Any) -> None:
    try:
        paddle.save(value, str(path), use_binary_format=True)
    except (OSError, RuntimeError) as error:
        raise CheckpointError(
            f"{path} cannot be written: {error}", remedy="Is the disk of runner.model_save_path full?"
        ) from error


def _value_of(path: Path) -> npt.NDArray[Any]:
    """Of a parameter, as a checkpoint has it."""
    try:
        return read_tensor(path.read_bytes())
    except OSError as error:
        raise CheckpointError(f"{path} cannot be loaded: {error}") from error
    except ValueError as error:  # its digest agrees: reading it again finds the same
        raise UnknownFormat(
            f"{path} cannot be loaded: {error}",
            remedy="Its digest agrees, so it was written like that: go back to an earlier checkpoint "
            "with `streamtrain checkpoints rewind`.",
        ) from error


@contextlib.contextmanager
def _loading(what: str) -> Iterator[None]:
    """Raises CheckpointError for what Paddle says that it could not load."""
    try:
        yield
    except (RuntimeError, ValueError, OSError) as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise CheckpointError(
            f"Paddle could not load {what}: {lines[-1].strip()}",
            remedy="A server may have failed: read log/serverlog.*.",
        ) from error


def runtime() -> Any:
    return fleet.fleet._runtime_handle
