"""Whether a model can be trained and served at all: its numbers are finite, and none is absurdly large. Pure.

A learning rate of 1e38 gives weights of 1e36, which are finite: they would be committed and published, and every
restart would load them. Paddle itself keeps the table's weights within their weight_bounds.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from streamtrain.errors import BadModel

log = logging.getLogger("streamtrain.saving")

#: No weight of a working model, and no optimizer's number, is as large.
LIMIT = 1e15
#: In the text of a table: not finite, or an exponent of 15 and more.
_UNSOUND = re.compile(rb"nan|inf|e\+(?:1[5-9]|[2-9]\d|\d\d\d)", re.IGNORECASE)
_HINTS = (b"n", b"N", b"e+", b"E+")
REMEDY = (
    "Nothing of this pass was saved; a checkpoint before it is in place as it was. Lower the learning rates, or look "
    "for a division by zero or a log of 0 in the network."
)


def check_dense(name: str, values: npt.NDArray[Any]) -> None:
    """Raises BadModel naming the parameter when a value is not finite, or as large as LIMIT."""
    if values.dtype.kind != "f" or not values.size:
        return
    worst = float(np.abs(values).max())  # NaN if one of them is
    if not worst < LIMIT:
        finite = np.isfinite(values)
        what = f"{int((~finite).sum())} values that are not finite" if not finite.all() else f"a value of {worst:.3g}"
        raise BadModel(f"dense parameter {name} has {what} (of {values.size})", remedy=REMEDY)


def pull_sound(pull: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """The dense values that `pull` gets from the servers, arrays or Paddle's tensors, by name.

    Unsound ones are pulled once more: a model stays bad, a fault on the way is over then, and is logged. Raises
    BadModel as check_dense().
    """
    values = pull()
    try:
        _check_all(values)
    except BadModel as error:
        values = pull()
        _check_all(values)
        log.warning("%s as it came from the servers; pulled once more, all values are sound", error.message)
    return values


def _check_all(values: Mapping[str, Any]) -> None:
    for name, value in values.items():
        check_dense(name, np.asarray(value))


def find_unsound(block: bytes) -> bytes | None:
    """The first line of a table's text with such a number; None when there is none."""
    if not any(hint in block for hint in _HINTS):
        return None
    match = _UNSOUND.search(block)
    if match is None:
        return None
    begin = block.rfind(b"\n", 0, match.start()) + 1
    end = block.find(b"\n", match.start())
    return block[begin : end if end >= 0 else len(block)]


def unsound_key(line: bytes, names: tuple[str, ...], table: str = "embedding") -> BadModel:
    """The error of a line of a sparse table. names: of its columns."""
    values = line.split()
    column = next((n for n, v in zip(names, values, strict=False) if _UNSOUND.search(v)), "a column")
    value = next((v for v in values if _UNSOUND.search(v)), b"").decode("ascii", "replace")
    key = values[0].decode("ascii", "replace") if values else "?"
    return BadModel(f"sparse table {table}: key {key} has {column} {value}", remedy=REMEDY)
