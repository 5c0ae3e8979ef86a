"""A parse function of the user's that takes lines by batches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from streamtrain.connectors.given_values import described, shown
from streamtrain.connectors.rows import RejectError, Result, Row, RowBuilder
from streamtrain.connectors.user_function import UserFunction, UserParser, out_of_memory
from streamtrain.errors import ConfigError

#: Lines that the function gets at once.
BATCH = 1024


def user_parser(builder: RowBuilder, function: UserFunction) -> UserParser:
    return (BatchParser if getattr(function, "batch", False) is True else UserParser)(builder, function)


class BatchParser(UserParser):
    """Of a function that takes a list of lines. What it makes of a line must not depend on the others: the first batch
    is computed line by line too, and compared.

    A result that is an exception rejects its line. Where the function raises, its lines are given to it one by one.
    Raises ConfigError for a function that breaks these rules.
    """

    batch = BATCH

    def __init__(self, builder: RowBuilder, function: UserFunction) -> None:
        super().__init__(builder, function)
        self._compared = False

    def __call__(self, content: bytes) -> Row | None:
        (result,) = self._alone([content])
        if isinstance(result, RejectError):
            raise result
        return result

    def rows(self, contents: Sequence[bytes]) -> Iterator[Result]:
        try:
            results = [self._one(result) for result in self._call(contents)]
        except RejectError:
            results = self._alone(contents)
        if not self._compared:
            self._compared = True
            for content, result, alone in zip(contents, results, self._alone(contents), strict=True):
                if not (result == alone or (isinstance(result, RejectError) and isinstance(alone, RejectError))):
                    raise ConfigError(
                        f"stream.format: the parse function makes of the line {shown(content)} another row when it "
                        "is alone than among others",
                        remedy="What it returns for a line must not depend on the other lines.",
                    )
        yield from results

    def _alone(self, contents: Sequence[bytes]) -> list[Result]:
        found: list[Result] = []
        for content in contents:
            try:
                found += [self._one(result) for result in self._call([content])]
            except RejectError as reason:
                found.append(reason)
        return found

    def _one(self, result: Any) -> Result:
        try:
            if isinstance(result, BaseException):
                raise RejectError(f"the parse function rejects it: {described(result)}")
            return self._row(result)
        except RejectError as reason:
            return reason
        except MemoryError as error:
            raise out_of_memory(b"") from error
        except (Exception, SystemExit) as error:
            return RejectError(f"what the parse function returned raised {described(error)}")

    def _call(self, contents: Sequence[bytes]) -> list[Any]:
        """Raises RejectError for what the function raises, ConfigError when it returns another number of results."""
        try:
            results = list(self._function(list(contents)))
        except MemoryError as error:
            raise out_of_memory(contents[0]) from error
        except (Exception, SystemExit) as error:
            raise RejectError(f"the parse function raised {described(error)}") from error
        if len(results) != len(contents):
            raise ConfigError(
                f"stream.format: the parse function returned {len(results)} results for {len(contents)} lines",
                remedy="A function with `batch = True` takes a list of lines, and returns a result for each.",
            )
        return results
