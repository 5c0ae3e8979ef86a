"""The bridge: mirrors the tree of logs into Kafka, split by split, in schedule order.

The marker log is its only memory; a file in stream.state_dir, which may vanish, has what was read of it. On any doubt
about what was committed the producer is dropped, a new one is created (which completes or aborts an open transaction),
and the marker log is read again.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Literal

from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_exception_type,
    sleep_using_event,
    stop_after_attempt,
    wait_exponential_jitter,
)

from streamtrain.config import JobConfig
from streamtrain.connectors.delivery import DeliveryFailed
from streamtrain.connectors.formats import line_parser
from streamtrain.connectors.late_files import LateFiles
from streamtrain.connectors.ledger import Ledger
from streamtrain.connectors.lookout import Lookout
from streamtrain.connectors.parse_processes import ParseProcesses, ParserDied
from streamtrain.connectors.publisher import Publisher, Work
from streamtrain.connectors.transaction_clock import Overrun
from streamtrain.connectors.tree import Listing, Tree
from streamtrain.contracts.marker import Marker, SourceFile
from streamtrain.errors import (
    BrokerUnavailable,
    ConfigError,
    DataError,
    Fenced,
    KafkaError,
    NotAllowed,
    TopicMismatch,
    TopicReplaced,
    Unreadable,
)
from streamtrain.kafka import topics
from streamtrain.kafka.clients import admin
from streamtrain.kafka.marker_history import HistoryBroken, MarkerHistory, file_of, key_of, read_on
from streamtrain.kafka.marker_log import MarkerLog, hidden_from
from streamtrain.kafka.waiting import Patience, Unreached, report_waiting, wait_for_cluster
from streamtrain.schedule import Split
from streamtrain.stopping import Stopped, StopWatch

log = logging.getLogger("streamtrain.bridge")

#: Seconds between two looks at what could not be seen, at most.
LOOK_AGAIN_S = 60.0
#: Times in a row that processes may die which parse a split.
DEATHS = 3


class _Doubt(Exception):
    """It is not known what was committed: start again from the marker log."""


class Bridge:
    """Bridges `config`'s tree into the cluster at `properties` until end_day, or until `stop` is set.

    beside: processors that other parts of the job use on this machine. on_split(marker, seconds) is called after each
    commit, on_wait(split, reason, seconds) while waiting, on_state(step) at each step, and every few seconds while a
    split is published.
    """

    def __init__(
        self,
        config: JobConfig,
        properties: Mapping[str, str],
        *,
        stop: threading.Event | None = None,
        beside: int = 0,
        on_split: Callable[[Marker, float], None] = lambda _marker, _seconds: None,
        on_wait: Callable[[Split, str, float], None] = lambda _split, _reason, _seconds: None,
        on_state: Callable[[str], None] = lambda _step: None,
    ) -> None:
        self._config = config
        self._properties = dict(properties)
        self._stop = stop or threading.Event()
        self._on_split = on_split
        self._on_wait = on_wait
        self._names = topics.TopicNames(config.stream.job)
        self._tree = Tree(config.data, config.runner.data_donefile, config.stream.ignore_files)
        reject = config.stream.unknown_slot == "reject"
        make_parser = partial(line_parser, config.line_format, config.layout, reject_unknown=reject)
        self._parse = make_parser()
        self._parsing = ParseProcesses(config.stream.parse_process_count(beside), make_parser)
        self._deaths = 0
        self._state = on_state
        self._known: int | None = None
        self._ids: topics.TopicIds | None = None
        self._lookout = Lookout(config, self._tree)
        self._late_files = LateFiles(config, self._tree, self._stop)
        self._failed_looks = 0
        self._overrun: int | None = None
        self._ledger: Ledger | None = None
        self._history: MarkerHistory | None = None
        self._group = f"{self._names.job}.bridge"

    def run(self) -> Ledger:
        """Returns when every split of the schedule is bridged, or at `stop`.

        Raises DataError (a split is bad), ConfigError (a split takes longer than a transaction may), Fenced (a newer
        bridge runs), TopicMismatch, NotAllowed, KafkaError; Stopped at a stop before the marker log was read.
        """
        self._tree.check()
        attempts = Retrying(
            retry=retry_if_exception_type(_Doubt),
            wait=wait_exponential_jitter(multiplier=0.5, max=10),
            stop=stop_after_attempt(50),
            before_sleep=_log_doubt,
            sleep=sleep_using_event(self._stop),
            reraise=True,
        )
        try:
            return attempts(self._session)
        except Stopped:
            if self._ledger is None:
                raise
            return self._ledger
        except _Doubt as doubt:
            raise KafkaError(
                f"the bridge could not settle its transaction: {doubt}", remedy="Check the broker's log."
            ) from doubt
        finally:
            self._parsing.close()
            if self._history is not None:
                self._history.close()

    def _session(self) -> Ledger:
        """From the marker log to the end, with one producer. Raises _Doubt to be called again."""
        try:
            wait_for_cluster(self._properties, None, report_waiting(log, self._on_state), self._stop)
            watch = StopWatch(self._stop)
            self._on_state("reading the marker log")
            client = admin(self._properties)
            if self._ids is not None:
                self._refuse_deleted(client, self._ids)
            ids = self._ids = watch.call(topics.ensure_topics, client, self._names, self._config.stream.partitions)
            history = self._history or MarkerHistory(
                file_of(self._config.state_dir, self._names.job), key_of(ids.splits, self._config.schedule)
            )
            self._history = history
            self._refuse_if_replaced(history)
            publisher = Publisher(
                self._properties, self._names, self._config.stream.partitions,
                watch.call(topics.message_limits, client, self._names), self._config.layout, self._parsing,
                on_rows=self._report_rows, stop=self._stop, on_wait=self._on_state,
            )  # fmt: skip
            self._wait_until_readable()
            ledger = self._ledger = self._read_log(history)
            self._known = len(ledger)
            log.info("bridged so far: %d splits", ledger.next_sequence)
            while not self._stop.is_set():
                done = ledger.next_sequence >= self._config.schedule.total_splits
                self._check_bridged(publisher, ledger, ids.samples, last=done)
                if done:
                    break
                self._bridge_next(publisher, ledger, ids.samples)
            return ledger
        except (BrokerUnavailable, DeliveryFailed) as error:
            raise _Doubt(str(error)) from error
        except HistoryBroken as error:
            if self._history is not None:
                self._history.discard(in_memory=True)
            raise _Doubt(f"what was read of the marker log before cannot be read again ({error})") from error
        except (Fenced, TopicMismatch, NotAllowed, Unreached):
            raise
        except KafkaError as error:
            raise _Doubt(str(error)) from error

    def _read_log(self, history: MarkerHistory) -> Ledger:
        """Raises Stopped, HistoryBroken."""
        patience = Patience(self._properties, self._stop, self._on_state, log)

        def look(markers: MarkerLog) -> None:
            if markers.away:
                patience.late(f"reading {self._names.splits}")
            StopWatch(self._stop).check()

        with read_on(history, self._properties, self._names.splits, self._group, look) as entries:
            ledger = Ledger(self._config.schedule, history)
            for entry in entries:
                ledger.add(entry.marker, entry.timestamp)
                history.append(entry, commit=False)
        history.commit()
        return ledger

    def _refuse_deleted(self, client: Any, ids: topics.TopicIds) -> None:
        """Raises TopicReplaced when the topics are no longer those that this bridge has written to, Stopped."""
        rights = topics.bridge_rights(self._names)
        existing = StopWatch(self._stop).call(topics.find, client, self._names, rights)
        if topics.ids_of(existing, self._names) != ids:
            raise TopicReplaced(
                f"topic {self._names.samples} or {self._names.splits} was deleted while this bridge wrote to it",
                remedy="Restore it, or start a new stream.job with a new runner.model_save_path.",
            )

    def _wait_until_readable(self) -> None:
        """Until no transaction of another producer holds back markers: they may be of splits that are bridged already.
        This bridge's own was ended with its producer's start. Raises Stopped."""
        watch = StopWatch(self._stop)
        logged = False
        while (offset := watch.call(hidden_from, self._properties, self._names.splits, self._group)) is not None:
            sentence = (
                f"waiting: an open transaction of another producer holds readers of {self._names.splits} back from "
                f"offset {offset} on; `streamtrain status` names it"
            )
            if not logged:
                log.warning(sentence)
            logged = True
            self._on_state(sentence)
            watch.sleep(1.0)

    def _refuse_if_replaced(self, history: MarkerHistory) -> None:
        """Before a new producer fences the others. After a doubt at most one marker is new, the one in doubt; more of
        them are those of another bridge, which has taken over. Raises Fenced then."""
        if self._known is not None and len(self._read_log(history)) > self._known + 1:
            raise Fenced(
                f"another bridge has published to {self._names.splits} since this one lost its connection",
                remedy="The other one continues; this one has changed nothing.",
            )

    def _on_state(self, step: str) -> None:
        """With what cannot be seen, and what no line has, so that status shows them."""
        unseen = list(self._late_files.unseen.values())
        more = f" and {len(unseen) - 1} more splits" if len(unseen) > 1 else ""
        also = [f"{unseen[0]}{more}" if unseen else "", self._parse.absent.sentence]
        self._state("; ".join([step, *filter(None, also)]))

    def _report_rows(self, split: Split, rows: int) -> None:
        self._on_state(f"publishing split {split.path}, {rows} rows so far")

    def _bridge_next(self, publisher: Publisher, ledger: Ledger, topic_id: str) -> None:
        """The next split, once it is there. What cannot be seen is looked at again, without end."""
        split = ledger.split(ledger.next_sequence)
        while not self._stop.is_set():
            try:
                found = self._wait_until_ready(split, lambda: self._check_bridged(publisher, ledger, topic_id))
                if found is not None:
                    skipped = found == "skipped"
                    paths = [] if isinstance(found, str) else [file.path for file in found.files]
                    self._publish(publisher, ledger, split, paths, topic_id, status="skipped" if skipped else "data")
                    self._failed_looks = 0
                return
            except Unreadable as error:
                self._look_again(split, error)

    def _check_bridged(self, publisher: Publisher, ledger: Ledger, topic_id: str, *, last: bool = False) -> None:
        def publish(split: Split, paths: list[str], revision: int, skip: Mapping[str, SourceFile]) -> None:
            self._publish(publisher, ledger, split, paths, topic_id, revision=revision, skip=skip)

        self._late_files.check(ledger, publish, last=last)

    def _look_again(self, split: Split, error: Unreadable) -> None:
        """Reports the error, and waits for longer each time."""
        pause = min(0.5 * 2.0 ** min(self._failed_looks, 20), LOOK_AGAIN_S)
        self._failed_looks += 1
        log.warning(
            "split %s cannot be seen, so it waits: %s (look %d; the next one in %.1f s)",
            split.path, error, self._failed_looks, pause,
        )  # fmt: skip
        self._on_state(f"looking again at split {split.path}: {error.message}")
        self._on_wait(split, error.message, 0.0)
        self._stop.wait(pause)

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
        stream = self._config.stream
        work = Work(
            split, paths, topic_id, stream.max_reject_ratio, status, revision, skip or {},
            whole_lines=stream.changed_split == "append",
        )  # fmt: skip
        try:
            entry = publisher.publish(self._tree, work, self._parse)
        except Overrun as error:
            again = self._overrun == split.sequence and error.cause == "still"
            if error.cause == "work" or again:
                raise ConfigError(
                    str(error),
                    remedy="Raise kafka.transaction.timeout.ms (the broker's transaction.max.timeout.ms is its "
                    "largest value), lower runner.split_interval in a new job, or make the parse function faster.",
                ) from error
            self._overrun = split.sequence
            raise _Doubt(str(error)) from error
        except ParserDied as error:
            self._deaths += not self._stop.is_set()  # a stop of the whole group ends them too
            if self._deaths >= DEATHS:
                raise DataError(
                    f"split {split.path}: {error}, {self._deaths} times in a row",
                    remedy="Is there too little memory? Set stream.parse_processes: 0 to parse in the bridge itself; "
                    "nothing of this split was published.",
                ) from error
            raise _Doubt(str(error)) from error
        self._overrun, self._deaths = None, 0
        ledger.add(entry.marker, time.time())
        self._known = len(ledger)
        if self._history is not None:
            self._history.append(entry)
        self._on_split(entry.marker, time.monotonic() - begin)

    def _wait_until_ready(self, split: Split, meanwhile: Callable[[], None]) -> Listing | Literal["skipped"] | None:
        """The split's files once it is complete; None when stopped. Looks at it every data_sleep_second.

        Raises Unreadable: a split that cannot be seen is not missing, and its time of grace begins anew.
        """
        begin = time.monotonic()
        stream = self._config.stream
        while not self._stop.is_set():
            listing, reason = self._lookout.look(split)
            if listing is not None and not reason:
                return listing
            self._failed_looks = 0
            now = time.monotonic()
            begin = now if listing is not None else begin
            self._on_state(f"waiting for split {split.path} ({reason})")
            if stream.missing_split == "skip" and listing is None and now - begin >= stream.missing_split_grace_second:
                log.warning("split %s is missing (%s): skipped after %.0f s", split.path, reason, now - begin)
                return "skipped"
            self._on_wait(split, reason, now - begin)
            meanwhile()
            if self._history is not None:
                self._history.commit()
            self._stop.wait(self._config.runner.data_sleep_second)
        return None


def _log_doubt(state: RetryCallState) -> None:
    error = state.outcome.exception() if state.outcome else None
    log.warning("%s; starting again from the marker log", error)
