"""What Paddle writes of each row while it predicts or trains."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from streamtrain.dumps import Dump


@contextlib.contextmanager
def dumping(program: Any, dump: Dump | None, workers: int) -> Iterator[None]:
    """Around one call of infer_from_dataset or train_from_dataset, whose rows have ins_ids. None: nothing is dumped."""
    if dump is None:
        yield
        return
    options = program._fleet_opt
    before = dict(options)
    options.update(
        dump_fields_path=str(dump.directory), dump_fields=list(dump.fields), dump_param=list(dump.params),
        dump_file_num=workers,  # over all workers: one each, with its rows in order
        dump_converter="cat",  # without a pipe Paddle ends the process when it closes a file on a full disk
    )  # fmt: skip
    try:
        yield
    finally:
        options.clear()
        options.update(before)
