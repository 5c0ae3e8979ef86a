"""DeepFM (Guo and others, 2017): a factorization machine and a deep network over the same embeddings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import paddle
from parts import joined, layers, linear


def logit(
    first_order: Sequence[Any], fields: Sequence[Any], floats: Any, sizes: Sequence[int], std: float | None
) -> Any:
    """first_order: weights, [rows, 1] a field. fields: embeddings, [rows, width] each; floats: [rows, n] or None, each
    of them a field of its own, whose embedding it is multiplied with. Returns [rows, 1]."""
    parts = [paddle.add_n(list(first_order))]
    vectors = list(fields)
    if floats is not None:
        parts.append(linear(floats, 1, "first_order_of_floats"))
        vectors += _of_floats(floats, int(fields[0].shape[1]))
    parts.append(second_order(vectors))
    hidden = layers(joined(vectors), sizes, "deep", std)
    parts.append(linear(hidden, 1, "deep_out", std))
    return paddle.add_n(parts)


def second_order(vectors: Sequence[Any]) -> Any:
    """The sum of the products of all pairs of vectors, [rows, 1]: half of (square of the sum - sum of the squares)."""
    total = paddle.add_n(list(vectors))
    squares = paddle.add_n([paddle.square(vector) for vector in vectors])
    return 0.5 * paddle.sum(paddle.square(total) - squares, axis=1, keepdim=True)


def _of_floats(floats: Any, width: int) -> list[Any]:
    """A float's vector is its value times its embedding."""
    count = int(floats.shape[1])
    table = paddle.static.create_parameter(
        [count, width], "float32", name="embedding_of_floats",
        default_initializer=paddle.nn.initializer.Normal(std=0.01),
    )  # fmt: skip
    rows = paddle.unsqueeze(floats, 2) * paddle.unsqueeze(table, 0)
    return [rows[:, number] for number in range(count)]
