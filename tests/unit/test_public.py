"""The public face: names that resolve, lazily, with their types, as docs/python.md lists them."""

import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest

import streamtrain
from streamtrain import errors
from tests.support.paths import ROOT

HEAVY = ("paddle", "confluent_kafka", "numpy", "pydantic", "yaml", "orjson")


@pytest.mark.parametrize("name", [n for n in streamtrain.__all__ if n != "Predictor"])  # that one imports Paddle
def test_each_name_is_there(name: str) -> None:
    value = getattr(streamtrain, name)
    assert value.__doc__ and name in dir(streamtrain)


def test_predictor_is_named_in_both_places() -> None:
    code = "import streamtrain, streamtrain.serving as s; print(s.Predictor is streamtrain.Predictor)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "True\n"


def test_every_error_is_public() -> None:
    classes = {n for n, c in inspect.getmembers(errors, inspect.isclass) if issubclass(c, errors.StreamtrainError)}
    assert classes <= set(streamtrain.__all__)
    assert streamtrain.__all__ == sorted(streamtrain.__all__)


def test_the_page_lists_all_names_and_no_others() -> None:
    page = (ROOT / "docs" / "python.md").read_text()
    table = page.partition("## All names")[2].partition("\n## ")[0]
    names = re.findall(r"^\| `(\w+)", table, re.MULTILINE)
    assert sorted(names) == streamtrain.__all__
    for name, code in re.findall(r"^\| `(\w+)` \| (\d+):", table, re.MULTILINE):
        assert getattr(streamtrain, name).exit_code == int(code), name


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Trainer'"):
        _ = streamtrain.Trainer


def test_importing_it_imports_nothing_heavy() -> None:
    code = f"import streamtrain, sys; dir(streamtrain); print([m for m in {HEAVY} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_the_help_imports_nothing_heavy() -> None:
    code = f"import streamtrain.cli.main, sys; print([m for m in {HEAVY} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_a_users_code_is_typed(tmp_path: Path) -> None:
    """mypy, strict, on code from outside: a right use passes, a wrong one does not."""
    right = (
        "import streamtrain\n\n\n"
        "def rows(path: str) -> int:\n"
        "    config: streamtrain.JobConfig = streamtrain.load_config(path)\n"
        "    result: streamtrain.Recount = streamtrain.recount(config)\n"
        "    try:\n"
        "        return result.rows + len(streamtrain.Predictor(config.model_save_path).predict(['7:2']))\n"
        "    except streamtrain.CheckpointError as error:\n"
        "        return error.exit_code\n"
    )
    (tmp_path / "right.py").write_text(right)
    (tmp_path / "wrong.py").write_text(right.replace("-> int:", "-> str:"))
    command = [sys.executable, "-m", "mypy", "--strict", "--follow-imports", "silent", "right.py", "wrong.py"]
    environment = {"MYPYPATH": str(ROOT), "PATH": "/usr/bin:/bin"}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    *found, summary = done.stdout.splitlines()
    assert found and all(line.startswith("wrong.py") and 'expected "str"' in line for line in found), done.stdout
    assert "checked 2 source files" in summary
