"""The version before this one, out of the git history, to be run beside this one on the same job.

It runs in this environment's interpreter and libraries, which satisfy it too; only the tree that `import streamtrain`
finds is another one. code_of() tells which tree that is.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import pytest

from tests.support.paths import ROOT

#: The last commit of 0.3.0.
BEFORE = "c3a3e512efa670523335f42202aeb37696951802"


@dataclass(frozen=True)
class Version:
    """name: as the tests call it. tree: the checkout whose code runs; None: this one."""

    name: str
    tree: Path | None = None

    @property
    def environment(self) -> dict[str, str]:
        """The variables that a process of this version has more."""
        return {} if self.tree is None else {"PYTHONPATH": str(self.tree)}

    @property
    def package(self) -> Path:
        return (self.tree or ROOT) / "streamtrain"


NEW = Version("new")


def unpack(commit: str, name: str, folder: Path) -> Version:
    """The tree of a commit, in that folder. Fails when the history does not reach so far back: a shallow clone."""
    archive = subprocess.run(
        ["git", "archive", commit, "streamtrain", "connectors", "models"], cwd=ROOT, capture_output=True, check=False
    )
    if archive.returncode != 0:
        pytest.fail(
            f"commit {commit[:7]}, the version before this one, is not in this clone, so that nothing says whether a "
            f"job goes forward and back: `git fetch --unshallow` ({archive.stderr.decode().strip()})"
        )
    with tarfile.open(fileobj=BytesIO(archive.stdout)) as tree:
        tree.extractall(folder)
    return Version(name, folder)


def code_of(version: Version) -> dict[str, str]:
    """The files that a process of this version imports, by module, for modules of each part of the code."""
    modules = ("streamtrain", "streamtrain.connectors.bridge", "streamtrain.runtime.supervisor", "streamtrain.errors")
    shown = "import importlib, sys; print(*(importlib.import_module(m).__file__ for m in sys.argv[1:]), sep='\\n')"
    environment: Mapping[str, str] = {**os.environ, **version.environment}
    done = subprocess.run(
        [sys.executable, "-c", shown, *modules], env=environment, capture_output=True, text=True, check=True, cwd="/"
    )
    return dict(zip(modules, done.stdout.split(), strict=True))
