"""Small reports that the trainer leaves below model_save_path, for `status`, the demo and serving.

    consistency.json   {ok, model, digest, rows, tolerance, variables, worst, time} or {ok, digest, error, time}
    upload.json        {url, problem, time}; problem is empty when all is uploaded

Only the newest report is kept. Readers ignore fields that they do not know.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson

from streamtrain.errors import Unreadable
from streamtrain.files import read_bytes

CONSISTENCY = "consistency.json"
UPLOAD = "upload.json"


def encode(report: dict[str, Any]) -> bytes:
    return orjson.dumps(report) + b"\n"


def decode(data: bytes | None) -> dict[str, Any] | None:
    """None when there is no report, or it is not a JSON object."""
    try:
        report = orjson.loads(data or b"null")
    except orjson.JSONDecodeError:
        return None
    return report if isinstance(report, dict) else None


def read(root: Path, name: str) -> dict[str, Any] | None:
    """The newest report of that name below `root`; None when there is none, or it cannot be read."""
    try:
        return decode(read_bytes(root / name))
    except (OSError, Unreadable):
        return None
