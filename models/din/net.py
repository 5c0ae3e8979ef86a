"""Deep Interest Network (Zhou and others, 2018): the items of a user's past, weighted by what each has to do with the
item that is asked for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from paddle.static.nn import sequence_expand, sequence_pool
from parts import joined, layers, linear


def interest(past: Any, item: Any, sizes: Sequence[int]) -> Any:
    """past: embeddings of the sequence, [items of all rows, width], by rows in its LoD. item: [rows, width]. Returns
    the weighted sum, [rows, width].

    As in the paper the weights are not normalized: their sum says how strong the interest is.
    """
    asked = sequence_expand(item, past)  # beside each item of the past the one that is asked for
    pairs = joined([past, asked, past - asked, past * asked])
    weight = linear(layers(pairs, sizes, "attention", activation="sigmoid"), 1, "attention_out")
    return sequence_pool(past * weight, "sum")


def logit(parts: Sequence[Any], floats: Any, sizes: Sequence[int], std: float | None) -> Any:
    """parts: [rows, width] each; floats: [rows, n] or None. Returns [rows, 1]."""
    return linear(layers(joined(parts, floats), sizes, "deep", std), 1, "out", std)
