"""Where the time of a predict or a train goes, by Paddle's own profiler: seconds of its operators, added up by part.

It counts each operator as it runs, which costs the pass a tenth and more, so it is off by default.
"""

from __future__ import annotations

import os
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

#: Parts by the operators that they are made of; a gradient counts as its operator. What is in none of them is `others`.
PARTS = {
    "lookup": ("distributed_lookup_table",),
    "push": ("distributed_push_sparse", "send"),
    "products": ("mul", "matmul", "matmul_v2", "fc", "bmm"),
    "pools": ("sequence_pool", "concat", "reshape2", "transpose2", "split", "sum"),
    "metrics": ("auc", "log_loss", "reduce_sum", "reduce_mean", "mean"),
}
_PART_OF = {operator: part for part, operators in PARTS.items() for operator in operators}


#: Set: passes are profiled. For roles, by `--profile` of what starts them.
VARIABLE = "STREAMTRAIN_PROFILE"


def is_on() -> bool:
    return bool(os.environ.get(VARIABLE))


def ask_for(wanted: bool) -> None:
    """The roles that this process starts profile their passes."""
    if wanted:
        os.environ[VARIABLE] = "1"


def words(seconds: Mapping[str, float]) -> str:
    """The longest part first."""
    ordered = sorted(seconds.items(), key=lambda each: -each[1])
    return ", ".join(f"{name.replace('_', ' ')} {spent:.2f}" for name, spent in ordered)


def by_part(operators: Mapping[str, float], whole: float) -> dict[str, float]:
    """Seconds by part. operators: seconds of each type. whole: of all that was profiled; what no operator took is
    `between`: batches, the pull of the dense parameters, the wait for the last push."""
    found: dict[str, float] = defaultdict(float)
    for operator, seconds in operators.items():
        found[_PART_OF.get(operator.removesuffix("_grad"), "others")] += seconds
    return {**found, "between": max(0.0, whole - sum(found.values()))}


@contextmanager
def profiled(what: str, into: dict[str, float]) -> Iterator[None]:
    """Around one predict or train; `into` gets `<what>_<part>`."""
    from paddle import profiler

    running = profiler.Profiler(targets=[profiler.ProfilerTarget.CPU], on_trace_ready=lambda _profiler: None)
    running.start()
    begin = time.monotonic()
    try:
        yield
    finally:
        whole = time.monotonic() - begin
        running.stop()
    for part, seconds in by_part(_seconds_of(running), whole).items():
        into[f"{what}_{part}"] = seconds


def _seconds_of(running: Any) -> dict[str, float]:
    """By type of operator, with what is called from it."""
    from paddle.profiler.profiler_statistic import StatisticData

    result = running.profiler_result
    data = StatisticData(result.get_data(), result.get_extra_info())
    return {name: item.cpu_time / 1e9 for name, item in data.event_summary.items.items()}
