"""The text of a line of features: `feasign:slot feasign:slot ..`, separated by blanks. Pure.

A feasign is from 0 to 2^64-1, a slot from 1 to 65535; slot 1 is the label's, whose meaning is the caller's. Numbers may
have zeros ahead, blanks may be tabs, and a line may be empty.

Each parser has a fast way, for the usual form of a line, and an exact one, which takes every valid line and knows why
another is not valid. Both give the same for the same line.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
import orjson

U64: TypeAlias = npt.NDArray[np.uint64]
I64: TypeAlias = npt.NDArray[np.int64]

LABEL_SLOT = 1
MAX_FEASIGN = 2**64 - 1
MAX_SLOT = 2**16 - 1
#: Lines that are parsed at once: of 400 features they fit a processor's cache.
TOGETHER = 64
_DIGITS = b"0123456789"
_COMMAS = bytes.maketrans(b": ", b",,")
_BLANKS = bytes.maketrans(b":", b" ")


class FeatureError(ValueError):
    """A line is not valid; the text says why. index: its place among the lines that were parsed together."""

    def __init__(self, reason: str, index: int = 0) -> None:
        super().__init__(reason)
        self.index = index


class Features(NamedTuple):
    """n lines as columns: counts [n] (features a line), slots and feasigns [sum(counts)]."""

    counts: I64
    slots: U64
    feasigns: U64


def parse_line(line: bytes) -> tuple[U64, U64]:
    """(slots, feasigns) of a line, in its order. Raises FeatureError."""
    numbers = _fast_numbers(line)
    if numbers is None:
        numbers = exact_numbers(line)
    return numbers[1::2], numbers[0::2]


def parse_lines(lines: Sequence[bytes]) -> Features:
    """Many lines at once: for each of them faster than parse_line(). Raises FeatureError for the first that is not
    valid."""
    if len(lines) <= TOGETHER:
        return fast_features(lines) or exact_features(lines)
    parts = []
    for start in range(0, len(lines), TOGETHER):
        try:
            parts.append(parse_lines(lines[start : start + TOGETHER]))
        except FeatureError as error:
            raise FeatureError(str(error), start + error.index) from error
    return Features(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))


def _fast_numbers(line: bytes) -> U64 | None:
    """feasign, slot, feasign, slot ..; None for a line that is left to exact_numbers()."""
    shape = line.translate(None, _DIGITS)
    if shape != b": " * (len(shape) // 2) + b":":
        return None
    try:
        values = orjson.loads(b"[%b]" % line.translate(_COMMAS))
        numbers = np.array(values, np.uint64)
    except (orjson.JSONDecodeError, OverflowError, ValueError):
        return None
    # a number over 2^64-1 comes back as a float
    if float in set(map(type, values)) or not _valid_slots(numbers[1::2]):
        return None
    return numbers


def fast_features(lines: Sequence[bytes]) -> Features | None:
    """The usual form alone; None for lines that are left to exact_features()."""
    shapes = [line.translate(None, _DIGITS) for line in lines]
    counts = np.array([(len(shape) + 1) // 2 for shape in shapes], np.int64)
    features = int(counts.sum())
    if not features or b" ".join([s for s in shapes if s]) != b" ".join([b":"] * features):
        return None
    if any(line and not shape for line, shape in zip(lines, shapes, strict=True)):  # a lone number
        return None
    numbers = np.fromstring(b" ".join(lines).translate(_BLANKS), np.uint64, sep=" ")
    feasigns, slots = numbers[0::2], numbers[1::2]
    # a missing number makes them fewer; one over 2^64-1 comes back as 2^64-1
    if len(numbers) != 2 * features or int(feasigns.max()) == MAX_FEASIGN or not _valid_slots(slots):
        return None
    return Features(counts, slots, feasigns)


def _valid_slots(slots: U64) -> bool:
    return int(slots.min()) >= 1 and int(slots.max()) <= MAX_SLOT


def exact_numbers(line: bytes) -> U64:
    """feasign, slot, feasign, slot .. of any valid line. Raises FeatureError with the reason of another."""
    numbers: list[int] = []
    for token in line.split():
        feasign, colon, slot = token.partition(b":")
        if not colon or not (feasign.isdigit() and slot.isdigit()):
            raise FeatureError(f"{quoted(token)} is not feasign:slot")
        key, place = _number(feasign), _number(slot)
        if key > MAX_FEASIGN:
            raise FeatureError(f"feasign {quoted(feasign)} is over 2^64-1")
        if not 1 <= place <= MAX_SLOT:
            raise FeatureError(f"slot {quoted(slot)} is not from 1 to {MAX_SLOT}")
        numbers += (key, place)
    return np.array(numbers, np.uint64)


def _number(digits: bytes) -> int:
    """The number; MAX_FEASIGN + 1 for one that 64 bits cannot hold, since int() refuses more than 4,300 digits."""
    digits = digits.lstrip(b"0") or b"0"
    return min(int(digits), MAX_FEASIGN + 1) if len(digits) <= 20 else MAX_FEASIGN + 1


def exact_features(lines: Sequence[bytes]) -> Features:
    """The same of many lines."""
    rows = []
    for index, line in enumerate(lines):
        try:
            rows.append(exact_numbers(line))
        except FeatureError as error:
            raise FeatureError(str(error), index) from error
    numbers = np.concatenate([np.zeros(0, np.uint64), *rows])
    counts = np.array([len(row) // 2 for row in rows], np.int64)
    return Features(counts, numbers[1::2], numbers[0::2])


def quoted(token: bytes) -> str:
    """A token as messages show it: at most 40 bytes of it."""
    return repr(token[:40])[1:] + ("..." if len(token) > 40 else "")
