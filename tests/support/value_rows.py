"""A job whose rows have all that rows may have: labels of each kind, floats, a weight, slots with names."""

from pathlib import Path
from typing import Any

import streamtrain
from streamtrain.config import JobConfig
from tests.support.jobs import write_config

LABELS = {"click": "binary", "dwell": "float", "stars": "int"}
DENSE = {"price": 1, "vec": 2}
FEATURES = {"user": 2, "items": 3, "bucket": 4, "cross": 5, "ready": 6}
COLUMNS: dict[str, Any] = {
    "labels": {"click": {"field": "action", "in": ["click", "buy", 1]}, "stars": {"field": "stars", "default": 0}},
    "dense": {"vec": {"field": "vec", "split": " ", "default": 0.5}},
    "weight": {"field": "w", "default": 1},
    "fields": {
        "user": 2,
        "items": {"slot": 3, "hash_as": 2, "split": "|", "default": "none"},
        "bucket": {"slot": 4, "field": "price", "buckets": [0, 1.5, 20]},
        "cross": {"slot": 5, "of": ["user", "items"], "split": "|"},
        "ready": {"slot": 6, "feasign": True},
    },
}
HEADER = ["action", "dwell", "stars", "price", "vec", "w", "user", "items", "ready", "unused"]


def value_config(folder: Path, line_format: str, **stream: Any) -> JobConfig:
    """stream: keys that are changed; None takes one away."""
    given: dict[str, Any] = {
        "job": "values", "format": line_format, "labels": LABELS, "dense": DENSE, "weight": "w", "features": FEATURES
    }  # fmt: skip
    if line_format in ("csv", "tsv", "json"):
        given = {**given, "columns": COLUMNS, "features": None}
    folder.mkdir(parents=True, exist_ok=True)
    kept = {key: value for key, value in {**given, **stream}.items() if value is not None}
    return write_config(folder, "values", {}, stream=kept)


def own_format(line: bytes) -> Any:
    """A line of Python: what the function returns."""
    return eval(line, {"Row": streamtrain.Row})  # a test's own lines


def in_batches(lines: list[bytes]) -> list[Any]:
    def one(line: bytes) -> Any:
        try:
            return own_format(line)
        except Exception as error:
            return error

    return [one(line) for line in lines]


in_batches.batch = True  # type: ignore[attr-defined]
