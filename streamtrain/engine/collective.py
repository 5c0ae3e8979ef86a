"""What the workers do together."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from paddle.distributed import fleet


def barrier() -> None:
    """Returns when every worker is here."""
    if fleet.worker_num() > 1:
        fleet.util.barrier()


def all_reduce_sum(values: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """The sum over all workers, on each of them; of the same shape."""
    if fleet.worker_num() == 1:
        return values
    # Paddle takes a list without a negative number for unsigned ones, where sums below 0 become floats
    signed = np.append(values.ravel(), -1)
    return np.asarray(fleet.util.all_reduce(signed, "sum"), np.int64)[:-1].reshape(values.shape)
