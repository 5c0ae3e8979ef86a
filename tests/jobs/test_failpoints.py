"""Each failpoint is where its name says, and each is reached by a job that dies and goes on."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from streamtrain.failpoints import ARMED, POINTS, TRACE
from tests.support.paths import ROOT
from tests.support.scene import Scene


def named_in_code() -> list[str]:
    found = []
    for path in [*ROOT.glob("streamtrain/**/*.py"), *ROOT.glob("connectors/*.py")]:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "failpoint":
                assert isinstance(node.args[0], ast.Constant)
                found.append(str(node.args[0].value))
    return found


def test_each_stands_once_in_the_code() -> None:
    assert sorted(named_in_code()) == sorted(POINTS)


def test_a_bad_one_is_refused() -> None:
    done = subprocess.run(
        [sys.executable, "-c", "from streamtrain.failpoints import failpoint; failpoint('bridge.row')"],
        env={ARMED: "no.such=kill"}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1 and "'no.such=kill' is not POINT=ACTION@NUMBER" in done.stderr


@pytest.mark.kafka
@pytest.mark.paddle
def test_each_is_reached(tmp_path: Path, kafka: dict[str, str], job: str, monkeypatch: pytest.MonkeyPatch) -> None:
    trace = tmp_path / "trace"
    trace.mkdir()
    monkeypatch.setenv(TRACE, str(trace))
    scene = Scene(tmp_path / "job", kafka, job, runner={"need_infer_dump": True})
    scene.start("run", failpoints="pass.trained=kill@2").finish()
    scene.fired("pass.trained")
    scene.recount()
    assert {p.name for p in trace.iterdir()} == set(POINTS)
