"""What parsers make of lines: a row, or the reason why a line is none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from streamtrain.contracts.feature_text import MAX_SLOT


class RejectError(ValueError):
    """The line is not a row; the text says why."""


@dataclass(frozen=True)
class Row:
    """A parsed line: slots as packed <u2, ascending and stable, feasigns as packed <u8."""

    label: int
    slots: bytes
    feasigns: bytes


class LineParser(Protocol):
    """What makes a row of a line."""

    def content(self, line: bytes) -> bytes:
        """The line, given without its LF, as the parser takes it. Empty: a blank line, which is no row."""

    def __call__(self, content: bytes, /) -> Row | None:
        """None: the line is no row, and none was wanted. Raises RejectError."""


class RowBuilder:
    """Makes a Row from columns: keeps the model's slots, sorts by slot."""

    def __init__(self, slots: Sequence[int], *, reject_unknown: bool) -> None:
        self._known = np.zeros(MAX_SLOT + 1, bool)
        self._known[list(slots)] = True
        self._reject_unknown = reject_unknown

    def build(self, label: int, slots: npt.NDArray[np.uint64], feasigns: npt.NDArray[np.uint64]) -> Row:
        if slots.size and int(slots.max()) > MAX_SLOT:
            raise RejectError(f"slot {int(slots.max())} is over {MAX_SLOT}")
        keep = self._known[slots]
        if not keep.all():
            if self._reject_unknown:
                raise RejectError(f"slot {int(slots[~keep][0])} is not one of the model's")
            slots, feasigns = slots[keep], feasigns[keep]
        short = slots.astype("<u2")
        if short.size and (short[1:] < short[:-1]).any():
            order = np.argsort(short, kind="stable")
            short, feasigns = short[order], feasigns[order]
        return Row(label, short.tobytes(), feasigns.astype("<u8", copy=False).tobytes())


def check_label(label: int) -> int:
    if label not in (0, 1):
        raise RejectError(f"the label is {label}, not 0 or 1")
    return label
