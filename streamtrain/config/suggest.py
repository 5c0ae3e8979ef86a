"""The key that was probably meant."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def suggestion(key: object, known: Iterable[str]) -> str:
    """To be added to a message about an unknown key; empty when none is close."""
    close = difflib.get_close_matches(str(key), list(known), n=1)
    return f"; did you mean {close[0]}?" if close else ""
