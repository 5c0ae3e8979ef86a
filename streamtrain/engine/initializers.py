"""How the servers are told of the first values of dense parameters."""

from __future__ import annotations

from typing import Any

#: What the servers of Paddle 3.0.0 read of it; its workers leave out the last two.
_TRUNCATED = ("truncated_gaussian_random", ["seed", "mean", "std", "a", "b"])


def describe_truncated_normal() -> None:
    """Before fleet makes a server or a worker. A network whose first parameter begins as TruncatedNormal kills every
    server as it starts (a segmentation fault), since Paddle 3.0.0 does not tell it the bounds."""
    from paddle.distributed.ps import the_one_ps

    common = the_one_ps.CommonAccessor
    original = common.define_optimize_map
    if getattr(original, "has_bounds", False):
        return

    def define_optimize_map(self: Any) -> None:
        original(self)
        name, attributes = _TRUNCATED
        self.opt_init_map[name] = attributes

    define_optimize_map.has_bounds = True  # type: ignore[attr-defined]
    common.define_optimize_map = define_optimize_map
