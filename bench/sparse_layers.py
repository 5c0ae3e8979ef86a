"""Stands beside a model of PaddleRec in place of its paddle.nn.Embedding, which no parameter server keeps.

    self.embedding = SparseEmbedding(size, width, "embedding")
    self.embedding(feed)       [rows, width]; of a feed with lod_level 1 the sum of its feasigns
    self.embedding(feed)       [rows, n, width] of a feed [None, n] with lod_level 0
    self.embedding(feeds)      [rows, number of feeds, width]

The table counts each row as a show and the label's 1 as a click, so that `streamtrain recount` can prove both.
"""

from __future__ import annotations

from typing import Any

import paddle


class SparseEmbedding:
    """size: of no meaning for a table of parameter servers, which grows. label: the feed that is its click; None for a
    table whose click is 0."""

    def __init__(self, size: int, width: int, table: str, label: str | None = "label") -> None:
        self._size = [size, width]
        self._table = table
        self._label = label
        self._entry: Any = None

    def __call__(self, ids: Any) -> Any:
        if isinstance(ids, list):
            return paddle.stack([self(feed) for feed in ids], axis=1)
        if self._label is not None and self._entry is None:
            label = paddle.static.default_main_program().global_block().var(self._label)
            show = paddle.full_like(label, 1, "float32")
            self._entry = paddle.distributed.ShowClickEntry(show.name, paddle.cast(label, "float32").name)
        several = ids.shape[1] > 1
        embedding = paddle.static.nn.sparse_embedding(
            paddle.reshape(ids, [-1, 1]) if several else ids, self._size, padding_idx=0, entry=self._entry,
            param_attr=paddle.ParamAttr(name=self._table),
        )  # fmt: skip
        if several:
            return paddle.reshape(embedding, [-1, ids.shape[1], self._size[1]])
        return paddle.static.nn.sequence_pool(embedding, "sum") if ids.lod_level else embedding
