"""The lines of a source file with their numbers, and what becomes of them."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from typing import TypeAlias

from streamtrain.connectors.rows import LineParser, RejectError, Result, Row
from streamtrain.connectors.source import MAX_LINE, SourceReader
from streamtrain.contracts.marker import SourceFile
from streamtrain.errors import DataError

#: A line with its number in the file.
Line: TypeAlias = tuple[int, bytes]
#: What becomes of a line: a message, None for one that is no row and need not be, the reason why it is rejected.
Message: TypeAlias = "bytes | RejectError | None"
_TOO_LONG = f"it is longer than {MAX_LINE} bytes"


def numbered_lines(
    source: SourceReader, skip: SourceFile | None, name: str, parse: LineParser
) -> Iterator[tuple[int, bytes]]:
    """Lines with their numbers from 1, blank ones and a header left out; after the first skip.bytes, if given.

    Raises DataError when the skipped part is not what was published, or the header is not what the config needs.
    """
    first = 1
    ends_line = True
    if skip is not None:
        digest, lines, ends_line = source.skip(skip.bytes)
        if digest != skip.sha256:
            raise DataError(
                f"{name} was rewritten after it was published (its first {skip.bytes} bytes differ)",
                remedy="Restore the file, or set stream.changed_split: ignore.",
            )
        first += lines
    following = source.lines()
    if skip is not None and skip.bytes:
        parse.begin(name, source.head)
    else:
        head = next(following, None)
        if parse.begin(name, head):
            first += 1
        elif head is not None:
            following = chain([head], following)
    for number, line in enumerate(following, first):
        if not ends_line and number == first and line.strip(b"\r"):
            raise DataError(
                f"{name}, line {number}: it was published without its line end, and goes on now: its row cannot be "
                "withdrawn",
                remedy="Restore the file as it was, or set stream.changed_split: ignore.",
            )
        # blanks at its ends do not make a cut line whole
        if content := line if len(line) > MAX_LINE else parse.content(line):
            yield number, content


def parsed(numbered: Iterator[Line], parse: LineParser, name: str) -> Iterator[tuple[int, bytes, Result]]:
    """Lines with their numbers and what becomes of them, parsed in batches where the parser takes some.

    Raises DataError naming the line.
    """
    result: Result
    for lines in batches(numbered, parse.batch):
        number = lines[0][0]
        results = iter(parse.rows([line for _, line in lines if len(line) <= MAX_LINE]))
        try:
            for number, line in lines:
                result = RejectError(_TOO_LONG) if len(line) > MAX_LINE else next(results)
                yield number, line, result
        except DataError as error:
            raise DataError(f"{name}, line {number}: {error.message}", remedy=error.remedy) from error


def messages(numbered: Iterator[Line], parse: LineParser, name: str, file: int) -> Iterator[tuple[int, bytes, Message]]:
    """The same with the rows encoded. file: the number of the file in its split. Raises what parsed() raises."""
    for number, line, result in parsed(numbered, parse, name):
        yield number, line, result.encode(file, number) if isinstance(result, Row) else result


def batches(numbered: Iterator[Line], size: int) -> Iterator[list[Line]]:
    """At most `size` lines each, and not much more than MAX_LINE bytes."""
    batch: list[Line] = []
    taken = 0
    for number, line in numbered:
        batch.append((number, line))
        taken += len(line)
        if len(batch) >= size or taken >= MAX_LINE:
            yield batch
            batch, taken = [], 0
    if batch:
        yield batch
