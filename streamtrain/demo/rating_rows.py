"""MovieLens' ratings as lines of JSON, with what was known of user and item before: for networks with floats, two
labels and a sequence.

A rating's history is that of earlier seconds: who rates a page of films sends them at once, and their order within the
second is not his. So nothing of a row, of its second or of what comes later is in its features.
"""

from __future__ import annotations

import math
from collections import defaultdict, deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby

import orjson

from streamtrain.demo.movielens import Attributes, Rating

#: Items of a user's sequence, at most.
HISTORY = 20
#: Stars of the second label; the first one's are movielens.CLICK_FROM.
LOVE_FROM = 5
#: Ratings of the mean over all that are added to a user's or an item's own.
_PRIOR = 5.0


@dataclass
class _Past:
    """Ratings of a user, an item, or all."""

    count: int = 0
    stars: int = 0

    def add(self, stars: int) -> None:
        self.count += 1
        self.stars += stars

    def amount(self) -> float:
        """About 0 to 1: 1 is at 1,000 ratings."""
        return math.log1p(self.count) / math.log1p(1000)

    def above(self, mean: float) -> float:
        """Stars by which its mean is above `mean`, towards 0 where it has few ratings; -4 to 4."""
        return (self.stars - self.count * mean) / (self.count + _PRIOR)


@dataclass
class Histories:
    """What was rated so far."""

    all: _Past = field(default_factory=_Past)
    users: defaultdict[int, _Past] = field(default_factory=lambda: defaultdict(_Past))
    items: defaultdict[int, _Past] = field(default_factory=lambda: defaultdict(_Past))
    rated: defaultdict[int, deque[int]] = field(default_factory=lambda: defaultdict(lambda: deque(maxlen=HISTORY)))

    def add(self, rating: Rating) -> None:
        for past in (self.all, self.users[rating.user], self.items[rating.item]):
            past.add(rating.stars)
        self.rated[rating.user].append(rating.item)

    def of(self, rating: Rating) -> dict[str, object]:
        mean = self.all.stars / self.all.count if self.all.count else 0.0
        user, item = self.users[rating.user], self.items[rating.item]
        return {
            "user_count": round(user.amount(), 5),
            "user_mean": round(user.above(mean), 5),
            "item_count": round(item.amount(), 5),
            "item_mean": round(item.above(mean), 5),
            "last_items": list(self.rated[rating.user]),
        }


def json_lines(
    ratings: Sequence[Rating], users: Mapping[int, Attributes], items: Mapping[int, Attributes]
) -> Iterator[str]:
    """A line a rating, an object:

    click, love: 0 or 1; user, item: numbers; age (tens of years), gender, occupation, year, decade: texts; genre: a
    list; last_items: the user's last HISTORY items, the newest last. Floats: years (of age, from 35 in twenties),
    released (from 1980 in twenties of years, 0 where it is unknown), user_count, user_mean, item_count, item_mean.

    ratings: in the order of time.
    """
    histories = Histories()
    for _, group in groupby(ratings, key=lambda rating: rating.time):
        at_once = list(group)
        for rating in at_once:
            row = _row(rating, users[rating.user], items[rating.item]) | histories.of(rating)
            yield orjson.dumps(row).decode()
        for rating in at_once:
            histories.add(rating)


def _row(rating: Rating, user: Attributes, item: Attributes) -> dict[str, object]:
    year = item["year"][0]
    return {
        "click": rating.click,
        "love": int(rating.stars >= LOVE_FROM),
        "user": rating.user,
        "item": rating.item,
        **{name: user[name][0] for name in ("age", "gender", "occupation")},
        **{name: item[name][0] for name in ("year", "decade")},
        "genre": list(item["genre"]),
        "years": (int(user["years"][0]) - 35) / 20,
        "released": (int(year) - 1980) / 20 if year.isdigit() else 0.0,
    }
