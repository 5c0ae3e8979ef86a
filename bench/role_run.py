"""A server and a worker that run a script of a bench until it has written what it found."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from streamtrain.runtime.roles import end_roles, start_roles

HERE = Path(__file__).resolve().parent


def give(found: Any, out: Path) -> None:
    """Of a role: what found_by() gets."""
    part = out.with_suffix(".part")
    part.write_text(json.dumps(found))
    part.rename(out)


def found_by(script: str, arguments: Sequence[str], folder: Path) -> Any:
    """bench/`script` gets the arguments and, as the last one, the JSON file that it writes. folder: the job's. Raises
    SystemExit when a role ends early."""
    run_dir, log_dir, out = folder / "roles", folder / "roles-log", folder / "found.json"
    shutil.rmtree(run_dir, ignore_errors=True)
    run_dir.mkdir()
    out.unlink(missing_ok=True)
    path = os.pathsep.join(filter(None, [str(HERE.parent), os.environ.get("PYTHONPATH")]))  # a script's own is bench/
    roles = start_roles(
        HERE / script, [*arguments, str(out)], servers=1, workers=1, run_dir=run_dir, log_dir=log_dir, cwd=folder,
        variables={"PYTHONPATH": path},
    )  # fmt: skip
    try:
        while not out.exists():
            if any(roles.ended().values()):
                raise SystemExit(f"the roles ended early: read {log_dir}/workerlog.0")
            time.sleep(0.1)
    finally:
        end_roles(roles, run_dir)
    return json.loads(out.read_text())
