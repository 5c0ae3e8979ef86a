"""DCN-V2 (Wang and others, 2021): layers that multiply the input with linear functions of it, beside a deep network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from parts import joined, layers, linear


def logit(x: Any, crosses: int, rank: int, sizes: Sequence[int], std: float | None) -> Any:
    """The parallel form. x: [rows, n]. crosses: how many cross layers; rank: of their matrices, 0: full. Returns
    [rows, 1]."""
    crossed = x
    for number in range(crosses):
        crossed = x * _mixed(crossed, rank, f"cross_{number}") + crossed
    return linear(joined([crossed, layers(x, sizes, "deep", std)]), 1, "out", std)


def _mixed(x: Any, rank: int, name: str) -> Any:
    """W x + b, of the width of x. With a rank r, W is U V, where V is [r, n]."""
    width = int(x.shape[1])
    return linear(linear(x, rank, f"{name}_v") if rank else x, width, name)
