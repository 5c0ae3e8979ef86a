"""Names of files and directories that files and messages give: only those that stay below their root. Pure.

A name that is read is joined to a directory, and then read, deleted or given to Paddle, which gives it to a shell. So
each kind of document checks its names where it is decoded, here.
"""

from __future__ import annotations

import re
from pathlib import PurePosixPath
from typing import Annotated

from pydantic import AfterValidator, Field

from streamtrain.schedule import parse_day

#: Bytes that a path may have (PATH_MAX, less a root's).
MAX_PATH = 3000
_PLAIN = re.compile(r"[A-Za-z0-9._@+=/-]+")


def plain_path(text: str) -> PurePosixPath:
    """A path that this software writes in checkpoints and models, relative to their directory.

    Its characters are ASCII letters and digits and ``. _ @ + = - /``: none that means something to a shell. Raises
    ValueError for other characters, and as source_path() does.
    """
    path = source_path(text)
    if not _PLAIN.fullmatch(text):
        odd = re.sub(r"[A-Za-z0-9._@+=/-]", "", text)[0]
        raise ValueError(f"{quoted(text)} has the character {odd!r}: a name has letters, digits and ._@+=- alone")
    if any(part.startswith("-") for part in path.parts):
        raise ValueError(f"{quoted(text)} has a part that begins with '-', as an option does")
    return path


def source_path(text: str) -> PurePosixPath:
    """A path of a user's file below its directory, of any characters but NUL.

    Raises ValueError for a path that is absolute, empty or too long, or has an empty part, `.` or `..`.
    """
    if not text:
        raise ValueError("a path is empty")
    if len(text.encode("utf-8", "surrogatepass")) > MAX_PATH:
        raise ValueError(f"{quoted(text)} has more than {MAX_PATH} bytes")
    if "\0" in text:
        raise ValueError(f"{quoted(text)} has a NUL")
    for part in text.split("/"):
        if part in ("", ".", ".."):
            raise ValueError(f"{quoted(text)} is not a path below its directory: it has the part {part!r}")
    return PurePosixPath(text)


def quoted(text: str) -> str:
    """A name as messages show it: control characters escaped, at most 80 characters of it."""
    return ascii(text[:80]) + ("..." if len(text) > 80 else "")


def check_day(text: str) -> str:
    """The day YYYYMMDD itself: it names a directory. Raises ValueError for text that is not a day of a calendar."""
    parse_day(text[:9])
    return text


def check_time(text: str) -> str:
    """The time HHMM itself: it names a directory. Raises ValueError."""
    if not re.fullmatch(r"([01][0-9]|2[0-3])[0-5][0-9]", text):
        raise ValueError(f"{quoted(text)} is not a time of the form HHMM")
    return text


def _plain(text: str) -> str:
    plain_path(text)
    return text


def number_of(name: str) -> int | None:
    """The number that a directory's name is, as this software writes it: ASCII digits, no zeros ahead. None: it is
    none."""
    return int(name) if re.fullmatch(r"0|[1-9][0-9]{0,17}", name) else None


#: Fields of documents that pydantic validates.
PlainPath = Annotated[str, AfterValidator(_plain)]
Day = Annotated[str, AfterValidator(check_day)]
PassNumber = Annotated[int, Field(ge=0, lt=10**18)]
