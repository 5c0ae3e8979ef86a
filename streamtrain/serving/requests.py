"""The body of a request to /predict: from bytes to rows, or the answer that refuses it. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from streamtrain.contracts.json_codec import given_twice
from streamtrain.contracts.paths import quoted
from streamtrain.serving.limits import FEATURE_BYTES, Limits

FORM = '{"rows": ["7:2 12:3", ..]}'


class Refused(Exception):
    """A request is not answered with predictions. status: of HTTP; reason: shows little of what was sent."""

    def __init__(self, status: int, reason: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason
        self.headers = dict(headers or {})


def check_headers(headers: Mapping[str, str], limits: Limits) -> None:
    """Before the body is read; keys in lower case. Raises Refused: 415 for what is not JSON, 413 for too long a
    body."""
    media, *_ = headers.get("content-type", "application/json").split(";")
    media = media.strip().lower()
    if media != "application/json" and not (media.startswith("application/") and media.endswith("+json")):
        raise Refused(
            415,
            f"the header Content-Type is {quoted(media)}, /predict takes application/json (curl: "
            "-H 'Content-Type: application/json')",
        )
    encoding = headers.get("content-encoding", "identity").strip().lower()
    if encoding not in ("identity", ""):
        raise Refused(415, f"the header Content-Encoding is {quoted(encoding)}, /predict takes bodies as they are")
    length = headers.get("content-length", "")
    if length.isdecimal() and int(length[:20]) > limits.body_bytes:
        raise too_long(limits)


def too_long(limits: Limits) -> Refused:
    return Refused(413, f"the body has more than {limits.body_bytes} bytes (--max-body-bytes): send fewer rows at once")


def read_rows(body: bytes, limits: Limits) -> list[str | dict[str, Any]]:
    """The rows as they were sent, unparsed. Raises Refused, 422: it is no JSON object of this form, or too much."""
    try:
        document: Any = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise Refused(422, f"the body is not JSON: {error}") from error
    if not isinstance(document, dict) or "rows" not in document:
        raise Refused(422, f"the body is not an object with the key rows: {FORM}")
    if others := [key for key in document if key != "rows"]:
        raise Refused(422, f"the body has the key {quoted(others[0])}, which /predict does not know: {FORM}")
    if body.count(b'"rows"') > 1 and (problem := given_twice(body)):
        raise Refused(422, f"{problem}: {FORM}")
    rows = document["rows"]
    if not isinstance(rows, list):
        raise Refused(422, f"rows is not a list: {FORM}")
    if len(rows) > limits.rows:
        raise Refused(422, f"the request has {len(rows)} rows, at most {limits.rows} are taken (--max-rows)")
    for number, row in enumerate(rows, 1):
        if not isinstance(row, str | dict):
            raise Refused(422, f"row {number} is neither a text nor an object: {FORM}")
        features = row.count(":") + row.count(",") if isinstance(row, str) else sum(map(_numbers, row.values()))
        if features > limits.features:
            raise Refused(
                422, f"row {number} has {features} features, at most {limits.features} are taken (--max-features)"
            )
        if isinstance(row, str) and len(row) > FEATURE_BYTES * limits.features:
            raise Refused(
                422,
                f"row {number} has {len(row)} characters, at most {FEATURE_BYTES} for each of {limits.features} "
                "features are taken (--max-features)",
            )
    return rows


def _numbers(value: object) -> int:
    """Of a value by name, known or not: feasigns and floats alike."""
    return len(value) if isinstance(value, list) else 1
