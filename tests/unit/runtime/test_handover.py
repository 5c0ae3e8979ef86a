"""The environment's way past Paddle's launcher."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from streamtrain.errors import DiskError
from streamtrain.runtime import handover
from tests.support.paths import ROOT

TAKE = """import os
from streamtrain.errors import TrainingError
from streamtrain.runtime import handover
try:
    handover.take()
    print(os.fsencode(os.environ["A_SECRET"]), os.environ["SET"], handover.FOLDER in os.environ)
except TrainingError as error:
    print(error)
"""


def take(environment: dict[str, str]) -> str:
    done = subprocess.run([sys.executable, "-c", TAKE], env=environment, cwd=ROOT, capture_output=True, check=True)
    return done.stdout.decode()


def test_each_role_takes_one_and_the_launcher_sees_none(tmp_path: Path) -> None:
    value = os.fsdecode(b"a=b\nc \xff")
    given = {"PATH": "/bin", "LC_ALL": "C.UTF-8", "PYTHONPATH": str(ROOT), "A_SECRET": value, "SET": "by the user"}
    launcher = handover.hand_over({**given, "http_proxy": "http://u:p@h"}, tmp_path, 2)
    assert set(launcher) == {"PATH", "LC_ALL", "PYTHONPATH", handover.FOLDER}
    files = list((tmp_path / "environment").iterdir())
    assert len(files) == 2 and {f.stat().st_mode & 0o777 for f in files} == {0o600}
    for left in (1, 0):
        taken = take({**launcher, "SET": "by the launcher"})
        assert taken == f"{os.fsencode(value)!r} by the launcher False\n"
        assert len(list((tmp_path / "environment").iterdir())) == left
    assert "holds no environment for this role" in take(launcher)


def test_without_a_folder_nothing_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(handover.FOLDER, raising=False)
    before = dict(os.environ)
    handover.take()
    assert dict(os.environ) == before


def test_the_launchers_files_become_their_owners_alone(tmp_path: Path) -> None:
    holding = {"envlog.0": "A=b", "backup_env.0.json": "{}", "default.abc.log": "environ({'A': 'b'})"}
    other = {"workerlog.0": "environ(", "bridge.log": "a line"}
    for name, text in {**holding, **other}.items():
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o644)
    handover.close_off(tmp_path)
    modes = {p.name: p.stat().st_mode & 0o777 for p in tmp_path.iterdir()}
    assert modes == {**dict.fromkeys(holding, 0o600), **dict.fromkeys(other, 0o644)}


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "environment").write_text("in the way")
    with pytest.raises(DiskError, match="environment cannot be written: File exists"):
        handover.hand_over({}, tmp_path, 1)
