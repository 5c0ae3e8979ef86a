"""A job's model, built in a child process: see engine/dry_build.py. The child may do what it likes with itself."""

from __future__ import annotations

import re
import signal
import subprocess
import tempfile
import threading
import time
from pathlib import Path

import orjson
from pydantic import TypeAdapter

from streamtrain.config import JobConfig
from streamtrain.engine.dry_build import BuildReport, role_environment
from streamtrain.runtime import child_state, launch
from streamtrain.runtime.verdict import START_S
from streamtrain.user_code import is_own

#: Seconds that a model may take to build; all roles of a job must be up within them.
BUILD_S = START_S
_REPORT = TypeAdapter(BuildReport)
#: A frame in what faulthandler prints, the innermost first.
_FRAME = re.compile(r'^  File "(.+)", line (\d+) in ', re.MULTILINE)


def build_model(config: JobConfig, stop: threading.Event | None = None, seconds: float = BUILD_S) -> BuildReport | None:
    """Builds the model in a child. A child that dies, or takes longer than `seconds`, is a problem of the report, with
    the line of the model's code that it was in. None: `stop` was set meanwhile."""
    with tempfile.TemporaryDirectory(prefix="streamtrain-build-") as name:
        folder = Path(name)
        report, output = folder / "report.json", folder / "output"
        child = launch.start_build([str(config.path), str(report)], role_environment(), run_dir=folder, output=output)
        late = time.monotonic() + seconds
        while child.poll() is None:
            if stop is not None and stop.is_set():
                _end(child, signal.SIGKILL)
                return None
            if time.monotonic() > late:
                _end(child, signal.SIGABRT)  # faulthandler then says where it is
                return _failed(f"does not build within {seconds:.0f} s", output, config)
            time.sleep(0.05)
        if failure := child_state.failure("the process that builds it", child.returncode, []):
            return _failed(f"does not build: {failure.message}", output, config)
        if not report.exists():
            return _failed("does not build: its code ends the process", output, config)
        return _REPORT.validate_python(orjson.loads(report.read_bytes()))


def _failed(what: str, output: Path, config: JobConfig) -> BuildReport:
    return BuildReport([(f"the model {what}{_where(output, config.model_dir)}", "Correct it there.")])


def _end(child: launch.Child, number: signal.Signals) -> None:
    child.send_signal(number)
    try:
        child.wait(5)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()


def _where(output: Path, model_dir: Path) -> str:
    """The innermost line of the model's code in a stack that faulthandler has printed; else the last line printed."""
    text = output.read_text("utf-8", "replace")
    root = model_dir.resolve()
    for file, line in _FRAME.findall(text):
        if is_own(file, root):
            return f", in {file}, line {line}"
    lines = [line for line in text.splitlines() if line.strip()]
    return f"; the last that it printed: {lines[-1].strip()[:200]}" if lines else ""
