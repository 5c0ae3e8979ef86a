"""Errors of users' code: which line of theirs, in which words."""

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from streamtrain.errors import BadModel, ConfigError
from streamtrain.user_code import module_place, user_code

_PADDLE = """In user code:

    File "{own}", line 3, in forward
      layer = matmul(a, b)
    File "/x/site-packages/paddle/tensor/linalg.py", line 9, in matmul
      helper.append_op(

    InvalidArgumentError: Y'dims[0] must be 36, but is 7.
      [Hint: they differ.] (at /paddle/phi/binary.cc:1)
      [operator < matmul_v2 > error]"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path
    for name in ("theirs", "helper"):
        sys.modules.pop(name, None)


def run(folder: Path, text: str) -> str:
    """The error of importing that text as a module of theirs."""
    (folder / "theirs.py").write_text(text)
    importlib.invalidate_caches()
    with pytest.raises(ConfigError) as caught, user_code(folder, "it fails"):
        importlib.import_module("theirs")
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("x = 1\nx = [\n", 2, "SyntaxError: '[' was never closed"),
        ("\n\nnix()\n", 3, "NameError: name 'nix' is not defined"),
        ("import sys\nsys.exit(3)\n", 2, "SystemExit: 3"),
        ("import nix\n", 1, "ModuleNotFoundError: No module named 'nix'"),
        ("assert 1 > 2\n", 1, "AssertionError: raised by `assert 1 > 2`"),
        ("import json\ndef f():\n    json.loads('{')\nf()\n", 3, "JSONDecodeError: Expecting property name"),
        ("class E(Exception):\n    def __str__(self):\n        nix\nraise E\n", 4, "E: raised by `raise E`"),
        ("raise ValueError('of\\n two lines')\n", 1, "ValueError: of two lines"),
    ],
)
def test_the_line_is_theirs(folder: Path, text: str, line: int, words: str) -> None:
    assert f"it fails: {folder / 'theirs.py'}, line {line}: {words}" in run(folder, text)


def test_of_paddles_pages_the_summary(folder: Path) -> None:
    own = folder / "theirs.py"
    text = f"\nraise ValueError({_PADDLE.format(own=own)!r})\n"
    assert f"{own}, line 2: InvalidArgumentError: Y'dims[0] must be 36, but is 7. [Hint: they differ.]. " in run(
        folder, text
    )
    with pytest.raises(ConfigError) as caught, user_code(folder, "it fails"):
        raise ValueError(_PADDLE.format(own=own))  # when it is computed: no frame of theirs
    assert f"it fails: {own}, line 3: InvalidArgumentError" in str(caught.value)


@pytest.mark.parametrize("error", [BadModel("x"), MemoryError(), KeyboardInterrupt()])
def test_what_is_not_the_codes_fault_stays(folder: Path, error: BaseException) -> None:
    with pytest.raises(type(error)), user_code(folder, "it fails"):
        raise error


@pytest.mark.parametrize(
    ("text", "file", "line"),
    [("import helper\n", "helper.py", 2), ("\nimport nix\n", "theirs.py", 2), ("x = (\n", "theirs.py", 1)],
)
def test_a_module_that_fails_by_itself(folder: Path, text: str, file: str, line: int) -> None:
    (folder / "theirs.py").write_text(text)
    (folder / "helper.py").write_text("import json\njson.loads('{')\n")
    importlib.invalidate_caches()
    with pytest.raises(Exception) as caught:
        importlib.import_module("theirs")
    assert module_place(caught.value) == f"{folder / file}, line {line}"


def test_a_module_that_is_not_there() -> None:
    with pytest.raises(ImportError) as caught:
        importlib.import_module("nowhere.at.all")
    assert module_place(caught.value) == ""
