"""Failpoints: each named once in the code, refused when misspelled, intercepted within a process."""

import ast
import subprocess
import sys

import pytest

from streamtrain.failpoints import ARMED, POINTS, failpoint, intercepted
from tests.support.paths import ROOT


def named_in_code() -> list[str]:
    names = []
    for path in [*ROOT.glob("streamtrain/**/*.py"), *ROOT.glob("connectors/*.py")]:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "failpoint":
                assert isinstance(node.args[0], ast.Constant)
                names.append(str(node.args[0].value))
    return names


def test_each_is_named_once_in_the_code() -> None:
    assert sorted(named_in_code()) == sorted(POINTS)


def test_a_bad_one_is_refused() -> None:
    done = subprocess.run(
        [sys.executable, "-c", "from streamtrain.failpoints import failpoint; failpoint('bridge.row')"],
        env={ARMED: "no.such=kill"}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1 and "'no.such=kill' is not POINT=ACTION@NUMBER" in done.stderr


def test_a_point_that_is_off_does_nothing() -> None:
    failpoint("bridge.row")


def test_points_are_intercepted_within_a_process() -> None:
    reached: list[str] = []
    with intercepted(reached.append):
        failpoint("bridge.row")
        with pytest.raises(ZeroDivisionError), intercepted(lambda _name: 1 // 0):
            failpoint("bridge.row")
        failpoint("commit.done")
    failpoint("commit.renamed")
    assert reached == ["bridge.row", "commit.done"]
