"""The counts of the sources against the table of the checkpoint, key by key. For the recount alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from streamtrain.proof.days import ABSENT, Histories, lookup

Keys = npt.NDArray[np.uint64]
Numbers = npt.NDArray[np.float64]


@dataclass
class Differences:
    """See Recount."""

    keys: int = 0
    lost: int = 0
    duplicated: int = 0
    missing_keys: int = 0
    unknown_keys: int = 0
    wrong_clicks: int = 0
    not_recountable_keys: int = 0
    undecided: int = 0
    sharp: int = 0
    tolerance: float = 0.0
    examples: list[tuple[int, float, float]] = field(default_factory=list)

    def note(self, key: np.uint64, expected: float, actual: float) -> None:
        if len(self.examples) < 10:
            self.examples.append((int(key), float(expected), float(actual)))


def total(each: Sequence[Differences]) -> Differences:
    """Of several tables together."""
    result = Differences()
    for one in each:
        for name, value in vars(one).items():
            if name == "tolerance":
                result.tolerance = max(result.tolerance, one.tolerance)
            elif name == "examples":
                result.examples = [*result.examples, *one.examples][:10]
            else:
                setattr(result, name, getattr(result, name) + value)
    return result


def compare(
    histories: Histories,
    table: tuple[Keys, Numbers, Numbers],
    last: float,
    *,
    less: bool,
    more: bool,
    clicks: bool = True,
) -> Differences:
    """table: key, show, click. clicks: whether click is compared too.
    last: what one row of the last day adds to show. less, more: whether a show that is too
    small, too large is known to be wrong; the others are not recountable.

    Missing rows can only make a count of the sources too small, whatever the decay: a key with more rows has more show
    and is deleted later or not at all. So a show below the count of what is there is lost for certain.
    """
    keys, shows, clicked = table
    result = Differences()
    twice = np.zeros(len(keys), np.bool_)
    twice[1:] = keys[1:] == keys[:-1]
    keys_of_rows = histories.key
    at, present = lookup(keys, keys_of_rows)
    actual = np.where(present, shows[at] if len(keys) else 0.0, 0.0)
    actual_click = np.where(present, clicked[at] if len(keys) else 0.0, 0.0)
    there = histories.unseen != ABSENT
    expected = histories.show.astype(np.float64)
    tolerance = histories.tolerance()
    difference = actual - expected
    difference_of_clicks = actual_click - histories.click if clicks else np.zeros(len(actual))
    same_show = (present == there) & (np.abs(difference) <= tolerance)
    right = same_show & (np.abs(difference_of_clicks) <= tolerance)

    distinct, counts = np.unique(keys_of_rows, return_counts=True)
    result.keys = len(distinct)
    result.undecided = int((counts > 1).sum())
    positive = expected > 0
    result.tolerance = float((tolerance[positive] / expected[positive]).max(initial=0.0))
    result.sharp = result.keys - len(np.unique(keys_of_rows[there & (2 * tolerance >= last)]))

    unknown = ~lookup(keys_of_rows, keys)[1]
    for i in np.flatnonzero(unknown | twice).tolist():
        if more or twice[i]:
            result.unknown_keys += 1
            result.note(keys[i], 0.0, shows[i])
        else:
            result.not_recountable_keys += 1
    enough: set[int] = set() if more else set(keys_of_rows[difference > 0].tolist())  # by one of its histories at least
    for i in _nearest(keys_of_rows, difference, right):
        few = (not present[i] or difference[i] < 0) and int(keys_of_rows[i]) not in enough
        if same_show[i]:
            if less if difference_of_clicks[i] < 0 else more:
                result.wrong_clicks += 1
            else:
                result.not_recountable_keys += 1
            continue
        if not (less if few else more):
            result.not_recountable_keys += 1
            continue
        size = max(1, round(abs(float(difference[i]))))
        result.missing_keys += int(not present[i])
        if few:
            result.lost += size
        else:
            result.duplicated += size
        result.note(keys_of_rows[i], expected[i], actual[i])
    return result


def _nearest(keys: Keys, difference: Numbers, right: npt.NDArray[np.bool_]) -> Iterator[int]:
    """Of each key none of whose histories is right: the history that is nearest to the table."""
    wrong = np.flatnonzero(~right & ~lookup(keys[right], keys)[1])
    wrong = wrong[np.lexsort((np.abs(difference[wrong]), keys[wrong]))]
    yield from wrong[np.unique(keys[wrong], return_index=True)[1]].tolist()
