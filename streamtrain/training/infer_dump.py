"""After a pass is trained: another data set is predicted with the model as it then is, and dumped, as in PaddleRec.

The rows do not come through Kafka: each worker reads its share of the files of runner.infer_data_dir. Nothing of them
reaches the model, its metrics or the checkpoint.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import IO, TYPE_CHECKING

import numpy as np

from streamtrain.checkpoint.journal import PassRecord
from streamtrain.config import JobConfig
from streamtrain.connectors.formats import line_parser
from streamtrain.connectors.infer_data import KEY, InferData, InferFile, changed
from streamtrain.contracts import phases
from streamtrain.contracts.sample import SampleDecoder
from streamtrain.dumps import DumpFolder
from streamtrain.engine.model_checks import no_dump_fields
from streamtrain.errors import DataError, TrainingError
from streamtrain.failpoints import failpoint
from streamtrain.feed.multislot import MultiSlotWriter, RowError
from streamtrain.feed.spool import Spool
from streamtrain.schedule import PassId, Split
from streamtrain.stopping import Stopped
from streamtrain.training.dump_target import DumpTarget

if TYPE_CHECKING:
    from streamtrain.engine.engine import Engine

log = logging.getLogger("streamtrain.dumps")

#: Rows that become text at once.
_BATCH = 4096


class InferDump:
    """Every worker has one and calls it after the same passes.

    check_newest: see DumpTarget. on_phase(words) when it begins something. Raises ConfigError when the model lists
    nothing to dump, or what cannot be dumped.
    """

    def __init__(
        self,
        config: JobConfig,
        engine: Engine,
        check_newest: Callable[[], None],
        stop: threading.Event,
        on_phase: Callable[[str], None],
    ) -> None:
        self._target: DumpTarget | None = None
        if not config.runner.need_infer_dump:
            return
        self._engine = engine
        self._stop = stop
        self._on_phase = on_phase
        self._schedule = config.schedule
        self._look_s = config.runner.data_sleep_second
        fields = engine.variables("infer_dump_fields")
        if not fields:
            raise no_dump_fields("runner.need_infer_dump", "infer_dump_fields")
        folder = DumpFolder(config.resolve(config.runner.infer_dump_fields_dir), "runner.infer_dump_fields_dir")
        self._target = DumpTarget(engine, check_newest, folder, fields)
        stream = config.stream
        parse = line_parser(config.line_format, config.layout, reject_unknown=stream.unknown_slot == "reject")
        self._data = InferData(config.infer_data, config.runner.data_donefile, stream.ignore_files, parse)
        self._text = _RowText(self._data, config, engine)
        self._spool = Spool(config.spool_dir)

    def after(self, record: PassRecord) -> PassRecord:
        """Dumps the data set after the pass; returns its record with the time. record.withheld: a pass whose inference
        model the gate withholds has no dump either.

        Raises DataError naming the file and line that is no row, Unreadable, TrainingError for files that change while
        they are read, and as Engine.predict(); Stopped while it waits for a donefile.
        """
        if self._target is None:
            return record
        begin = time.monotonic()
        if record.withheld:
            log.warning("pass %s: %s is not predicted, since the gate withholds the model", record.id, KEY)
            return record
        number = self._schedule.pass_index(record.id)
        size = self._schedule.split_per_pass
        splits = [self._schedule.split(sequence) for sequence in range(number * size, (number + 1) * size)]
        self._wait(splits)
        self._on_phase(phases.INFERRING)
        files = self._data.files(splits)
        with self._spool.writer("infer.txt") as (path, out):
            rows_here = self._text.write(files, out)
        try:
            self._dump(self._target, record.id, files, path, rows_here, begin)
        finally:
            path.unlink(missing_ok=True)
        return replace(record, infer_dump_seconds=time.monotonic() - begin)

    def close(self) -> None:
        if self._target is not None:
            self._spool.close()

    def _wait(self, splits: Sequence[Split]) -> None:
        """For the donefiles of the splits. The workers decide together, as before a pass."""
        looked = float("-inf")
        awaited: str | None = None
        while True:
            if self._engine.index == 0 and time.monotonic() - looked >= self._look_s:
                awaited, before = self._data.awaited(splits), awaited
                looked = time.monotonic()
                if awaited is not None and awaited != before:
                    log.info("data not ready: %s", awaited)
            flags = self._engine.all_reduce_sum(np.array([awaited is not None, self._stop.is_set()], np.int64))
            if not flags[0]:
                return
            if flags[1]:
                raise Stopped
            self._on_phase(f"{phases.WAITING} {awaited or KEY}")
            self._stop.wait(0.3)

    def _dump(
        self, target: DumpTarget, pass_id: PassId, files: Sequence[InferFile], path: Path, rows_here: int, begin: float
    ) -> None:
        engine = self._engine
        digest = self._data.digest()
        if target.sum(digest) != digest * engine.workers:
            raise changed(KEY)
        rows = target.sum(rows_here)
        if not rows:
            log.warning("pass %s: %s has no rows for it", pass_id, KEY)
        failpoint("infer.read")
        dataset = engine.read([path], ins_ids=True) if rows_here else None
        log.info("Prepare Infer Dump Dataset Done, using time %.1f second.", time.monotonic() - begin)
        started = time.monotonic()
        try:
            engine.barrier()  # every worker has trained
            with target.writing(pass_id, rows, [(file.ids, file.path) for file in files]) as dump:
                if dataset is not None:
                    stats = engine.predict(dataset, dump)
                    if dataset.rows != rows_here or stats.rows != rows_here:
                        raise TrainingError(
                            f"pass {pass_id}: {dataset.rows} rows of {KEY} were read and {stats.rows} predicted, there "
                            f"are {rows_here}",
                            remedy="Nothing of this pass was saved; a restart trains it again.",
                        )
            engine.barrier()  # no worker trains on while another still predicts
        finally:
            if dataset is not None:
                dataset.release()
        log.info("Infer Dump Dataset Done, using time %.1f second.", time.monotonic() - started)
        if engine.index == 0:
            log.info("pass %s: %d rows of %s dumped to %s", pass_id, rows, KEY, target.place(pass_id))


class _RowText:
    """The rows of this worker as MultiSlot text with their ids."""

    def __init__(self, data: InferData, config: JobConfig, engine: Engine) -> None:
        self._data = data
        self._worker, self._workers = engine.index, engine.workers
        self._decoder = SampleDecoder(layout=config.layout)
        self._writer = MultiSlotWriter(engine.feeds, config.layout)

    def write(self, files: Sequence[InferFile], out: IO[bytes]) -> int:
        """The number of rows. Raises as InferDump.after()."""
        rows = 0
        self._data.begin()
        for file in files:
            messages: list[bytes] = []
            lines: list[int] = []
            for line, row in self._data.rows(file, self._worker, self._workers):
                messages.append(row.encode(file.number, line))
                lines.append(line)
                if len(lines) == _BATCH:
                    out.write(self._of(file, messages, lines))
                    messages, lines = [], []
                rows += 1
            out.write(self._of(file, messages, lines))
        return rows

    def _of(self, file: InferFile, messages: Sequence[bytes], lines: Sequence[int]) -> bytes:
        ids = [f"{file.ids}/{line}".encode() for line in lines]
        try:
            return self._writer.text(self._decoder.decode(messages), ids)
        except RowError as error:
            raise DataError(
                f"{file.path} of {KEY}, line {lines[error.index]}: the row does not fit the network: {error}",
                remedy="Correct it, or the model's feeds; the pass was not saved.",
            ) from error
