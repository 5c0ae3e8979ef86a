"""What parsers make of lines: a row, or the reason why a line is none."""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from streamtrain.connectors.absent_names import AbsentNames
from streamtrain.contracts.feature_text import LABEL_SLOT, MAX_SLOT, Features
from streamtrain.contracts.row_layout import EXACT_FLOAT32, Label, RowLayout
from streamtrain.contracts.sample import encode_sample, encode_values


class RejectError(ValueError):
    """The line is not a row; the text says why."""


class Row(NamedTuple):
    """A parsed line: slots as packed <u2, ascending and stable, feasigns as packed <u8.

    values: whether the job's rows have more: labels and dense, packed <f4 in the layout's order, and a weight.
    """

    label: int
    slots: bytes
    feasigns: bytes
    labels: bytes = b""
    dense: bytes = b""
    weight: float = 1.0
    values: bool = False

    def encode(self, file: int, line: int) -> bytes:
        """The message, of the schema that its job has."""
        if not self.values:
            return encode_sample(self.label, file, line, self.slots, self.feasigns)
        return encode_values(self.label, file, line, self.slots, self.feasigns, self.labels, self.dense, self.weight)


#: What becomes of a line: a row, None for one that is no row and need not be, the reason why it is rejected.
Result: TypeAlias = "Row | RejectError | None"


class LineParser(Protocol):
    """What makes a row of a line."""

    #: Lines that are given to rows() together, at most.
    batch: int
    #: Is told the names of each line, by formats whose lines have names.
    absent: AbsentNames
    #: The line that begin() took for what the file's lines have; None where there is none.
    header: bytes | None

    def content(self, line: bytes) -> bytes:
        """The line, given without its LF, as the parser takes it. Empty: a blank line, which is no row."""

    def begin(self, name: str, first: bytes | None) -> bool:
        """Called before a file's lines. first: its first line without the LF, None when it has none. Returns whether
        that line is no row, but says what the lines have. Raises DataError, which begins with the file's name."""

    def __call__(self, content: bytes, /) -> Row | None:
        """None: the line is no row, and none was wanted. Raises RejectError."""

    def rows(self, contents: Sequence[bytes]) -> Iterable[Result]:
        """The same of several lines, in their order."""


class OneByOne:
    """Of parsers that take one line after the other and need nothing but the line."""

    batch = 1
    absent = AbsentNames()  # without names it keeps nothing
    header: bytes | None = None

    def begin(self, _name: str, _first: bytes | None) -> bool:
        return False

    def __call__(self, content: bytes, /) -> Row | None:
        raise NotImplementedError

    def rows(self, contents: Sequence[bytes]) -> Iterator[Result]:
        for content in contents:
            try:
                yield self(content)
            except RejectError as reason:
                yield reason


class RowBuilder:
    """Makes a Row from columns: keeps the model's slots, sorts by slot, checks labels, floats and weight."""

    def __init__(self, layout: RowLayout, *, reject_unknown: bool) -> None:
        self.layout = layout
        self.reject_unknown = reject_unknown
        self._known = np.zeros(MAX_SLOT + 1, bool)
        self._known[list(layout.slots)] = True
        self._has_values = layout.has_values
        self._floats = [f"{d.name}[{i}]" if d.width > 1 else d.name for d in layout.dense for i in range(d.width)]

    def build(
        self,
        labels: Sequence[Any],
        slots: npt.NDArray[np.uint64],
        feasigns: npt.NDArray[np.uint64],
        dense: Sequence[Any] = (),
        weight: Any = 1.0,
    ) -> Row:
        """labels, dense: numbers, as many as the layout has, in its order. Raises RejectError."""
        first = check_label(labels[0], self.layout.labels[0])
        label = int(first) if self.layout.labels[0].kind == "binary" else 0
        if slots.size and int(slots.max()) > MAX_SLOT:
            raise RejectError(f"slot {int(slots.max())} is over {MAX_SLOT}")
        keep = self._known[slots]
        if not keep.all():
            if self.reject_unknown:
                raise RejectError(f"slot {int(slots[~keep][0])} is not one of the model's")
            slots, feasigns = slots[keep], feasigns[keep]
        short = slots.astype("<u2")
        if short.size and (short[1:] < short[:-1]).any():
            order = np.argsort(short, kind="stable")
            short, feasigns = short[order], feasigns[order]
        packed = short.tobytes(), feasigns.astype("<u8", copy=False).tobytes()
        if not self._has_values:
            return Row(label, *packed)
        rest = zip(labels[1:], self.layout.labels[1:], strict=True)
        checked = [first, *(check_label(value, of) for value, of in rest)]
        if len(dense) != len(self._floats):
            raise RejectError(f"it has {len(dense)} floats, the config says {len(self._floats)}")
        floats = pack(dense, self._floats)
        weighed = struct.unpack("<f", pack([weight], [self.layout.weight or "weight"]))[0]
        return Row(label, *packed, pack(checked, [of.name for of in self.layout.labels]), floats, weighed, values=True)

    def build_together(self, features: Features) -> list[Row] | None:
        """Rows of lines with slots and one label of 0 or 1; None for lines of which one is not such a row, or for a job
        whose rows have more: those are built one by one."""
        if self._has_values or self.layout.labels[0].kind != "binary":
            return None
        lines = len(features.counts)
        line = np.repeat(np.arange(lines), features.counts)
        is_label = features.slots == LABEL_SLOT
        labels = features.feasigns[is_label]
        if len(labels) != lines or (line[is_label] != np.arange(lines)).any() or int(labels.max()) > 1:
            return None
        keep = ~is_label & self._known[features.slots]
        if self.reject_unknown and int(keep.sum()) + lines != len(keep):
            return None
        line, slots, feasigns = line[keep], features.slots[keep], features.feasigns[keep]
        cell = line << 16 | slots.astype(np.int64)
        if (cell[1:] < cell[:-1]).any():
            order = np.argsort(cell, kind="stable")
            slots, feasigns = slots[order], feasigns[order]
        ends = np.cumsum(np.bincount(line, minlength=lines)).tolist()
        all_slots, all_feasigns = slots.astype("<u2").tobytes(), feasigns.astype("<u8", copy=False).tobytes()
        return [
            Row(label, all_slots[2 * begin : 2 * end], all_feasigns[8 * begin : 8 * end])
            for label, begin, end in zip(labels.tolist(), [0, *ends], ends, strict=False)
        ]


def check_label(value: Any, of: Label) -> float:
    """The label's value, which is a number. Raises RejectError."""
    if of.kind == "binary":
        if value not in (0, 1):
            raise RejectError(f"the label {'' if of.name == 'click' else of.name + ' '}is {value}, not 0 or 1")
        return float(value)
    if of.kind == "int" and (value != value or abs(value) > EXACT_FLOAT32 or value != math.floor(value)):
        raise RejectError(f"the label {of.name} is {value}, not a whole number up to {EXACT_FLOAT32}")
    return value  # type: ignore[no-any-return]


def pack(values: Sequence[Any], names: Sequence[str]) -> bytes:
    """Numbers as packed <f4. names: of each. Raises RejectError for one that is no finite float32."""
    try:
        packed = struct.pack(f"<{len(values)}f", *values)
        if all(map(math.isfinite, values)):
            return packed
    except (OverflowError, struct.error):
        pass
    for value, name in zip(values, names, strict=True):
        try:
            if not math.isfinite(value):
                raise RejectError(f"{name} is {value}, which is not finite")
            struct.pack("<f", value)
        except OverflowError as error:
            raise RejectError(f"{name} is {_short(value)}, more than a float32 holds") from error
        except (struct.error, TypeError) as error:
            raise RejectError(f"{name} is {_short(value)}, not a number") from error
    raise RejectError("one of its numbers is no float32")


def _short(value: Any) -> str:
    try:
        text = repr(value)
    except Exception:  # a number of more digits than Python prints
        text = f"a {type(value).__name__}"
    return text if len(text) <= 60 else f"{text[:60]}..."
