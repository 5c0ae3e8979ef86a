"""A line that Paddle logs of every dense save, as if it had failed, kept from the log.

`E fleet.cc:804] save model of table id: 1, to path: .. failed`: the server answers a save with a count, which is 1 of
the dense table (measured), and FleetWrapper::SaveModelOneTable takes every answer but 0 for a failure. So the line says
nothing, and is the same after a save that did fail. Whether one did is told by the files: see tables.DenseCheck.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator

#: Seconds that the filter may take to end; a process that was started meanwhile may still hold its input.
END_S = 5.0


@contextlib.contextmanager
def without_false_alarm(table: int) -> Iterator[None]:
    """Around a save of that table: the line is left out of standard error; all others pass.

    The filter is a process of its own, so that what a crash says passes too.
    """
    pattern = rf"fleet\.cc:[0-9]+\] save model of table id: {table}, to path: .* failed$"
    sys.stderr.flush()
    before = os.dup(2)
    try:
        passing = subprocess.Popen(
            ["grep", "-a", "-v", "--line-buffered", "-E", pattern],
            stdin=subprocess.PIPE, stdout=before, env={**os.environ, "LC_ALL": "C"}, start_new_session=True,
        )  # fmt: skip
        assert passing.stdin is not None
        os.dup2(passing.stdin.fileno(), 2)
        passing.stdin.close()
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(before, 2)
            with contextlib.suppress(subprocess.TimeoutExpired):
                passing.wait(END_S)
    finally:
        os.close(before)
