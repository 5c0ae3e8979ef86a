"""Paddle's failures while it predicts or trains, as ours.

While it trains, Paddle raises a SystemError that says nothing, and writes the reason to the process's standard output:
a worker's is log/workerlog.N, which is read again from where it was before the call. While the forward half predicts,
the error says it.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
from collections.abc import Iterator

from streamtrain.engine.soundness import REMEDY
from streamtrain.errors import BadModel, TrainingError

#: Bytes of output that are searched for the reason: each failing batch is printed with all of its values.
MOST = 4 << 20
_REASON = re.compile(rb"^\s*(\w+Error: .{1,400})$", re.MULTILINE)
_HINT = re.compile(rb"\[Hint: (.{1,300}?)\]")
_OPERATOR = re.compile(rb"\[operator < (\w+) > error\]")
#: What Paddle's auc says of a prediction that is not a number.
_NOT_A_NUMBER = re.compile(rb"predict_data:\s*-?(nan|inf)|predict data must", re.IGNORECASE)


@contextlib.contextmanager
def translated(doing: str) -> Iterator[None]:
    """doing: predicting or training. Raises BadModel for predictions that are not numbers, else TrainingError with what
    Paddle wrote."""
    before = _output_size()
    try:
        yield
    except (RuntimeError, SystemError, ValueError, OSError) as error:
        output = str(error).encode() + b"\n" + _output_since(before)
        if _NOT_A_NUMBER.search(output):
            raise BadModel(f"{doing}: the network gives predictions that are not numbers", remedy=REMEDY) from error
        raise TrainingError(f"{doing}: {_reason(output, error)}", remedy="Read log/workerlog.*.") from error


def _reason(output: bytes, error: BaseException) -> str:
    parts = [pattern.search(output) for pattern in (_REASON, _HINT, _OPERATOR)]
    texts = [match.group(1).decode("utf-8", "replace").strip() for match in parts if match is not None]
    if not texts:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        return f"Paddle failed: {lines[-1] if lines else type(error).__name__}"
    operator = f" (operator {texts.pop()})" if parts[2] is not None else ""
    return " ".join(texts) + operator


def _output_size() -> int | None:
    """Of standard output; None when it is not a file."""
    status = os.fstat(1)
    return status.st_size if stat.S_ISREG(status.st_mode) else None


def _output_since(size: int | None) -> bytes:
    if size is None:
        return b""
    try:
        with open("/proc/self/fd/1", "rb") as file:  # noqa: PTH123 - a path of the process, not of the disk
            file.seek(size)
            return file.read(MOST)
    except OSError:
        return b""
