"""Why Kafka cannot be reached: what librdkafka says of it, sorted. Pure.

transient: it is waited for without end, with its reason: what is at fault may be mended while the job waits.
final: no retry mends it. unknown: neither is certain, so it is waited for no longer than LIMIT_S.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal, TypeAlias

import confluent_kafka as ck

Kind: TypeAlias = Literal["transient", "final", "unknown"]

#: Seconds for which nothing but unknown causes is waited for.
LIMIT_S = 60.0
#: Codes of a login that the broker refuses.
LOGIN = {
    ck.KafkaError._AUTHENTICATION,
    ck.KafkaError.SASL_AUTHENTICATION_FAILED,
    ck.KafkaError.UNSUPPORTED_SASL_MECHANISM,
    ck.KafkaError.ILLEGAL_SASL_STATE,
}
#: What to do about these.
LOGIN_REMEDY = "Check sasl.mechanism, sasl.username and sasl.password under kafka:."
#: What a text begins with: the broker, "ssl://host:port/number" or ".../bootstrap".
_BROKER = re.compile(r"(?:\w+://)?(?P<address>\S+:\d+)/(?:\w+|-?\d+): ")
_AFTER = re.compile(r" \(after \d+ms in state \w+.*$")
_ALERT = re.compile(r"alert (?P<alert>[\w ]+?)(?:: SSL alert number \d+)?$")
#: Alerts of TLS by which a broker asks for a client's certificate, or refuses the one that it got.
_WANTED = ("certificate required", "bad certificate", "no certificate")
_REFUSED = (
    "unknown ca",
    "certificate unknown",
    "certificate expired",
    "certificate revoked",
    "unsupported certificate",
)
_PLAIN = (
    "wrong version number",
    "PLAINTEXT broker listener",
    "http request",
    "packet length too long",
    "unexpected eof",
)
_SECURITY = "Correct kafka.security.protocol, or the port in kafka.bootstrap.servers."
_CLIENT = "Set ssl.certificate.location and ssl.key.location under kafka: to a certificate that the broker accepts."
#: The reason while librdkafka has reported none; and when it has only reported that no broker is left: measured, of
#: connections that the other side closes, and not of a port that says nothing.
SILENT = "no answer so far (timeout)"
CLOSED = (
    "what listens there closes the connection: it may want TLS or a login (kafka.security.protocol), or is starting"
)


@dataclass(frozen=True)
class Cause:
    """reason: for people. address: host:port of the broker, "" where it is not known. verified: False for a certificate
    that librdkafka refuses without saying why: see handshake."""

    kind: Kind
    reason: str
    address: str = ""
    remedy: str = ""
    verified: bool = True


def sort(code: int, text: str) -> Cause | None:
    """Of an error that librdkafka reports by error_cb; None for one that only says that no broker answers."""
    if code == ck.KafkaError._ALL_BROKERS_DOWN:
        return None
    found = _BROKER.match(text)
    address = found["address"] if found else ""
    body = text[found.end() :] if found else text
    after = _AFTER.search(body)
    body = body[: after.start()] if after else body
    if code in LOGIN:
        return Cause("final", f"authentication failed: {body}", address, LOGIN_REMEDY)
    if code == ck.KafkaError._RESOLVE:
        host = address.rpartition(":")[0] or body
        return Cause("transient", f"the name {host} does not resolve: {body.rpartition(': ')[2]}", address)
    if _is_tls(code, body):
        return _of_tls(body, address)
    if code == ck.KafkaError._BAD_MSG:
        reason = f"what answers there does not speak Kafka, or wants TLS: {body}"
        return Cause("unknown", reason, address, _SECURITY)
    if "Connection refused" in body:
        return Cause("transient", "the connection was refused: nothing listens there", address)
    if code in (ck.KafkaError._TIMED_OUT, ck.KafkaError._TIMED_OUT_QUEUE) or "timed out" in body:
        return Cause("transient", f"timeout: {body}", address)
    if code == ck.KafkaError._TRANSPORT:
        return Cause("transient", body, address)
    return Cause("unknown", body, address, "Check the properties under kafka:, and the broker's log.")


def _is_tls(code: int, body: str) -> bool:
    return code == ck.KafkaError._SSL or "SSL routines" in body or "SSL handshake" in body


def _of_tls(body: str, address: str) -> Cause:
    """Alerts are the broker's refusal, all else is ours."""
    if (alert := _ALERT.search(body)) is not None:
        said = alert["alert"]
        if said in (*_WANTED, *_REFUSED):
            does = "wants a client certificate that it knows" if said in _WANTED else "refuses the client certificate"
            return Cause("final", f"TLS handshake: the broker {does} ({said})", address, _CLIENT)
        reason = f"TLS handshake: the broker refuses it ({said}): it wants a client certificate, or other versions or "
        return Cause("unknown", f"{reason}ciphers of TLS", address, _CLIENT)
    if "certificate verify failed" in body:
        reason = "TLS handshake: the broker's certificate cannot be verified"
        return Cause("transient", reason, address, "Check ssl.ca.location under kafka:.", verified=False)
    if any(sign in body for sign in _PLAIN):
        return Cause("unknown", "TLS handshake: the port does not speak TLS (a plaintext port?)", address, _SECURITY)
    return Cause("unknown", f"TLS handshake: {body.removeprefix('SSL handshake failed: ')}", address, _SECURITY)
