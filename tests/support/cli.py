"""The command: as a process, as its users start it, or within this process, where the process is not the point."""

import contextlib
import io
import subprocess
import sys
from collections.abc import Mapping
from unittest.mock import patch

from streamtrain.cli.main import main
from tests.support.paths import ROOT


def run(
    *arguments: str, seconds: float = 60, environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """environment: in place of this process's."""
    done = subprocess.run(
        [sys.executable, "-m", "streamtrain.cli.main", *arguments],
        capture_output=True, text=True, timeout=seconds, check=False, cwd=ROOT, env=environment,
    )  # fmt: skip
    assert "Traceback" not in done.stderr
    return done


def run_here(*arguments: str) -> subprocess.CompletedProcess[str]:
    """The same without a process of its own. An error that is not one of ours comes out."""
    out, errors = io.StringIO(), io.StringIO()
    code: object = 0
    with (
        patch.object(sys, "argv", ["streamtrain", *arguments]),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(errors),
    ):
        try:
            main()
        except SystemExit as end:
            code = end.code or 0
    assert isinstance(code, int)
    return subprocess.CompletedProcess(arguments, code, out.getvalue(), errors.getvalue())
