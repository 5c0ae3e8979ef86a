"""The hash by which `stream.columns` makes feasigns of values. Pure."""

from __future__ import annotations

import xxhash

#: Joins the texts of a cross.
CROSS = "\x1f"


def feasign_of(text: str, slot: int) -> int:
    """The feasign of a value in a slot: XXH64 of its UTF-8 text, the slot's number as seed; 0 becomes 1."""
    return xxhash.xxh64_intdigest(text.encode(), slot) or 1
