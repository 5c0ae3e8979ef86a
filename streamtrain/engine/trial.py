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
    show, click, *slots = (feed.name for feed in model.feeds)
    feed: dict[str, Any] = {name: np.ones((_ROWS, 1), np.int64) for name in (show, click)}
    feed.update({name: _sequences(np.ones((_ROWS, 1), np.int64)) for name in slots})
    for number in reversed(range(len(block.ops))):
        op = block.ops[number]
        if op.type == "lookup_table" and op.input("Ids")[0] in slots:
            width = int(block.var(op.input("W")[0]).shape[1])
            feed.update({name: _sequences(np.zeros((_ROWS, width), np.float32)) for name in op.output("Out")})
        elif op.type != "auc":  # which refuses predictions that are no numbers: training says more of them
            continue
        block._remove_op(number)
    executor = paddle.static.Executor(paddle.CPUPlace())
    executor.run(startup)
    try:
        executor.run(network, feed=feed, fetch_list=[model.static.inference_target_var.name])
    except Exception as error:
        if _REFUSED not in str(error):
            return
        place = described(error, model.file.parent)
        raise ConfigError(f"the network fails on its first batch: {place}", remedy="Correct it there.") from error


def _sequences(values: npt.NDArray[Any]) -> Any:
    """One value a row."""
    return paddle.base.create_lod_tensor(values, [[1] * len(values)], paddle.CPUPlace())
