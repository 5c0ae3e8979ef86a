"""The network of a model, computed once in this process for two rows, without table and servers.

Building tells nothing of sizes that depend on the rows: a matrix that does not fit an embedding's sum is found by the
first batch alone.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import paddle

from streamtrain.engine.model import Model
from streamtrain.errors import ConfigError
from streamtrain.user_code import described

_ROWS = 2
#: What an operator says of inputs that it cannot take.
_REFUSED = "InvalidArgumentError"


def compute_once(model: Model, program: Any, startup: Any) -> None:
    """program: the trainer's, before it was made distributed; startup: what sets its dense parameters.

    Raises ConfigError with the line of the user's code whose operator refuses its inputs. Other failures may come from
    the two rows: the workers, which have real ones, report them.
    """
    network = program.clone(for_test=True)
    block = network.global_block()
    by_name = {known.name: known for known in model.network.feeds}
    feed: dict[str, Any] = {}
    for variable in model.feeds:
        known = by_name[variable.name]
        shape = (_ROWS, *(int(n) for n in variable.shape[1:]))
        ones = np.ones(shape, np.int64 if known.integer else np.float32)
        feed[variable.name] = _sequences(ones) if variable.lod_level and known.kind == "slot" else ones
    lookups = {lookup.variable: lookup for lookup in model.lookups}
    for number in reversed(range(len(block.ops))):
        op = block.ops[number]
        if op.type == "lookup_table" and (lookup := lookups.get(op.output("Out")[0])) is not None:
            slot = by_name[lookup.feed]
            zeros = np.zeros((_ROWS * slot.width, model.counting[lookup.table].use.width), np.float32)
            feed[lookup.variable] = _sequences(zeros) if slot.sequence else zeros
        elif op.type != "auc":  # which refuses predictions that are no numbers: training says more of them
            continue
        block._remove_op(number, sync=False)
    block._sync_with_cpp()
    executor = paddle.static.Executor(paddle.CPUPlace())
    executor.run(startup)
    try:
        executor.run(network, feed=feed, fetch_list=list(model.targets))
    except Exception as error:
        if _REFUSED not in str(error):
            return
        place = described(error, model.file.parent)
        raise ConfigError(f"the network fails on its first batch: {place}", remedy="Correct it there.") from error


def _sequences(values: npt.NDArray[Any]) -> Any:
    """One value a row."""
    return paddle.base.create_lod_tensor(values, [[1] * len(values)], paddle.CPUPlace())
