"""Errors that come out of a user's own code: which file and line of theirs, and what it says."""

from __future__ import annotations

import contextlib
import importlib
import re
import sysconfig
import traceback
from collections.abc import Iterable, Iterator
from functools import lru_cache
from pathlib import Path

from streamtrain.errors import ConfigError, StreamtrainError

#: Characters of an exception's own words that are shown: Paddle's go on for pages.
_MOST = 600
#: Folders of the code that is nobody's own.
_LIBRARIES = tuple(sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib"))
_FRAME = re.compile(r'File "(.+?)", line (\d+)')
#: Where the stack ends that Paddle's errors begin with.
_SUMMARY = re.compile(r"^ *\w+Error: (?=.*\(at /)", re.MULTILINE | re.DOTALL)
#: Lines of Paddle's errors that say where in its C++ or in which call of Python it was.
_NOISE = re.compile(
    r"\s*(-{5,}|\d+\s+(?:paddle|std|phi)::|File \"|In user code|Compile Traceback|C\+\+ Traceback|\[operator <)"
)


@contextlib.contextmanager
def user_code(folder: Path, what: str, *, remedy: str = "Correct it there.") -> Iterator[None]:
    """Around calls of the code in `folder`. Any exception, and sys.exit(), becomes a ConfigError that says `what`, the
    innermost file and line in the folder, and the exception's words; errors of ours stay, and
    MemoryError, which says nothing about the code."""
    try:
        yield
    except (StreamtrainError, MemoryError):
        raise
    except (Exception, SystemExit) as error:
        raise ConfigError(f"{what}: {described(error, folder)}", remedy=remedy) from error


def described(error: BaseException, folder: Path) -> str:
    """`file, line N: Type: words`; the folder for the file when none of the error's frames is in it."""
    what = words(error)
    kind = "" if what.partition(":")[0].endswith("Error") else f"{type(error).__name__}: "
    return f"{_place(error, folder)}: {kind}{what}"


def module_place(error: BaseException) -> str:
    """`file, line N` of the user's code that importlib.import_module() ran and that raised; empty when it ran none: the
    module was not found, or has no such name."""
    if isinstance(error, SyntaxError) and error.filename and error.lineno:
        return f"{error.filename}, line {error.lineno}"
    frames = traceback.extract_tb(error.__traceback__)
    begin = next((i for i, f in enumerate(frames) if f.filename == importlib.__file__), len(frames))
    ran = [f for f in frames[begin + 1 :] if not f.filename.startswith("<frozen")]
    own = [f for f in ran if not f.filename.startswith(_LIBRARIES)] or ran
    return f"{own[-1].filename}, line {own[-1].lineno}" if own else ""


def words(error: BaseException) -> str:
    """What an exception says, on one line; of Paddle's pages the summary."""
    text = _text(error)
    if isinstance(error, SyntaxError):
        text = error.msg
    text = text.rpartition("Error Message Summary:")[2]
    if paddles := list(_SUMMARY.finditer(text)):
        text = text[paddles[-1].start() :]
    lines = [re.sub(r"\s*\(at /\S*\)", "", line).strip() for line in text.splitlines() if not _NOISE.match(line)]
    return " ".join(filter(None, lines))[:_MOST] or _last_line(error)


def _text(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:  # of a class of theirs
        return ""


def _last_line(error: BaseException) -> str:
    """Of the code that raised an exception without words, such as the condition of an assert."""
    frames = traceback.extract_tb(error.__traceback__)
    return f"raised by `{frames[-1].line}`" if frames and frames[-1].line else "it has no message"


def _place(error: BaseException, folder: Path) -> str:
    if isinstance(error, SyntaxError) and error.filename and error.lineno:
        return f"{error.filename}, line {error.lineno}"
    root = folder.resolve()
    places = [
        f"{frame.filename}, line {frame.lineno}"
        for frame in traceback.extract_tb(error.__traceback__)
        if is_own(frame.filename, root)
    ]
    # an operator that fails when it is computed: Paddle's words have the stack of the call that made it
    places = places or [f"{file}, line {line}" for file, line in _FRAME.findall(_text(error)) if is_own(file, root)]
    return places[-1] if places else str(folder)


def place_in(stack: Iterable[str], folder: Path) -> str:
    """`file, line N` of the innermost frame of theirs in the stack of the call that made one of Paddle's operators; the
    folder when none is."""
    own = [f"{file}, line {line}" for file, line in _FRAME.findall("\n".join(stack)) if is_own(file, folder.resolve())]
    return own[-1] if own else str(folder)


def is_own(file: str, root: Path) -> bool:
    """Whether a file of a stack is the user's: below root, which is resolved."""
    return _resolved(file).is_relative_to(root) and "site-packages" not in file


@lru_cache(maxsize=1024)  # each operator of a network has a stack of the same files
def _resolved(file: str) -> Path:
    return Path(file).resolve()
