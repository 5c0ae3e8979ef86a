"""Waiting for Kafka: named by address, reason and since when, and ended by a stop."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

import confluent_kafka as ck

from streamtrain.contracts import phases
from streamtrain.errors import BrokerUnavailable, KafkaError, NotAllowed
from streamtrain.kafka import causes, handshake
from streamtrain.kafka.causes import Cause
from streamtrain.kafka.clients import AWAY_REMEDY, ClusterInfo, asking_client, translate
from streamtrain.stopping import GRACE_S, Stopped, StopWatch

log = logging.getLogger("streamtrain.kafka")

#: Seconds that one question may take, after which the wait is first reported, and between two lines of the log.
ASK_S, FIRST_S, LOG_S = 5.0, 0.8, 10.0
#: Seconds between two handshakes that ask why a certificate is refused.
HANDSHAKE_S = 5.0


class Unreached(KafkaError):
    """For causes.LIMIT_S nothing but causes that are neither transient nor final: waiting longer is no use."""


class Waiting:
    """A wait for Kafka that has begun: asks for the reason with a client of its own.

    sentence() is the same as long as the reason is, so that `status` and the log show one wait as one.
    """

    def __init__(self, properties: Mapping[str, str]) -> None:
        """Raises ConfigError."""
        self._properties = properties
        self._servers = properties.get("bootstrap.servers", "(no bootstrap.servers)")
        self._lock = threading.Lock()
        self._causes: dict[str, Cause] = {}
        self._begin = time.monotonic()
        self._since = time.strftime("%Y-%m-%d %H:%M:%S")
        self._down = False
        self._only_unknown: float | None = None
        self._looked: dict[str, tuple[float, str | None]] = {}
        self.client = asking_client(properties, self._note)

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._begin

    def sentence(self) -> str:
        """Address, reason, since when."""
        return f"{phases.WAITING} Kafka at {self._servers} since {self._since}: {self.reason()}"

    def reason(self) -> str:
        """The last cause of each broker."""
        found = self._found()
        if len(found) == 1 and found[0].address in ("", self._servers):
            return found[0].reason
        return "; ".join(f"{c.address}: {c.reason}" if c.address else c.reason for c in found) or (
            causes.CLOSED if self._down else causes.SILENT
        )

    def refusal(self, what: str) -> KafkaError | None:
        """The error that ends the wait: of a final cause, or of unknown ones alone over LIMIT_S. what: is done."""
        found = self._found()
        for cause in found:
            if cause.kind == "final":
                at = f", at {cause.address}" if cause.address and cause.address != self._servers else ""
                return NotAllowed(f"{what}{at}: {cause.reason}", remedy=cause.remedy)
        if not found or any(cause.kind != "unknown" for cause in found):
            self._only_unknown = None
            return None
        self._only_unknown = self._only_unknown or time.monotonic()
        if time.monotonic() - self._only_unknown < causes.LIMIT_S:
            return None
        return Unreached(f"{what}: {self.reason()}, for {causes.LIMIT_S:.0f} s", remedy=found[0].remedy)

    def answers(self) -> bool:
        """Whether the cluster answers within a second."""
        try:
            self.client.list_topics(timeout=1.0)
        except ck.KafkaException:
            return False
        return True

    def remedy(self) -> str:
        own = [cause.remedy for cause in self._found() if cause.remedy]
        return own[0] if own else AWAY_REMEDY

    def _found(self) -> list[Cause]:
        self.client.poll(0)  # runs _note
        with self._lock:
            found = list(self._causes.values())
        return [cause if cause.verified else self._verified(cause) for cause in found]

    def _verified(self, cause: Cause) -> Cause:
        """With the reason why the certificate is refused."""
        at, why = self._looked.get(cause.address, (0.0, None))
        if cause.address and (not at or time.monotonic() - at > HANDSHAKE_S):
            why = handshake.refusal(cause.address, self._properties)
            self._looked[cause.address] = (time.monotonic(), why)
        if why is None:
            return cause
        remedy = (
            cause.remedy if "unknown CA" in why else "Correct the broker's certificate, or the name that is asked for."
        )
        return Cause(cause.kind, f"TLS handshake: {why}", cause.address, remedy)

    def _note(self, error: Any) -> None:
        cause = causes.sort(error.code(), error.str())
        if cause is None:
            self._down = True
            return
        with self._lock:
            known = self._causes.get(cause.address)
            if known is None or not _is_echo(known, cause):
                self._causes[cause.address] = cause


def _is_echo(known: Cause, cause: Cause) -> bool:
    """A refused handshake is also reported as a mere disconnection."""
    if known.kind == "final":
        return cause.kind != "final"
    return known.reason.startswith("TLS") and cause.reason.startswith("Disconnected")


class Patience:
    """Around the calls of a client that are repeated until they succeed.

    on_wait(sentence) while they do not, on_answer() once they do again. After a stop a call that is under way has
    GRACE_S to end.
    """

    def __init__(
        self,
        properties: Mapping[str, str],
        stop: threading.Event | None,
        on_wait: Callable[[str], None],
        to: logging.Logger = log,
        on_answer: Callable[[], None] = lambda: None,
    ) -> None:
        self._properties = properties
        self._watch = StopWatch(stop)
        self._report = report_waiting(to, on_wait)
        self._on_answer = on_answer
        self._told = False
        self._waiting: Waiting | None = None

    def late(self, what: str) -> None:
        """A slice of a call is over without an answer: reports why. Raises Stopped after GRACE_S of a stop, and what
        Waiting.refusal() gives."""
        self._watch.check(GRACE_S)
        self._waiting = self._waiting or Waiting(self._properties)
        if self._waiting.seconds < FIRST_S:
            return
        self._told = True
        self._report(self._waiting.sentence())
        error = self._waiting.refusal(what)
        if error is not None:
            raise error

    def pause(self, seconds: float) -> None:
        """Between two calls. Raises Stopped at once at a stop."""
        self._watch.sleep(seconds)

    def check(self) -> None:
        """For work that takes long without a wait. Raises Stopped after GRACE_S of a stop."""
        self._watch.check(GRACE_S)

    def answered(self) -> None:
        """The call has succeeded."""
        self._waiting = None
        if self._told:
            self._told = False
            self._on_answer()


def wait_for_cluster(
    properties: Mapping[str, str],
    timeout_s: float | None,
    on_wait: Callable[[str], None] | None = None,
    stop: threading.Event | None = None,
) -> ClusterInfo:
    """Asks until the cluster answers; on_wait(sentence) from FIRST_S on, again and again: the sentence names the
    address, the reason and since when. timeout_s: None waits for ever.

    Raises Stopped at a stop, BrokerUnavailable naming address and reason, NotAllowed when the cluster refuses us
    (login, client certificate), Unreached for what is neither after causes.LIMIT_S.
    """
    watch = StopWatch(stop)
    waiting = Waiting(properties)
    what = f"asking {properties.get('bootstrap.servers', 'Kafka')}"

    def report() -> None:
        if on_wait is not None and waiting.seconds >= FIRST_S:
            on_wait(waiting.sentence())

    while True:
        left = ASK_S if timeout_s is None else min(ASK_S, timeout_s - waiting.seconds)
        try:
            cluster = watch.call(waiting.client.list_topics, None, max(0.1, left), tick=report)
            return ClusterInfo(cluster.cluster_id or "", len(cluster.brokers))
        except ck.KafkaException as error:
            refused = waiting.refusal(what)
            if refused is not None:
                raise refused from error
            translated = translate(error, what)
            if not isinstance(translated, BrokerUnavailable):
                raise translated from error
            if timeout_s is not None and waiting.seconds >= timeout_s:
                raise BrokerUnavailable(f"{what}: {waiting.reason()}", remedy=waiting.remedy()) from error
        if on_wait is not None:
            on_wait(waiting.sentence())
        watch.sleep(0.2)


def report_waiting(to: logging.Logger, on_wait: Callable[[str], None]) -> Callable[[str], None]:
    """For wait_for_cluster: hands each sentence to on_wait, and logs it when it changes, and every LOG_S."""
    last: list[Any] = ["", 0.0]

    def report(sentence: str) -> None:
        on_wait(sentence)  # status has what the log has
        now = time.monotonic()
        if sentence != last[0] or now - last[1] >= LOG_S:
            last[:] = [sentence, now]
            to.warning("%s", sentence)

    return report


__all__ = ["Patience", "Stopped", "Waiting", "report_waiting", "wait_for_cluster"]
