"""The marker log once more: which source files, with which bytes, a checkpoint was made of. For the recount alone.

It decodes the messages by itself: Avro's single-object encoding, of the schemas that lie beside the contracts.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import confluent_kafka as ck
import fastavro
from confluent_kafka.admin import AdminClient

from streamtrain.errors import DataError

_SCHEMAS = Path(__file__).parent.parent / "contracts"
#: 2: of a job whose rows have labels, floats or a weight.
_FORMATS = (b"1", b"2")
_ANSWER_S = 10.0
_CONSUMER = {
    "isolation.level": "read_committed",
    "enable.auto.commit": False,
    "auto.offset.reset": "error",
    "enable.partition.eof": True,
}


@dataclass(frozen=True)
class Source:
    """A source file as bridged: path below its split, its first `bytes` bytes, the rows that this marker adds."""

    path: str
    bytes: int
    rows: int
    sha256: str


@dataclass(frozen=True)
class Entry:
    """A marker at its offset. split: day/HHMM. written: seconds since 1970."""

    offset: int
    split: str
    sequence: int
    revision: int
    rows: int
    rejected: int
    files: tuple[Source, ...]
    written: float = 0.0


@dataclass(frozen=True)
class Log:
    """The marker log. entries: None when it could not be read; `problem` says why. topic_id: '' when not known."""

    entries: tuple[Entry, ...] | None
    problem: str = ""
    topic_id: str = ""


def decode(
    offset: int, message: bytes, written: float = 0.0, headers: Iterable[tuple[str, bytes | None]] = ()
) -> Entry:
    """headers: `schema` is the message's, where a newer version has added fields; they are ignored.

    Raises DataError for a message that is not a marker, or of a newer format.
    """
    given = dict(headers)
    if (version := given.get("format") or _FORMATS[0]) not in _FORMATS:
        known = ", ".join(map(repr, _FORMATS))
        raise DataError(f"the marker log has at offset {offset} a marker of format {version!r}, known are {known}")
    fingerprint = message[2:10] if message[:2] == b"\xc3\x01" else b""
    schema = _known().get(fingerprint) or _given(given.get("schema"), fingerprint)
    if schema is None:
        raise DataError(f"the marker log has at offset {offset} a message of another format")
    body = BytesIO(message[10:])
    try:
        record: Any = fastavro.schemaless_reader(body, schema, None)
        files = tuple(
            Source(str(f["path"]), int(f["bytes"]), int(f["rows"]), str(f["sha256"])) for f in record["files"]
        )
        entry = Entry(
            offset, f"{record['day']}/{record['time']}", record["sequence"], record["revision"], record["rows"],
            record["rejected"], files, written,
        )  # fmt: skip
    except Exception as error:  # fastavro lets through whatever a cut or foreign body causes
        raise DataError(f"the marker log has at offset {offset} a message that does not decode: {error!r}") from error
    if body.read(1):
        raise DataError(f"the marker log has at offset {offset} a message with bytes after its end")
    return entry


def _known() -> dict[bytes, Any]:
    """The schemas of markers by fingerprint."""
    if not _PARSED:
        for path in _SCHEMAS.glob("SplitDone*.avsc"):
            schema: Any = fastavro.parse_schema(json.loads(path.read_text("utf-8")))
            _PARSED[_fingerprint(schema)] = schema
    return _PARSED


def _given(text: bytes | None, fingerprint: bytes) -> Any:
    """The schema of a marker's header, if it is that of its message; else None."""
    try:
        schema: Any = fastavro.parse_schema(json.loads(text or b""))
        return schema if _fingerprint(schema) == fingerprint else None
    except Exception:  # fastavro lets through whatever a foreign text causes
        return None


def _fingerprint(schema: Any) -> bytes:
    canonical = fastavro.schema.to_parsing_canonical_form(schema)
    return bytes.fromhex(fastavro.schema.fingerprint(canonical, "CRC-64-AVRO"))


_PARSED: dict[bytes, Any] = {}


def read(properties: Mapping[str, str], job: str) -> Log:
    """All markers of the job. Never raises for what Kafka does: `problem` has it."""
    topic = f"{job}.splits"
    shared = {**properties, "log_level": 0}
    try:
        topic_id = _topic_id(AdminClient(shared), topic)
        consumer = ck.Consumer({**shared, **_CONSUMER, "group.id": f"{job}.recount"})
        try:
            return Log(tuple(_read(consumer, topic)), topic_id=topic_id)
        finally:
            consumer.close()
    except ck.KafkaException as error:
        return Log(None, f"the marker log {topic} cannot be read: {_text(error)}")
    except (DataError, ValueError, TypeError) as error:
        return Log(None, f"the marker log {topic} cannot be read: {error}")


def _topic_id(client: Any, topic: str) -> str:
    """Raises KafkaException when the cluster does not answer or the topic does not exist."""
    client.list_topics(timeout=_ANSWER_S / 2)  # describe_topics alone waits long for a cluster that is away
    found = client.describe_topics(ck.TopicCollection([topic]), request_timeout=_ANSWER_S)
    return str(found[topic].result().topic_id)


def _read(consumer: Any, topic: str) -> Iterable[Entry]:
    first, _ = consumer.get_watermark_offsets(ck.TopicPartition(topic, 0), timeout=_ANSWER_S)
    if first:
        raise DataError(f"its first {first} offsets were deleted")
    consumer.assign([ck.TopicPartition(topic, 0, 0)])
    while True:
        message = consumer.poll(_ANSWER_S)
        if message is None:
            raise DataError(f"nothing came for {_ANSWER_S:.0f} s")
        error = message.error()
        if error is None:
            written = message.timestamp()[1] / 1000
            yield decode(message.offset(), message.value() or b"", written, message.headers() or ())
        elif error.code() == ck.KafkaError._PARTITION_EOF:
            return
        elif not error.retriable() and error.code() not in (ck.KafkaError._TRANSPORT, ck.KafkaError._ALL_BROKERS_DOWN):
            raise ck.KafkaException(error)


def _text(error: ck.KafkaException) -> str:
    cause = error.args[0]
    return f"{cause.str()} ({cause.name()})" if hasattr(cause, "name") else str(error)
