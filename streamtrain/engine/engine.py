"""One process of Paddle's parameter server, static graph, asynchronous: a server or a worker."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from streamtrain.engine.environment import engine_environment, importing_paddle

for _name, _value in engine_environment().items():
    os.environ.setdefault(_name, _value)  # before paddle is imported

import numpy as np
import numpy.typing as npt

with importing_paddle():
    import paddle
    from paddle.distributed import fleet
    from paddle.distributed.fleet.base import role_maker
    from paddle.distributed.ps.utils.public import get_the_one_recv_context, get_the_one_send_context

from streamtrain.contracts.row_layout import RowLayout
from streamtrain.contracts.tensors import read_tensor
from streamtrain.dumps import Dump
from streamtrain.engine import failures, soundness, tables
from streamtrain.engine.counters import Counters
from streamtrain.engine.false_alarms import without_false_alarm
from streamtrain.engine.initializers import describe_truncated_normal
from streamtrain.engine.lookups import set_pushes
from streamtrain.engine.model import DottedConfig, Model, create_optimizer, flatten, load_model
from streamtrain.engine.model_checks import check_names, no_table
from streamtrain.engine.serving_network import ServingNetwork, cut_out
from streamtrain.engine.stats import Counts, PassStats, Sums
from streamtrain.engine.trial import compute_once
from streamtrain.errors import CheckpointError, TrainingError, UnknownFormat
from streamtrain.timings import Timings

paddle.disable_signal_handler()  # its own end the process at SIGTERM, before anything is saved


class Dataset:
    """A pass's rows in memory. rows: as Paddle counted them. ins_ids: whether each row has its id."""

    def __init__(self, handle: Any, ins_ids: bool) -> None:
        self.handle = handle
        self.ins_ids = ins_ids
        self.rows = int(handle.get_memory_data_size())

    def release(self) -> None:
        self.handle.release_memory()


@dataclass(frozen=True)
class Saved:
    """keys: in the servers, 0 on other workers than 0. timings: those in paddle_* are Paddle's own."""

    keys: int
    timings: Timings


class Exchange(Protocol):
    """Where worker 0 and the servers share no disk: directories between their machines. Raises CheckpointError."""

    def gather(self, directory: Path) -> None:
        """`directory` has what the servers have written to it, each on its own machine."""

    def scatter(self, directory: Path) -> None:
        """The machine of each server has a copy of `directory`."""

    def drop(self, directory: Path) -> None:
        """The machines of the servers have no such directory."""


class Engine:
    """Builds the model and takes the role that the launcher's environment says.

    A worker calls connect() first. Each worker runs one thread: with more, Paddle counts rows twice.
    Raises ConfigError for the model or its tables.
    """

    def __init__(
        self,
        model_dir: Path,
        raw_config: Mapping[str, Any],
        *,
        exact_delta: bool = True,
        layout: RowLayout | None = None,
    ) -> None:
        """exact_delta: save_touched() gives every touched key, else those above the accessor's thresholds. layout: what
        the job's rows have; None: whatever a network of numbered slots and one label reads."""
        paddle.enable_static()
        paddle.seed(1)
        paddle.static.default_main_program().random_seed = 1
        paddle.static.default_startup_program().random_seed = 1
        config = DottedConfig(raw_config)
        self._batch_size = int(config.get("runner.train_batch_size", 32))
        maker = role_maker.PaddleCloudRoleMaker()
        _bind_gloo_where_it_is_meant()
        describe_truncated_normal()
        fleet.init(maker)
        if fleet.is_worker() and fleet.worker_num() > 1 and not maker._gloo._is_initialized:
            raise TrainingError(
                "the workers cannot find each other: gloo is not initialized",
                remedy="Set PADDLE_WITH_GLOO=1 in the launcher's environment.",
            )
        if not raw_config.get("table_parameters"):
            raise no_table()
        self._tables = tables.table_formats(raw_config)
        self._model = load_model(model_dir, config, layout, self._tables)
        check_names(paddle.static.default_main_program(), self._model.file)
        create_optimizer(self._model, _strategy(config, raw_config, self._model, self._tables, exact_delta))
        self._program = paddle.static.default_main_program()  # another one than before
        if fleet.is_worker():
            model = self._model
            set_pushes(self._program, model.counting, model.lookups, model.slot_numbers)
        self._executor: Any = None
        self.is_server: bool = fleet.is_server()
        self.index: int = 0 if self.is_server else fleet.worker_index()
        self.workers: int = fleet.worker_num()
        self.servers: int = fleet.server_num()
        self.slots = self._model.slots
        self.network = self._model.network
        self.notes = self._model.notes
        self.feeds = self._model.network.feeds
        self._counters = self._model.counters
        #: Worker 0's, where it shares no disk with the servers.
        self.exchange: Exchange | None = None
        #: What its metrics are of, the first one first.
        self.labels = tuple(counters.label for counters in self._counters if counters.label)
        #: Variables of their predictions, by label, where they are known.
        self.predictions = {c.label: c.predicted for c in self._counters if c.label and c.predicted}

    def serve(self) -> None:
        """Serves until it is stopped or killed."""
        fleet.init_server()
        fleet.run_server()

    def connect(self, timeout_s: float = 120) -> None:
        """Waits until every server listens (Paddle's own start dies if one does not), then joins.

        Raises TrainingError naming the endpoint.
        """
        deadline = time.monotonic() + timeout_s
        for endpoint in fleet.server_endpoints():
            host, port = endpoint.rsplit(":", 1)
            while True:
                try:
                    socket.create_connection((host, int(port)), 1).close()
                    break
                except OSError as error:
                    if time.monotonic() > deadline:
                        raise TrainingError(
                            f"server {endpoint} did not listen within {timeout_s:.0f} s: {error}",
                            remedy="Read log/serverlog.*.",
                        ) from error
                    time.sleep(0.05)
        self._executor = paddle.static.Executor(paddle.CPUPlace())
        self._executor._dump_debug_info = lambda **_: None  # else a .prototxt a process in the working directory
        self._executor.run(paddle.static.default_startup_program())
        fleet.init_worker()

    def stop(self) -> None:
        """Leaves the servers; they do not end by themselves."""
        fleet.stop_worker()

    def barrier(self) -> None:
        if self.workers > 1:
            fleet.util.barrier()

    def all_reduce_sum(self, values: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """The sum over all workers, on each of them."""
        if self.workers == 1:
            return values
        return np.asarray(fleet.util.all_reduce(values, "sum"), np.int64).reshape(values.shape)

    def read(self, files: Sequence[Path], *, ins_ids: bool = False) -> Dataset:
        """Loads files of MultiSlot text into memory. ins_ids: rows have their ids before them, as dumps need it."""
        handle = paddle.base.DatasetFactory().create_dataset("InMemoryDataset")
        handle.set_use_var(self._model.feeds)
        handle.set_batch_size(self._batch_size)
        handle.set_thread(1)
        handle.set_pipe_command("cat")
        handle.set_parse_ins_id(ins_ids)
        handle.set_filelist([str(f) for f in files])
        handle.load_into_memory()
        return Dataset(handle, ins_ids)

    def predict(self, dataset: Dataset, dump: Dump | None = None) -> PassStats:
        """Predicts with the model so far; the tables do not change.

        Raises BadModel when a prediction is not a number, TrainingError.

        dump: also writes this worker's rows there. dumps.check_part checks that they are complete: Paddle reports
        neither a full disk nor variables that it cannot dump.
        """
        with self._dumping(dataset, dump), failures.translated("predicting"):
            self._executor.infer_from_dataset(self._program, dataset.handle, debug=False)
        return self._read_and_clear_stats()

    def train(self, dataset: Dataset, dump: Dump | None = None) -> PassStats:
        """Trains once on every row; returns the predictions made on the way. dump, errors: as in predict()."""
        with self._dumping(dataset, dump), failures.translated("training"):
            self._executor.train_from_dataset(self._program, dataset.handle, debug=False)
        return self._read_and_clear_stats()

    @contextlib.contextmanager
    def _dumping(self, dataset: Dataset, dump: Dump | None) -> Iterator[None]:
        if dump is None:
            yield
            return
        if not dataset.ins_ids:
            raise ValueError("rows without ins_ids cannot be dumped")
        options = self._program._fleet_opt
        before = dict(options)
        options.update(
            dump_fields_path=str(dump.directory), dump_fields=list(dump.fields), dump_param=list(dump.params),
            dump_file_num=self.workers,  # over all workers: one each, with its rows in order
            dump_converter="cat",  # without a pipe Paddle ends the process when it closes a file on a full disk
        )  # fmt: skip
        try:
            yield
        finally:
            options.clear()
            options.update(before)

    def variables(self, attribute: str, *, params: bool = False) -> tuple[str, ...]:
        """Names of the variables that StaticModel's `attribute` lists, such as infer_dump_fields, all_vars; none
        when it lacks the attribute. params: dense parameters.

        Raises ConfigError for one that cannot be dumped.
        """
        return self._model.variables(attribute, params=params)

    def compared_variables(self) -> tuple[str, ...]:
        """What a consistency check compares: all_vars, and the predictions. Raises ConfigError as variables()."""
        block = self._model.feeds[0].block
        dumped = [name for name in self._model.targets if len(block.var(name).shape) == 2]
        return tuple(dict.fromkeys((*self.variables("all_vars"), *dumped)))

    def dense_shapes(self) -> dict[str, tuple[int, ...]]:
        """Of the parameters that the optimizer changes, without the sparse tables, by name."""
        every = self._model.feeds[0].block.program.all_parameters()
        return {p.name: tuple(int(n) for n in p.shape) for p in every if p.name not in self._tables}

    def global_stats(self, stats: PassStats) -> PassStats:
        """Summed over all workers."""
        return stats.of_array(self.all_reduce_sum(stats.to_array())) if self.workers > 1 else stats

    def no_stats(self) -> PassStats:
        """Of no rows, by the labels that the network counts."""
        return self._read_stats().cleared()

    def _read_and_clear_stats(self) -> PassStats:
        """This process's counters, which are then cleared along with all other metrics."""
        stats = self._read_stats()
        scope = paddle.static.global_scope()
        counted = [name for counters in self._counters for name in (counters.pos, counters.neg, *counters.sums)]
        for name in dict.fromkeys([*counted, *(variable.name for variable in self._model.metrics)]):
            holder = scope.find_var(name)
            if holder is not None and (tensor := holder.get_tensor())._is_initialized():
                old = np.array(tensor)
                tensor.set(np.zeros(old.shape, old.dtype), paddle.CPUPlace())
        return stats

    def _read_stats(self) -> PassStats:
        return PassStats({counters.label: _counts_of(counters) for counters in self._counters})

    def serving_network(self) -> ServingNetwork:
        """The network of inference models. Raises ConfigError when the model's inference_feed_vars do not define it."""
        return cut_out(self._model, _runtime().origin_main_programs[0])

    def compute_once(self) -> None:
        """The network, for two rows, in this process alone. Raises ConfigError with the line that fails."""
        compute_once(self._model, _runtime().origin_main_programs[0], paddle.static.default_startup_program())

    def write_network(self, network: ServingNetwork, directory: Path, values: Path) -> None:
        """model/ and dense/ of an inference model; right after save(values), which leaves the dense values here.

        Raises CheckpointError.
        """
        files = {p.name: p for p in values.iterdir() if p.is_file()}
        network.write(directory, files)

    def write_first_network(self, network: ServingNetwork, directory: Path) -> None:
        """The same for the parameters as the servers have them now, before any save. Worker 0 calls it."""
        self._pull_dense()
        network.write(directory, {})

    def shrink(self, scratch: Path | None) -> int:
        """A day's end, as PaddleRec has it: decays show and click, deletes keys below the accessor's thresholds, then
        adds a day to the unseen_days of every key. Every worker calls it; worker 0 gives a directory, and gets the
        number of deleted keys.

        Paddle counts the days in one save mode only: its files are deleted.
        """
        runtime = _runtime()
        before = sum(self._count_keys().values()) if scratch is not None else 0
        runtime._shrink()  # all tables
        deleted = before - sum(self._count_keys().values()) if scratch is not None else 0
        raw = str(scratch / "day") if scratch is not None else ""
        for table in self.formats:
            runtime._save_one_table(table.id, raw, 3)
        if scratch is not None:
            if self.exchange is not None:
                self.exchange.drop(Path(raw))
            shutil.rmtree(raw, ignore_errors=True)
        return deleted

    def save_touched(self, directory: Path | None) -> dict[str, Path] | None:
        """The keys touched since the last call, as Paddle's text; they count as untouched from now on.

        Every worker calls it; worker 0 gives an empty directory and gets the directories of the part files, by table.
        Raises CheckpointError when the number of a table's files is not shard_num.
        """
        for table in self.formats:
            _runtime()._save_one_table(table.id, str(directory) if directory is not None else "", 1)
        if directory is None:
            return None
        if self.exchange is not None:
            self.exchange.gather(directory)
        for table in self.formats:
            tables.check_parts(directory / f"{table.id:03d}", table)
        return {table.name: directory / f"{table.id:03d}" for table in self.formats}

    @property
    def formats(self) -> list[tables.TableFormat]:
        """In the order of their ids."""
        return list(self._tables.values())

    @property
    def table(self) -> tables.TableFormat:
        """Of a network with one table."""
        return self.formats[0]

    @property
    def forgets_embedx(self) -> bool:
        """Whether a shrink can take keys of a table below its embedx_threshold."""
        return any(table.forgets_embedx for table in self.formats)

    def save(self, directory: Path | None) -> Saved:
        """Every worker calls it; worker 0 writes a checkpoint's files into `directory`, which exists and is empty.

        Other workers give None. Raises CheckpointError when what Paddle wrote is incomplete, BadModel when a number of
        it is not finite, or out of all bounds.
        """
        runtime = _runtime()
        keys = 0
        timings = Timings()
        raw = str(directory / ".raw") if directory is not None else ""
        dense_id = len(self._tables)
        with timings("paddle_dense"), without_false_alarm(dense_id):
            runtime._save_one_table(dense_id, raw, 0)
        dense = None
        with timings("paddle_sparse"):
            if directory is not None and self.exchange is None:
                dense = tables.DenseCheck(Path(raw) / f"{dense_id:03d}", self.servers)
            for table in self.formats:
                runtime._save_one_table(table.id, raw, 4)
        if directory is not None and self.exchange is not None:
            with timings("gathered"):
                self.exchange.gather(Path(raw))
            dense = tables.DenseCheck(Path(raw) / f"{dense_id:03d}", self.servers)
        with timings("paddle_values"):
            if directory is not None:
                for name, value in self._pull_dense().items():
                    soundness.check_dense(name, np.asarray(value))
                    self._save_variable(directory / name, value)
        with timings("checked"):
            if directory is not None and dense is not None:
                counts = self._count_keys()
                for table in self.formats:
                    tables.arrange_sparse(Path(raw) / f"{table.id:03d}", directory, table, counts[table.name])
                keys = sum(counts.values())
                dense.arrange(directory)
                shutil.rmtree(raw)
            self.barrier()
        return Saved(keys, timings)

    @staticmethod
    def _save_variable(path: Path, value: Any) -> None:
        try:
            paddle.save(value, str(path), use_binary_format=True)
        except (OSError, RuntimeError) as error:
            raise CheckpointError(
                f"{path} cannot be written: {error}", remedy="Is the disk of runner.model_save_path full?"
            ) from error

    def _count_keys(self) -> dict[str, int]:
        """Keys that the servers hold, by table."""
        worker = _runtime()._worker
        return {
            table.name: tables.count_keys(lambda number=table.id: worker.print_table_stat(number, 0, 0))
            for table in self.formats
        }

    def load(self, directory: Path, scratch: Path | None, files: Collection[str] | None = None) -> int:
        """Every worker calls it, after connect(), with fresh servers, or with the servers that it was just saved from:
        Paddle keeps keys that the files lack. Returns the number of keys in the servers.

        scratch: on worker 0, a directory on the same file system; None on others. files: the checkpoint's, by its
        manifest; None: all that are in `directory`.
        Raises CheckpointError when files are missing or Paddle did not load them.
        """
        try:
            return self._load(directory, scratch, files)
        except (RuntimeError, ValueError, OSError) as error:
            lines = str(error).strip().splitlines() or [type(error).__name__]
            raise CheckpointError(
                f"Paddle could not load {directory}: {lines[-1].strip()}",
                remedy="A server may have failed: read log/serverlog.*.",
            ) from error

    def _load(self, directory: Path, scratch: Path | None, files: Collection[str] | None) -> int:
        runtime = _runtime()
        keys = 0
        self.barrier()
        if scratch is not None:
            with (
                tables.paddle_layout(directory, scratch, self.formats, files) as temporary,
                self._scattered([temporary]),
            ):
                runtime._worker.load_model(str(temporary), 0)
            keys = sum(self._count_keys().values())
            self._push_dense(directory)
        self.barrier()
        self._pull_dense()
        self.barrier()
        return int(self.all_reduce_sum(np.array([keys], np.int64))[0])

    def begin_from(
        self, tables_at: Mapping[str, Path], dense: Path | None, values: Mapping[str, npt.NDArray[Any]]
    ) -> int:
        """Every worker calls it once, after connect(), with fresh servers; worker 0 gives what it has, others nothing.
        Returns the number of keys in the servers.

        tables_at: by table, a directory with a folder of Paddle's id (000 ..) with shard_num files. dense: the same of
        the dense table with its optimizer's state. values: of dense parameters, by name; the others stay as they are.
        Raises CheckpointError when Paddle did not load them.
        """
        try:
            return self._begin_from(tables_at, dense, values)
        except (RuntimeError, ValueError, OSError) as error:
            lines = str(error).strip().splitlines() or [type(error).__name__]
            raise CheckpointError(
                f"Paddle could not load the warm start: {lines[-1].strip()}",
                remedy="A server may have failed: read log/serverlog.*.",
            ) from error

    def _begin_from(
        self, tables_at: Mapping[str, Path], dense: Path | None, values: Mapping[str, npt.NDArray[Any]]
    ) -> int:
        worker, keys = _runtime()._worker, 0
        self.barrier()
        if self.index == 0:
            with self._scattered(dict.fromkeys([*tables_at.values(), *([dense] if dense is not None else [])])):
                for table in self.formats:
                    if table.name in tables_at:
                        worker.load_one_table(table.id, str(tables_at[table.name]), 0)
                if dense is not None:
                    worker.load_one_table(len(self._tables), str(dense), 0)
            scope = paddle.static.global_scope()
            block = self._program.global_block()
            self._pull_dense()
            for name, value in values.items():
                block.var(name).set_value(value, scope)
            _runtime()._init_all_params([scope], *self._dense_names())
            keys = sum(self._count_keys().values())
        self.barrier()
        self._pull_dense()
        self.barrier()
        return int(self.all_reduce_sum(np.array([keys], np.int64))[0])

    @contextlib.contextmanager
    def _scattered(self, directories: Iterable[Path]) -> Iterator[None]:
        """Within it the servers' machines have these directories."""
        for directory in directories if self.exchange is not None else ():
            self.exchange.scatter(directory)  # type: ignore[union-attr]
        yield
        for directory in directories if self.exchange is not None else ():
            self.exchange.drop(directory)  # type: ignore[union-attr]

    def _dense_names(self) -> tuple[Any, Any]:
        context = _runtime().context
        return (
            get_the_one_send_context(context, split_dense_table=False, ep_list=_runtime().endpoints),
            get_the_one_recv_context(context, split_dense_table=False),
        )

    def _pull_dense(self) -> dict[str, Any]:
        """Dense parameters from the servers into this process, by name."""
        scope = paddle.static.global_scope()
        names = _runtime()._pull_all_dense([scope], *self._dense_names())
        block = self._program.global_block()
        return {n: block.var(n).get_value(scope) for n in dict.fromkeys(names) if block.has_var(n)}

    def _push_dense(self, directory: Path) -> None:
        """The exact binary values over those that went through text."""
        scope = paddle.static.global_scope()
        block = self._program.global_block()
        for name in self._pull_dense():
            try:
                block.var(name).set_value(read_tensor((directory / name).read_bytes()), scope)
            except OSError as error:
                raise CheckpointError(f"{directory / name} cannot be loaded: {error}") from error
            except ValueError as error:  # its digest agrees: reading it again finds the same
                raise UnknownFormat(
                    f"{directory / name} cannot be loaded: {error}",
                    remedy="Its digest agrees, so it was written like that: go back to an earlier checkpoint "
                    "with `streamtrain checkpoints rewind`.",
                ) from error
        _runtime()._init_all_params([scope], *self._dense_names())


def _bind_gloo_where_it_is_meant() -> None:
    """Server 0's rendezvous of the workers (gloo), an HTTP server that Paddle would open on every address."""
    from paddle.distributed.fleet.utils import http_server

    host = os.environ.get("PADDLE_GLOO_HTTP_ENDPOINT", "").rpartition(":")[0]
    bind = http_server.KVHTTPServer.server_bind

    def bind_there(server: Any) -> None:
        server.server_address = (host, server.server_address[1])
        bind(server)

    if host:
        http_server.KVHTTPServer.server_bind = bind_there


def _counts_of(counters: Counters) -> Counts:
    """As this process has them."""
    scope = paddle.static.global_scope()

    def values(name: str) -> npt.NDArray[Any]:
        return np.array(scope.find_var(name).get_tensor()).ravel()

    sums = Sums(*(float(values(name)[0]) for name in counters.sums)) if counters.sums else None
    return Counts(values(counters.pos).astype(np.int64), values(counters.neg).astype(np.int64), sums)


def _runtime() -> Any:
    return fleet.fleet._runtime_handle


def _strategy(
    config: DottedConfig,
    raw: Mapping[str, Any],
    model: Model,
    formats: Mapping[str, tables.TableFormat],
    exact_delta: bool,
) -> Any:
    """Asynchronous; beta powers of Adam are saved (adam_d2sum), or a restart is not exact."""
    strategy = fleet.DistributedStrategy()
    strategy.a_sync = True
    strategy.adam_d2sum = bool(config.get("hyper_parameters.adam_d2sum", True))
    strategy.trainer_desc_configs = {
        "dump_fields_path": "",
        "dump_fields": [],
        "dump_param": [],
        "stat_var_names": model.summed,
    }
    strategy.sparse_table_configs = {
        name: {
            f"table_parameters.{name}.shard_num": formats[name].shard_num,
            **flatten(values, f"table_parameters.{name}"),
            **(
                flatten(formats[name].all_touched(), f"table_parameters.{name}.accessor.ctr_accessor_param")
                if exact_delta
                else {}
            ),
        }
        for name, values in raw["table_parameters"].items()
    }
    return strategy
