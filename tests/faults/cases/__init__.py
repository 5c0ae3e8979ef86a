"""The faults, one function each: it makes its fault happen, asserts that it did, and what had to follow.

`row` is the row of the table in docs/reliability.md. Every case ends with a recount from outside, or with a refusal
that has changed nothing.
"""

from tests.faults.cases import bridge, broker, disks, ends, hosts, quiet, refusals, trainer
from tests.faults.ground import REGISTERED, Case

__all__ = ["CASES", "bridge", "broker", "disks", "ends", "hosts", "quiet", "refusals", "trainer"]

#: In the order of their rows.
CASES: list[Case] = sorted(REGISTERED, key=lambda case: int(case.row))
