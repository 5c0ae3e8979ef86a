"""Code that is broken on purpose, in all processes that are started from now on: see tests/mutants."""

import os
from pathlib import Path

import pytest

from tests.support.paths import MUTANTS, ROOT


def break_code(mutant: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A name of tests/mutants/sitecustomize.py, or none. It is in the file: this job's roles alone have it."""
    text = (MUTANTS / "sitecustomize.py").read_text()
    assert 'MUTANT = ""' in text
    (folder / "mutant").mkdir()
    (folder / "mutant" / "sitecustomize.py").write_text(text.replace('MUTANT = ""', f"MUTANT = {mutant!r}", 1))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(folder / "mutant"), str(ROOT)]))
