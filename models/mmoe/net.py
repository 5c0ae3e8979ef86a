"""Multi-gate mixture of experts (Ma and others, 2018): experts that all tasks share, mixed by a gate a task."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import paddle
from paddle.nn.functional import softmax
from parts import layers, linear


def logits(
    x: Any, tasks: Sequence[str], experts: int, sizes: Sequence[int], tower: Sequence[int], std: float | None
) -> dict[str, Any]:
    """x: [rows, n]. sizes: the layers of an expert; tower: those of a task. Returns [rows, 1] a task."""
    made = [layers(x, sizes, f"expert_{number}", std) for number in range(experts)]
    stacked = paddle.stack(made, axis=1)  # [rows, experts, width]
    found = {}
    for task in tasks:
        gate = softmax(linear(x, experts, f"gate_{task}"))
        mixed = paddle.sum(stacked * paddle.unsqueeze(gate, 2), axis=1)
        found[task] = linear(layers(mixed, tower, f"tower_{task}", std), 1, f"out_{task}", std)
    return found
