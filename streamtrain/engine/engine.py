"""One process of Paddle's parameter server, static graph, asynchronous: a server or a worker."""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from streamtrain.engine.environment import engine_environment, importing_paddle

for _name, _value in engine_environment().items():
    os.environ.setdefault(_name, _value)  # before paddle is imported

import numpy as np
import numpy.typing as npt

with importing_paddle():
    import paddle
    from paddle.distributed import fleet
    from paddle.distributed.fleet.base import role_maker

from streamtrain.config import JobConfig
from streamtrain.contracts.fast_paths import FastPaths
from streamtrain.contracts.row_layout import RowLayout
from streamtrain.dumps import Dump
from streamtrain.engine import collective, failures, round_check, tables
from streamtrain.engine.counters import Counters
from streamtrain.engine.dumping import dumping
from streamtrain.engine.forward import forward_half
from streamtrain.engine.heap import Heap
from streamtrain.engine.initializers import describe_truncated_normal
from streamtrain.engine.joined_pools import JoinedPools, join_pools, refuse_lost
from streamtrain.engine.lookups import set_pushes
from streamtrain.engine.model import DottedConfig, create_optimizer, load_model
from streamtrain.engine.model_checks import check_names, dumped_lists, no_table
from streamtrain.engine.server_state import ServerState
from streamtrain.engine.serving_network import ServingNetwork, cut_out
from streamtrain.engine.setup import (
    bind_gloo_where_it_is_meant,
    end_gloo_store_when_all_have_met,
    save_as_text,
    strategy_of,
)
from streamtrain.engine.stats import Counts, PassStats, Sums
from streamtrain.engine.trial import compute_once
from streamtrain.errors import TrainingError

paddle.disable_signal_handler()  # its own end the process at SIGTERM, before anything is saved


class Dataset:
    """A pass's rows in memory. rows: as Paddle counted them. ins_ids: whether each row has its id."""

    _heap = Heap()

    def __init__(self, handle: Any, ins_ids: bool) -> None:
        self.handle = handle
        self.ins_ids = ins_ids
        self.rows = int(handle.get_memory_data_size())

    def release(self) -> None:
        self.handle.release_memory()
        self._heap.give_back()


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
        fast: FastPaths | None = None,
        dumped: Collection[str] = (),
    ) -> None:
        """exact_delta: save_touched() gives every touched key, else those above the accessor's thresholds. layout: what
        the job's rows have; None: whatever a network of numbered slots and one label reads. fast: None: as by default.
        dumped: the StaticModel's lists, such as all_vars, of variables that are dumped.
        """
        fast = fast or FastPaths()
        paddle.enable_static()
        paddle.seed(1)
        paddle.static.default_main_program().random_seed = 1
        paddle.static.default_startup_program().random_seed = 1
        config = DottedConfig(raw_config)
        self._batch_size = int(config.get("runner.train_batch_size", 32))
        maker = role_maker.PaddleCloudRoleMaker()
        bind_gloo_where_it_is_meant()
        end_gloo_store_when_all_have_met()
        describe_truncated_normal()
        save_as_text()
        with round_check.own_gloo():
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
        #: The user's own network: what is served, and what a message about it names.
        self._plain = paddle.static.default_main_program().clone()
        #: What the fast path `pool` has joined.
        self.pools = JoinedPools()
        if fast.pool:
            names = [name for attribute in dumped for name in self._model.listed(attribute)]
            self.pools = join_pools(self._model.feeds[0].block, self._model.sequences, names)
        create_optimizer(self._model, strategy_of(config, raw_config, self._model, self._tables, exact_delta))
        self._program = paddle.static.default_main_program()  # another one than before
        refuse_lost(self._program, self.pools, self._model.file)
        #: What the servers hold, to be saved, loaded and decayed.
        self.state = ServerState(list(self._tables.values()), self._program, tuple(self.dense_shapes()))
        if fleet.is_worker():
            model = self._model
            set_pushes(self._program, model.counting, model.lookups, model.slot_numbers, model.file)
        self._predicting = self._program
        if fleet.is_worker() and fast.predict:
            self._predicting = forward_half(self._program)
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
        #: What its metrics are of, the first one first.
        self.labels = tuple(counters.label for counters in self._counters if counters.label)
        #: Variables of their predictions, by label, where they are known.
        self.predictions = {c.label: c.predicted for c in self._counters if c.label and c.predicted}

    @classmethod
    def of_job(cls, config: JobConfig, *, exact_delta: bool = True, compares: bool = False) -> Engine:
        """As the job's config says. compares: compared_variables() are dumped. exact_delta, errors: as above."""
        paths = config.stream.fast_paths.paths()
        dumped = dumped_lists(config, compares=compares)
        return cls(config.model_dir, config.raw, exact_delta=exact_delta, layout=config.layout, fast=paths,
                   dumped=dumped)  # fmt: skip

    def serve(self) -> None:
        """Serves until it is stopped or killed."""
        fleet.init_server()
        fleet.run_server()

    def connect(self, timeout_s: float = 120) -> None:
        """Waits until every server of this round listens (Paddle's own start dies if one does not), then joins.

        Raises TrainingError naming the endpoint where none does, or another job's.
        """
        deadline = time.monotonic() + timeout_s
        for endpoint in fleet.server_endpoints():
            host, port = endpoint.rsplit(":", 1)
            while True:
                try:
                    socket.create_connection((host, int(port)), 1).close()
                    round_check.check_server(endpoint, 5)
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
        """Returns when every worker is here."""
        collective.barrier()

    def all_reduce_sum(self, values: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """The sum over all workers, on each of them."""
        return collective.all_reduce_sum(values)

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
        """Predicts with the model as the servers have it now; the tables do not change.

        Raises BadModel when a prediction is not a number, TrainingError.

        dump: also writes this worker's rows there. dumps.check_part checks that they are complete: Paddle reports
        neither a full disk nor variables that it cannot dump.
        """
        self.state.pull_dense()  # Paddle's own pulls come in their own time, or not at all
        with _dumping(self._predicting, dataset, dump, self.workers), failures.translated("predicting"):
            self._executor.infer_from_dataset(self._predicting, dataset.handle, debug=False)
        return self._read_and_clear_stats()

    def train(self, dataset: Dataset, dump: Dump | None = None) -> PassStats:
        """Trains once on every row; returns the predictions made on the way. dump, errors: as in predict()."""
        with _dumping(self._program, dataset, dump, self.workers), failures.translated("training"):
            self._executor.train_from_dataset(self._program, dataset.handle, debug=False)
        return self._read_and_clear_stats()

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
        """Of all parameters but the sparse tables, by name; those that no optimizer changes too."""
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
        return cut_out(self._model, self._plain)

    def compute_once(self) -> None:
        """The network, for two rows, in this process alone. Raises ConfigError with the line that fails."""
        compute_once(self._model, self._plain, paddle.static.default_startup_program())

    def write_network(self, network: ServingNetwork, directory: Path, values: Path) -> None:
        """model/ and dense/ of an inference model; right after save(values), which leaves the dense values here.

        Raises CheckpointError.
        """
        files = {p.name: p for p in values.iterdir() if p.is_file()}
        network.write(directory, files)

    def write_first_network(self, network: ServingNetwork, directory: Path) -> None:
        """The same for the parameters as the servers have them now, before any save. Worker 0 calls it."""
        self.state.pull_dense()
        network.write(directory, {})


def _dumping(
    program: Any, dataset: Dataset, dump: Dump | None, workers: int
) -> contextlib.AbstractContextManager[None]:
    if dump is not None and not dataset.ins_ids:
        raise ValueError("rows without ins_ids cannot be dumped")
    return dumping(program, dump, workers)


def _counts_of(counters: Counters) -> Counts:
    """As this process has them."""
    scope = paddle.static.global_scope()

    def values(name: str) -> npt.NDArray[Any]:
        return np.array(scope.find_var(name).get_tensor()).ravel()

    sums = Sums(*(float(values(name)[0]) for name in counters.sums)) if counters.sums else None
    return Counts(values(counters.pos).astype(np.int64), values(counters.neg).astype(np.int64), sums)
