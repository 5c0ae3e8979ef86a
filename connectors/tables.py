"""Lines of CSV, TSV and JSON: values by name, mapped by `stream.columns`."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from dataclasses import dataclass

import orjson

from streamtrain.connectors.absent_names import AbsentNames
from streamtrain.connectors.columns import ColumnMapper
from streamtrain.connectors.rows import LineParser, OneByOne, RejectError, Row, RowBuilder
from streamtrain.connectors.source import MAX_LINE
from streamtrain.contracts.line_format import LineFormat
from streamtrain.errors import DataError

_REMEDY = "Correct the file, or stream.header; nothing of its split was published."


class JsonParser(OneByOne):
    """A JSON object a line. A key that is given twice has its last value. fields: keys that are read."""

    def __init__(self, mapper: ColumnMapper, fields: Sequence[str]) -> None:
        self._mapper = mapper
        self.absent = AbsentNames(fields)

    @staticmethod
    def content(line: bytes) -> bytes:
        return line.strip(b" \t\r")

    def __call__(self, line: bytes) -> Row:
        try:
            record = orjson.loads(line)
        except orjson.JSONDecodeError as error:
            raise RejectError(_why_not(line, error)) from error
        if not isinstance(record, dict):
            raise RejectError(f"it is a JSON {type(record).__name__}, not an object")
        self.absent.had(record)
        return self._mapper.row(record)


def _why_not(line: bytes, error: Exception) -> str:
    """Why a line is not JSON. Python's own json writes NaN and Infinity, which JSON lacks: their key is named."""
    constants: dict[str, str] = {}

    def look(pairs: list[tuple[str, object]]) -> dict[str, object]:
        for key, value in pairs:
            for item in value if isinstance(value, list) else [value]:
                if isinstance(item, _Constant):
                    constants.setdefault(key, item.name)
        return {}

    try:
        json.loads(line, parse_constant=_Constant, object_pairs_hook=look)
    except (ValueError, RecursionError):
        constants.clear()
    for key, name in constants.items():
        return f"it is not JSON: {key} is {name}; write null, or leave the key out"
    return f"it is not JSON: {error}"


@dataclass(frozen=True)
class _Constant:
    name: str


class CellsParser(OneByOne):
    """Cells in one line. CSV: separated by commas, quoted as Python's csv module takes it; a quoted cell ends in its
    line. TSV: separated by tabs, and nothing is quoted.

    header: the cells' names, None when each file's first line has them. wanted: names that must be there.
    """

    def __init__(
        self, mapper: ColumnMapper, wanted: Sequence[str], header: Sequence[str] | None, *, tabs: bool
    ) -> None:
        self._mapper = mapper
        self._wanted = list(dict.fromkeys(wanted))
        self._fixed = header
        self._names = list(header or ())
        self._tabs = tabs

    @staticmethod
    def content(line: bytes) -> bytes:
        """A line of tabs alone has empty cells."""
        return line.removesuffix(b"\r") if line.strip(b" \r") else b""

    def begin(self, name: str, first: bytes | None) -> bool:
        if self._fixed is not None or first is None:
            return False
        try:
            if len(first) > MAX_LINE:
                raise RejectError(f"it is longer than {MAX_LINE} bytes")
            header = self._cells(self.content(first))
        except RejectError as reason:
            raise DataError(f"{name}, line 1: it is no header: {reason}", remedy=_REMEDY) from reason
        if lacking := [column for column in self._wanted if column not in header]:
            raise DataError(
                f"{name}, line 1: its header has no {', '.join(lacking)}, which stream.columns names; it has "
                f"{', '.join(header[:50]) or 'nothing'}",
                remedy=_REMEDY,
            )
        twice = [column for column in self._wanted if header.count(column) > 1]
        if twice:
            raise DataError(f"{name}, line 1: its header has {twice[0]} twice", remedy=_REMEDY)
        self._names = header
        self.header = first
        return True

    def __call__(self, line: bytes) -> Row:
        cells = self._cells(line)
        if len(cells) != len(self._names):
            raise RejectError(f"it has {len(cells)} cells, the header {len(self._names)}")
        return self._mapper.row(dict(zip(self._names, cells, strict=True)))

    def _cells(self, line: bytes) -> list[str]:
        try:
            text = line.decode()
            return text.split("\t") if self._tabs else next(csv.reader([text], strict=True), [])
        except UnicodeDecodeError as error:
            raise RejectError(f"it is not UTF-8: {error.reason} at byte {error.start}") from error
        except csv.Error as error:
            raise RejectError(f"it is not a line of CSV: {error}") from error


def named_parser(form: LineFormat, builder: RowBuilder) -> LineParser:
    """The parser of csv, tsv or json."""
    assert form.columns is not None
    mapper = ColumnMapper(form.columns, builder)
    fields = list(form.columns.fields())
    if form.name == "json":
        return JsonParser(mapper, fields)
    return CellsParser(mapper, fields, form.header, tabs=form.name == "tsv")
