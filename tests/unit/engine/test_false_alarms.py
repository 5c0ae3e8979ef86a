"""Paddle's line of a failed save that did not fail, kept from standard error."""

import signal
import subprocess
import sys

ALARM = "E1125 21:50:02.700628  5162 fleet.cc:804] save model of table id: 1, to path: /model/.raw failed"
OTHER_TABLE = ALARM.replace("id: 1", "id: 0")


def run(body: str) -> subprocess.CompletedProcess[bytes]:
    """A process that writes as C++ does, into the descriptor. body: lines within the block."""
    script = (
        "import os, sys\n"
        "from streamtrain.engine.false_alarms import without_false_alarm\n"
        "say = lambda text: os.write(2, text.encode('utf-8', 'surrogateescape') + b'\\n')\n"
        "say('before')\n"
        "with without_false_alarm(1):\n" + "".join(f"    {line}\n" for line in body.splitlines()) + "say('after')\n"
    )
    return subprocess.run([sys.executable, "-c", script], capture_output=True, timeout=60, check=False)


def test_only_that_line_is_left_out() -> None:
    done = run(f"say({ALARM!r})\nsay('E brpc: connection refused')\nsay({OTHER_TABLE!r})\nsay('\\udcff')")
    lines = done.stderr.splitlines()
    assert done.returncode == 0
    assert lines == [b"before", b"E brpc: connection refused", OTHER_TABLE.encode(), b"\xff", b"after"]


def test_what_a_crash_says_passes() -> None:
    done = run(f"say({ALARM!r})\nsay('terminate called')\nos.abort()")
    assert done.returncode == -signal.SIGABRT
    assert done.stderr.splitlines() == [b"before", b"terminate called"]


def test_an_error_passes() -> None:
    done = run("raise OSError('the disk is full')")
    assert done.returncode == 1 and b"the disk is full" in done.stderr
