"""The bridge: mirrors the tree of logs into Kafka, split by split, in schedule order.

The marker log is its only memory. On any doubt about what was committed the producer is dropped, a new one is created
(which completes or aborts an open transaction), and the marker log is read again.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from typing import Literal

from tenacity import RetryCallState, Retrying, retry_if_exception_type, stop_after_attempt, wait_exponential_jitter

from streamtrain.config import JobConfig
from streamtrain.connectors.formats import LineParser, Row, line_parser
from streamtrain.connectors.ledger import Ledger
from streamtrain.connectors.publisher import DeliveryFailed, Publisher, Work
from streamtrain.connectors.tree import FileState, Tree
from streamtrain.contracts.marker import Marker, SourceFile
from streamtrain.errors import BrokerUnavailable, DataError, Fenced, KafkaError, TopicMismatch, TopicReplaced
from streamtrain.files import sha256
from streamtrain.kafka import topics
from streamtrain.kafka.clients import admin, report_waiting, wait_for_cluster
from streamtrain.kafka.marker_log import MarkerLog
from streamtrain.schedule import Split

log = logging.getLogger("streamtrain.bridge")


class _Doubt(Exception):
    """It is not known what was committed: start again from the marker log."""


class Bridge:
    """Bridges `config`'s tree into the cluster at `properties` until end_day, or until `stop` is set.

    on_split(marker, seconds) is called after each commit, on_wait(split, reason, seconds) while waiting, on_state(step)
    at each step, on_row() before each row, as a sign of life.
    """

    def __init__(
        self,
        config: JobConfig,
        properties: Mapping[str, str],
        *,
        stop: threading.Event | None = None,
        on_split: Callable[[Marker, float], None] = lambda _marker, _seconds: None,
        on_wait: Callable[[Split, str, float], None] = lambda _split, _reason, _seconds: None,
        on_state: Callable[[str], None] = lambda _step: None,
        on_row: Callable[[], None] | None = None,
    ) -> None:
        self._config = config
        self._properties = dict(properties)
        self._stop = stop or threading.Event()
        self._on_split = on_split
        self._on_wait = on_wait
        self._names = topics.TopicNames(config.stream.job)
        self._tree = Tree(config.data_dir, config.runner.data_donefile)
        parse = line_parser(config.stream.format, config.slots, reject_unknown=config.stream.unknown_slot == "reject")
        self._parse = parse if on_row is None else _beating(parse, on_row)
        self._on_state = on_state
        self._known: int | None = None
        self._ids: topics.TopicIds | None = None
        self._next_check = 0.0

    def run(self) -> Ledger:
        """Returns when every split of the schedule is bridged, or at `stop`.

        Raises DataError (a split is bad), Fenced (a newer bridge runs), TopicMismatch, KafkaError.
        """
        self._tree.check()
        attempts = Retrying(
            retry=retry_if_exception_type(_Doubt),
            wait=wait_exponential_jitter(multiplier=0.5, max=10),
            stop=stop_after_attempt(50),
            before_sleep=_log_doubt,
            reraise=True,
        )
        try:
            return attempts(self._session)
        except _Doubt as doubt:
            raise KafkaError(
                f"the bridge could not settle its transaction: {doubt}", remedy="Check the broker's log."
            ) from doubt

    def _session(self) -> Ledger:
        """From the marker log to the end, with one producer. Raises _Doubt to be called again."""
        try:
            wait_for_cluster(self._properties, None, report_waiting(log, self._on_state))
            self._on_state("reading the marker log")
            client = admin(self._properties)
            if self._ids is not None and self._ids != topics.ids_of(topics.find(client, self._names), self._names):
                raise TopicReplaced(
                    f"topic {self._names.samples} or {self._names.splits} was deleted while this bridge wrote to it",
                    remedy="Restore it, or start a new stream.job with a new runner.model_save_path.",
                )
            ids = self._ids = topics.ensure_topics(client, self._names, self._config.stream.partitions)
            self._refuse_if_replaced()
            publisher = Publisher(
                self._properties, self._names, self._config.stream.job, self._config.stream.partitions
            )
            ledger = self._read_log()
            self._known = len(ledger)
            log.info("bridged so far: %d splits", ledger.next_sequence)
            while not self._stop.is_set():
                self._check_bridged(publisher, ledger, ids.samples)
                if ledger.next_sequence >= self._config.schedule.total_splits:
                    break
                split = ledger.split(ledger.next_sequence)
                status = self._wait_until_ready(split, lambda: self._check_bridged(publisher, ledger, ids.samples))
                if status is not None:
                    paths = [] if status == "skipped" else [f.path for f in self._tree.files(split)]
                    self._publish(publisher, ledger, split, paths, ids.samples, status=status)
            return ledger
        except (BrokerUnavailable, DeliveryFailed) as error:
            raise _Doubt(str(error)) from error
        except (Fenced, TopicMismatch, DataError):
            raise
        except KafkaError as error:
            raise _Doubt(str(error)) from error

    def _read_log(self) -> Ledger:
        with MarkerLog(self._properties, self._names.splits, f"{self._config.stream.job}.bridge") as markers:
            return Ledger.replay(self._config.schedule, markers.to_end())

    def _refuse_if_replaced(self) -> None:
        """Before a new producer fences the others. After a doubt at most one marker is new, the one in doubt; more of
        them are those of another bridge, which has taken over. Raises Fenced then."""
        if self._known is not None and len(self._read_log()) > self._known + 1:
            raise Fenced(
                f"another bridge has published to {self._names.splits} since this one lost its connection",
                remedy="The other one continues; this one has changed nothing.",
            )

    def _publish(
        self,
        publisher: Publisher,
        ledger: Ledger,
        split: Split,
        paths: list[str],
        topic_id: str,
        *,
        status: Literal["data", "skipped"] = "data",
        revision: int = 0,
        skip: Mapping[str, SourceFile] | None = None,
    ) -> None:
        begin = time.monotonic()
        self._on_state(f"publishing split {split.path}")
        work = Work(split, paths, topic_id, self._config.stream.max_reject_ratio, status, revision, skip or {})
        marker = publisher.publish(self._tree, work, self._parse)
        ledger.add(marker, time.time())
        self._known = len(ledger)
        self._on_split(marker, time.monotonic() - begin)

    def _wait_until_ready(self, split: Split, meanwhile: Callable[[], None]) -> Literal["data", "skipped"] | None:
        """The status of the split's marker; None when stopped. Checks the split every data_sleep_second."""
        begin = time.monotonic()
        reason = self._config.runner.data_donefile or "its directory"
        while not self._stop.is_set():
            if self._tree.is_ready(split):
                return "data"
            waited = time.monotonic() - begin
            self._on_state(f"waiting for split {split.path} (no {reason})")
            if self._config.stream.missing_split == "skip" and waited >= self._config.stream.missing_split_grace_second:
                log.warning("split %s is missing (no %s): skipped after %.0f s", split.path, reason, waited)
                return "skipped"
            self._on_wait(split, f"no {reason}", waited)
            meanwhile()
            self._stop.wait(self._config.runner.data_sleep_second)
        return None

    def _check_bridged(self, publisher: Publisher, ledger: Ledger, topic_id: str) -> None:
        """Checks whether files of bridged splits changed, as stream.changed_split says; at most twice a minute.

        Raises DataError for a change that is not allowed.
        """
        policy = self._config.stream.changed_split
        if policy == "ignore" or time.monotonic() < self._next_check:
            return
        for sequence in list(ledger.splits):
            split = ledger.split(sequence)
            changed = [f for f in ledger.suspects(sequence, self._tree.files(split)) if self._differs(ledger, split, f)]
            if not changed:
                continue
            if policy == "fail":
                names = ", ".join(self._tree.name(split, f.path) for f in changed[:3])
                raise DataError(
                    f"split {split.path} changed after it was bridged: {names}",
                    remedy="Revert the change, or set stream.changed_split to append (new rows only) or ignore.",
                )
            self._append(publisher, ledger, split, changed, topic_id)
        self._next_check = time.monotonic() + 30

    def _differs(self, ledger: Ledger, split: Split, file: FileState) -> bool:
        """Whether a file's bytes changed. They are compared when its size did not; an unchanged file is not compared
        again."""
        bridged = ledger.splits[split.sequence]
        before = bridged.files.get(file.path)
        if before is None or before.bytes != file.bytes:
            return True
        with self._tree.open(split, file.path) as raw:
            current = sha256(raw)
        if current == before.sha256:
            bridged.timestamp = max(bridged.timestamp, file.modified)
            return False
        return True

    def _append(
        self, publisher: Publisher, ledger: Ledger, split: Split, changed: list[FileState], topic_id: str
    ) -> None:
        bridged = ledger.splits[split.sequence]
        skip = {f.path: bridged.files[f.path] for f in changed if f.path in bridged.files}
        for path, before in skip.items():
            grown = next(f for f in changed if f.path == path)
            if path.endswith(".gz") or grown.bytes <= before.bytes:
                raise DataError(
                    f"{self._tree.name(split, path)} was rewritten after it was bridged: its rows cannot be withdrawn",
                    remedy="Restore it; stream.changed_split: append accepts new files, and plain files that grew.",
                )
        log.warning("split %s: %d files are new or grew: appended", split.path, len(changed))
        self._publish(
            publisher, ledger, split, [f.path for f in changed], topic_id,
            revision=bridged.revision + 1, skip=skip,
        )  # fmt: skip


def _beating(parse: LineParser, on_row: Callable[[], None]) -> LineParser:
    def parse_and_beat(line: bytes) -> Row:
        on_row()
        return parse(line)

    return parse_and_beat


def _log_doubt(state: RetryCallState) -> None:
    error = state.outcome.exception() if state.outcome else None
    log.warning("%s; starting again from the marker log", error)
