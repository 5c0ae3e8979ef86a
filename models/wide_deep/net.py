"""Wide & Deep (Cheng and others, 2016): a linear model of crossed features beside a deep network of embeddings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import paddle
from parts import joined, layers, linear


def logit(wide: Sequence[Any], deep: Sequence[Any], floats: Any, sizes: Sequence[int], std: float | None) -> Any:
    """wide: weights, [rows, 1] a slot. deep: embeddings, [rows, width] a slot; floats: [rows, n] or None, which both
    sides read. Returns [rows, 1]."""
    parts = [paddle.add_n(list(wide))]
    if floats is not None:
        parts.append(linear(floats, 1, "wide_of_floats"))
    hidden = layers(joined(deep, floats), sizes, "deep", std)
    return paddle.add_n([*parts, linear(hidden, 1, "deep_out", std)])
