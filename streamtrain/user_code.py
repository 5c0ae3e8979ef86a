"""Errors that come out of a user's own code: which file and line of theirs, and what it says."""

from __future__ import annotations

import contextlib
import re
import traceback
from collections.abc import Iterator
from pathlib import Path

from streamtrain.errors import ConfigError, StreamtrainError

#: Characters of an exception's own words that are shown: Paddle's go on for pages.
_MOST = 600
#: Lines of Paddle's errors that say where in its C++ or in which call of Python it was.
_NOISE = re.compile(
    r"\s*(-{5,}|\d+\s+(?:paddle|std|phi)::|File \"|In user code|Compile Traceback|C\+\+ Traceback|\[operator <)"
)


@contextlib.contextmanager
def user_code(folder: Path, what: str, *, remedy: str = "Correct it there.") -> Iterator[None]:
    """Around calls of the code in `folder`. Any exception, and sys.exit(), becomes a ConfigError that says `what`, the
    innermost file and line in the folder, and the exception's words; errors of ours stay."""
    try:
        yield
    except StreamtrainError:
        raise
    except (Exception, SystemExit) as error:
        raise ConfigError(f"{what}: {described(error, folder)}", remedy=remedy) from error


def described(error: BaseException, folder: Path) -> str:
    """`file, line N: Type: words`; the folder for the file when none of the error's frames is in it."""
    return f"{_place(error, folder)}: {type(error).__name__}: {words(error)}"


def module_place(error: BaseException, module: str) -> str:
    """`file, line N` of the innermost code of a module, or of what it imports, that an import of it failed in; empty
    when the module was not found or has no such name."""
    if isinstance(error, SyntaxError) and error.filename and error.lineno:
        return f"{error.filename}, line {error.lineno}"
    frames = traceback.extract_tb(error.__traceback__)
    begin = next(
        (i for i, frame in enumerate(frames) if frame.name == "<module>" and _is_of(frame.filename, module)), None
    )
    own = [] if begin is None else [f for f in frames[begin:] if not f.filename.startswith("<frozen")]
    return f"{own[-1].filename}, line {own[-1].lineno}" if own else ""


def _is_of(filename: str, module: str) -> bool:
    """Whether the file may be the module's, or that of a package around it."""
    path = Path(filename)
    return (path.parent.name if path.stem == "__init__" else path.stem) in module.split(".")


def words(error: BaseException) -> str:
    """What an exception says, on one line; of Paddle's pages the summary."""
    text = str(error)
    if isinstance(error, SyntaxError):
        text = error.msg
    text = text.rpartition("Error Message Summary:")[2]
    lines = [re.sub(r"\s*\(at /\S*\)", "", line).strip() for line in text.splitlines() if not _NOISE.match(line)]
    return " ".join(filter(None, lines))[:_MOST] or _last_line(error)


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
        if Path(frame.filename).resolve().is_relative_to(root) and "site-packages" not in frame.filename
    ]
    return places[-1] if places else str(folder)
