"""Commands as processes that a test stops, and for how long each of them then runs on."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.support.processes import until

#: Seconds in which a stopped command must end. 5 are promised; a machine that others use as well may need more.
BOUND_S = 15.0


class Command:
    """`streamtrain ARGUMENTS`, its output in `folder`. As a context manager it is killed at the end."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        self._name = " ".join(arguments[:2])
        self._output = folder / f"output-{time.monotonic_ns()}"
        self.scratch = Path(tempfile.mkdtemp(prefix="st-"))  # the path of a socket below it must be short
        with self._output.open("wb") as out:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "streamtrain.cli.main", *arguments],
                stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT, cwd=folder,
                env={**os.environ, "TMPDIR": str(self.scratch)},
            )  # fmt: skip

    def __enter__(self) -> Command:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.process.kill()
        self.process.wait()
        shutil.rmtree(self.scratch, ignore_errors=True)

    @property
    def output(self) -> str:
        return self._output.read_text()

    def says(self, text: str, seconds: float = 120) -> str:
        """Waits until `text` is in the output, which it returns."""

        def there() -> str | None:
            output = self.output
            assert text in output or self.process.poll() is None, output
            return output if text in output else None

        found: str = until(there, seconds)
        return found

    def stop(self, number: signal.Signals = signal.SIGTERM, *, times: int = 1) -> int:
        """Sends the signal, `times` times; returns the exit code, once the command has ended within BOUND_S."""
        begin = time.monotonic()
        for _ in range(times):
            self.process.send_signal(number)
        code = self.process.wait(BOUND_S)
        print(f"{self._name}: ended {time.monotonic() - begin:.1f} s after {number.name}, exit code {code}")
        assert "Traceback" not in self.output, self.output
        return code
