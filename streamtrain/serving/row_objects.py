"""Rows given by name, {"user": [1, 2], "price": 0.3}, beside those of `feasign:slot` text. Pure."""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import orjson

from streamtrain.contracts.feature_text import MAX_FEASIGN, FeatureError, parse_line
from streamtrain.contracts.paths import quoted
from streamtrain.contracts.served_network import DenseFeed, ServedNetwork
from streamtrain.errors import DataError
from streamtrain.serving.rows import Columns, parse
from streamtrain.serving.table import F32

#: Text, or values by name.
AnyRow: TypeAlias = "str | bytes | Mapping[Any, Any]"
_MAX_FLOAT = float(np.finfo(np.float32).max)


class RowProblem(ValueError):
    """A row is not valid; the text says why."""


class RowForm:
    """The names that a row of a model may have, and their values.

    A slot has a feasign or a list of them, in their order; it is called by its name or its number (as text too), and
    one that is absent, or null, is empty. A dense feed has a number, or a list of as many as it is wide, and must be
    there: there is no default. Other names are ignored, as the slots of text that a model lacks: rows carry labels, and
    what other models want. But a row without any name that the model has is an error: it is of another form.
    """

    def __init__(self, network: ServedNetwork) -> None:
        self.dense = network.dense
        #: A feed of each slot that is not a sequence.
        self.fixed = list({feed.slot: feed for feed in network.slots if feed.length}.values())
        self._slots: dict[Any, int] = {feed.slot: feed.slot for feed in network.slots}
        self._slots.update({str(feed.slot): feed.slot for feed in network.slots})
        self._slots.update({feed.name: feed.slot for feed in network.slots})
        self._names = {*self._slots, *(feed.name for feed in self.dense)}
        self._known = list(dict.fromkeys([feed.name for feed in network.slots])) + [feed.name for feed in self.dense]

    def features(self, row: Mapping[Any, Any]) -> tuple[list[int], list[int], list[float]]:
        """(slots, feasigns, floats). Raises RowProblem."""
        if row and self._names.isdisjoint(row):
            known = ", ".join(self._known[:8]) + (", .." if len(self._known) > 8 else "")
            raise RowProblem(f"none of its names is the model's, {quoted(str(next(iter(row))))} is one; it has {known}")
        slots: list[int] = []
        feasigns: list[int] = []
        for name, value in row.items():
            if (slot := self._slots.get(name)) is None or value is None:
                continue
            given = value if isinstance(value, list) else _plain(value)
            own = given if isinstance(given, list) else [given]
            for feasign in own:
                if type(feasign) is not int or not 0 <= feasign <= MAX_FEASIGN:
                    raise RowProblem(f"{name}: {_shown(feasign)} is not a feasign, a whole number from 0 to 2^64-1")
            slots += [slot] * len(own)
            feasigns += own
        floats: list[float] = []
        for feed in self.dense:
            floats += _floats(feed, row.get(feed.name))
        return slots, feasigns, floats


def _floats(feed: DenseFeed, value: Any) -> list[float]:
    if value is None:
        raise RowProblem(f"{feed.name} is missing: the model takes {_count(feed.width)} of it")
    given = value if isinstance(value, list) else _plain(value)
    own = given if isinstance(given, list) else [given]
    if len(own) != feed.width:
        raise RowProblem(f"{feed.name} has {_count(len(own))}, the model takes {feed.width}")
    for number in own:
        if type(number) not in (float, int) or not -_MAX_FLOAT <= number <= _MAX_FLOAT:
            raise RowProblem(f"{feed.name}: {_shown(number)} is not a number that a float32 has")
    return own


def _plain(value: Any) -> Any:
    """Numpy's values as Python's."""
    return value.tolist() if isinstance(value, np.ndarray | np.generic) else value


def _shown(value: Any) -> str:
    return quoted(value if isinstance(value, str) else repr(value))


def _count(number: int) -> str:
    return "1 number" if number == 1 else f"{number} numbers"


def parse_rows(rows: Sequence[AnyRow], form: RowForm, first: int = 1, name: str = "line") -> Columns:
    """Rows as `feasign:slot` text, as text of a JSON object, or as values by name.

    Raises DataError with the number of the first row that is not valid, counted from `first`, after `name`.
    """
    if not form.dense and not any(_is_object(row) for row in rows):
        return parse(rows, first, name)  # type: ignore[arg-type]  # all are text
    found: list[tuple[Any, Any, Any]] = []
    for number, row in enumerate(rows, first):
        try:
            found.append(_features(row, form))
        except (RowProblem, FeatureError) as error:
            raise DataError(f"{name} {number}: {error}") from error
    counts = np.array([len(slots) for slots, _, _ in found], np.int64)
    empty = np.zeros(0, np.uint64)
    slots = np.concatenate([empty, *(np.array(slots, np.uint64) for slots, _, _ in found)])
    feasigns = np.concatenate([empty, *(np.array(feasigns, np.uint64) for _, feasigns, _ in found)])
    width = sum(feed.width for feed in form.dense)
    dense: F32 | None = np.array([floats for _, _, floats in found], np.float32).reshape(-1, width) if width else None
    return Columns(counts, slots, feasigns, dense)


def whole_numbers(given: Any, name: str, kind: type[np.generic]) -> npt.NDArray[Any]:
    """An array of `kind`; the bits of integers are kept. Raises DataError, for floats too: pandas makes them of a
    column with a gap, and a feasign that went through one is another one."""
    try:
        found = np.asarray(given, None if hasattr(given, "dtype") else object)  # a list may have both -1 and 2^64 - 1
        if found.dtype.kind in "iub" or not found.size:
            return found.astype(kind)
        if found.dtype.kind == "O":
            return np.array([operator.index(number) for number in found.ravel().tolist()], kind).reshape(found.shape)
    except (TypeError, ValueError, OverflowError) as error:
        raise DataError(f"{name} are no whole numbers of 64 bits: {error}") from error
    raise DataError(f"{name} are {found.dtype}, whole numbers are wanted", remedy="Give an array of integers.")


def dense_columns(form: RowForm, given: Mapping[str, Any], rows: int) -> F32 | None:
    """The floats of n rows, [rows, floats], out of arrays by name; None when the model takes none. Raises DataError."""
    parts = []
    for feed in form.dense:
        if feed.name not in given:
            raise DataError(f"{feed.name} is missing: the model takes {_count(feed.width)} of it in each row")
        try:
            values = np.asarray(given[feed.name], np.float32)
        except (ValueError, TypeError) as error:
            raise DataError(f"{feed.name} is not an array of numbers: {error}") from error
        if values.ndim not in (1, 2) or len(values) != rows or values.size != rows * feed.width:
            raise DataError(
                f"{feed.name} has the shape {list(values.shape)}, for {rows} rows it must be [{rows}, {feed.width}]"
            )
        if (wrong := np.flatnonzero(~np.isfinite(values.reshape(rows, -1)).all(axis=1))).size:
            raise DataError(f"row {int(wrong[0]) + 1}: {feed.name} is not finite")
        parts.append(values.reshape(rows, feed.width))
    return np.concatenate(parts, axis=1) if parts else None


def _is_object(row: AnyRow) -> bool:
    if isinstance(row, str):
        return row.lstrip()[:1] == "{"
    return not isinstance(row, bytes) or row.lstrip()[:1] == b"{"


def _features(row: AnyRow, form: RowForm) -> tuple[Any, Any, Any]:
    """(slots, feasigns, floats) of a row of any form. Raises RowProblem, FeatureError."""
    if not _is_object(row):
        if form.dense:
            raise RowProblem(
                f"{form.dense[0].name} is missing: text has no numbers but feasigns, give an object by name"
            )
        slots, feasigns = parse_line(row.encode() if isinstance(row, str) else bytes(row))
        return slots, feasigns, []
    if not isinstance(row, str | bytes):
        if not isinstance(row, Mapping):
            raise RowProblem(f"{type(row).__name__} is neither text nor an object")
        return form.features(row)
    try:
        document = orjson.loads(row)
    except orjson.JSONDecodeError as error:
        raise RowProblem(f"it is not a JSON object: {error}") from error
    return form.features(document)
