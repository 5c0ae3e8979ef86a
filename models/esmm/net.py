"""ESMM (Ma and others, 2018): a network for clicks and one for their conversion, over the same embeddings. Both are
learned from all rows, by the rates of click and of click-and-conversion."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from parts import layers, linear, rate_of


def rates(x: Any, sizes: Sequence[int], std: float | None) -> tuple[Any, Any]:
    """x: [rows, n]. Returns the rate of clicks, and that of converted clicks: their product with the rate of
    conversion; [rows, 1] each."""
    click, conversion = (
        rate_of(linear(layers(x, sizes, name, std), 1, f"{name}_out", std)) for name in ("click", "conversion")
    )
    return click, click * conversion
