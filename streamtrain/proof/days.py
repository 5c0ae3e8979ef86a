"""What the end of a day does to the counts of every key: decay, deletion. For the recount alone, pure.

Paddle's shrink, as measured: show and click times the decay rate, then a key is deleted when
(show - click) * nonclk_coeff + click * click_coeff < delete_threshold or unseen_days > delete_after_unseen_days,
all in float32; after it unseen_days grows by one. Here the same is done in float32, so a key whose counts were whole
numbers below a million at every end of a day is exact. For all others there is a bound of what may differ:

    error = (error + DAILY * show) * rate    at the end of each day, with show as it is right before the shrink
    tolerance = error + DAILY * show         when a checkpoint is read

DAILY is 6e-6. A checkpoint's text has 6 significant digits, so a restart moves a value by at most 5e-6 of it. A day
adds whole numbers, which keep a value on its grid of 6 digits until it grows by a digit: all restarts of a day
together move it by less than 5e-6 * (1 + 1/10 + 1/100 + ..). In the same way float32 rounds only where a sum passes
a power of two, 2^-23 a day altogether, and once for the decay; the same again for the sums here. From a million on
whole numbers are rounded too and each restart may do it again: twice DAILY. click is at most show on every day, and so
is its error.

A key whose score lies within its error of the threshold may have been deleted or not: both histories are kept.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

DAILY = 6e-6
#: Paddle writes 6 significant digits: larger whole numbers are rounded.
EXACT_TEXT = 1e6
#: unseen_days of a history in which the key is not in the table.
ABSENT = -1


@dataclass(frozen=True)
class ShrinkRule:
    """The accessor's parameters, with what Paddle takes where the config does not say them."""

    nonclk_coeff: float = 0.1
    click_coeff: float = 1.0
    show_click_decay_rate: float = 1.0
    delete_threshold: float = 0.0
    delete_after_unseen_days: float = 30.0

    def keeps_all(self, days: int) -> bool:
        """Whether nothing decays and nothing can be deleted in so many days."""
        rare = self.delete_threshold > 0 or self.delete_after_unseen_days < days
        return self.show_click_decay_rate == 1 and not rare


#: Nothing decays, nothing is deleted.
NEVER = ShrinkRule(show_click_decay_rate=1.0, delete_threshold=0.0, delete_after_unseen_days=float("inf"))


class Histories:
    """Sorted by `key`: what each key's show and click must be. A key of which nobody can tell whether it was deleted
    has several histories, in one of them perhaps `unseen` == ABSENT.

    key: uint64; show, click: float32, as Paddle computes; error: float64, of show and of click; unseen: days.
    deleted: how often a key was surely deleted.
    """

    def __init__(self, rule: ShrinkRule) -> None:
        self._rule = rule
        self._rate = np.float32(rule.show_click_decay_rate)
        self.key: npt.NDArray[np.uint64] = np.empty(0, np.uint64)
        self.show: npt.NDArray[np.float32] = np.empty(0, np.float32)
        self.click: npt.NDArray[np.float32] = np.empty(0, np.float32)
        self.error: npt.NDArray[np.float64] = np.empty(0, np.float64)
        self.unseen: npt.NDArray[np.int32] = np.empty(0, np.int32)
        self.deleted = 0

    def begin(
        self,
        key: npt.NDArray[np.uint64],
        show: npt.NDArray[np.float32],
        click: npt.NDArray[np.float32],
        unseen: npt.NDArray[np.int32],
    ) -> None:
        """What the keys of another model had, before any row. They are what a text said: exact, whatever they are."""
        order = np.argsort(key, kind="stable")
        self.key, self.show, self.click = key[order], show[order], click[order]
        self.error, self.unseen = np.zeros(len(key)), unseen[order]

    def train(self, shown: Counter[int], clicked: Counter[int]) -> None:
        """Adds rows: occurrences by key, of all rows and of clicked ones."""
        size = len(shown)
        keys = np.fromiter(shown.keys(), np.uint64, size)
        shows = np.fromiter(shown.values(), np.float64, size)
        clicks = np.fromiter((clicked.get(k, 0) for k in shown), np.float64, size)
        order = np.argsort(keys)
        keys, shows, clicks = keys[order], shows[order], clicks[order]
        at, hit = lookup(keys, self.key)
        at = at[hit]
        self.show[hit] = self.show[hit] + shows[at]
        self.click[hit] = self.click[hit] + clicks[at]
        self.unseen[hit] = 0
        _, known = lookup(self.key, keys)
        new = ~known
        self._append(keys[new], shows[new].astype(np.float32), clicks[new].astype(np.float32), unseen=0)

    def end_day(self) -> None:
        """The shrink, and unseen_days + 1."""
        rule = self._rule
        there = self.unseen != ABSENT
        self.error = self.tolerance() * float(self._rate)
        self.show *= self._rate
        self.click *= self._rate
        score = (self.show - self.click) * np.float32(rule.nonclk_coeff) + self.click * np.float32(rule.click_coeff)
        score = score.astype(np.float64)
        weight = rule.nonclk_coeff + np.where(self.click > 0, abs(rule.click_coeff - rule.nonclk_coeff), 0)
        margin = np.where(self.error > 0, self.error * weight + 1e-6 * np.abs(score), 0)
        threshold = float(np.float32(rule.delete_threshold))
        unseen = self.unseen > np.float32(rule.delete_after_unseen_days)
        gone = there & (unseen | (score < threshold - margin))
        perhaps = there & ~gone & (score < threshold + margin)
        self.unseen[there] += 1
        self.deleted += int(gone.sum())
        absent = np.unique(self.key[gone | perhaps | ~there])
        self._keep(there & ~gone)
        _, several = lookup(self.key, absent)
        absent = absent[several]
        zeros = np.zeros(len(absent), np.float32)
        self._append(absent, zeros, zeros, unseen=ABSENT)

    def tolerance(self) -> npt.NDArray[np.float64]:
        """How far show and click of each history may lie from what a checkpoint of now says."""
        show = self.show.astype(np.float64)
        large = show >= EXACT_TEXT
        whole = (self.show == np.trunc(self.show)) & (self.click == np.trunc(self.click))
        exact = (self.error == 0) & whole & ~large
        return np.where(exact, 0.0, self.error + np.where(large, 2 * DAILY, DAILY) * show)

    def _keep(self, mask: npt.NDArray[np.bool_]) -> None:
        self.key, self.show, self.click = self.key[mask], self.show[mask], self.click[mask]
        self.error, self.unseen = self.error[mask], self.unseen[mask]

    def _append(
        self,
        key: npt.NDArray[np.uint64],
        show: npt.NDArray[np.float32],
        click: npt.NDArray[np.float32],
        *,
        unseen: int,
    ) -> None:
        if not len(key):
            return
        self.key = np.concatenate([self.key, key])
        self.show = np.concatenate([self.show, show])
        self.click = np.concatenate([self.click, click])
        self.error = np.concatenate([self.error, np.zeros(len(key))])
        self.unseen = np.concatenate([self.unseen, np.full(len(key), unseen, np.int32)])
        order = np.argsort(self.key, kind="stable")
        self.key, self.show, self.click = self.key[order], self.show[order], self.click[order]
        self.error, self.unseen = self.error[order], self.unseen[order]


def lookup(
    among: npt.NDArray[np.uint64], keys: npt.NDArray[np.uint64]
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.bool_]]:
    """The first place of each of `keys` in the sorted array, and whether it is there."""
    at = np.searchsorted(among, keys)
    if not len(among):
        return at, np.zeros(len(keys), np.bool_)
    at = np.minimum(at, len(among) - 1)
    return at, among[at] == keys
