"""MovieLens' ratings with what was known before: nothing of a row itself, or of what came later, is in its features."""

from __future__ import annotations

import math

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamtrain.demo.movielens import Attributes, Rating
from streamtrain.demo.rating_rows import HISTORY, json_lines

USERS: dict[int, Attributes] = {
    n: {"user": (str(n),), "age": (str(n),), "years": (str(10 * n + 5),), "gender": ("F",), "occupation": ("artist",)}
    for n in range(1, 4)
}
ITEMS: dict[int, Attributes] = {
    n: {"item": (str(n),), "year": ("1990" if n % 2 else "",), "decade": ("199" if n % 2 else "",),
        "genre": ("Comedy", "Drama")[: n % 3]}
    for n in range(1, 41)
}  # fmt: skip
one = st.builds(Rating, st.integers(0, 6), st.integers(1, 3), st.integers(1, 40), st.integers(1, 5))
several = st.lists(one, max_size=60).map(lambda rows: sorted(rows, key=lambda r: (r.time, r.user, r.item)))
LABELS = ("click", "love")


def rows_of(ratings: list[Rating]) -> list[dict[str, object]]:
    return [orjson.loads(line) for line in json_lines(ratings, USERS, ITEMS)]


@given(several, st.data())
def test_rows_do_not_change_when_later_ones_are_removed(ratings: list[Rating], data: st.DataObject) -> None:
    kept = data.draw(st.integers(0, len(ratings)))
    assert rows_of(ratings[:kept]) == rows_of(ratings)[:kept]


@given(several.filter(bool), st.data())
def test_a_rows_own_stars_are_in_its_labels_alone(ratings: list[Rating], data: st.DataObject) -> None:
    """Nor are those of its second."""
    number = data.draw(st.integers(0, len(ratings) - 1))
    old = ratings[number]
    other = [*ratings[:number], Rating(old.time, old.user, old.item, 6 - old.stars or 1), *ratings[number + 1 :]]
    for rating, before, after in zip(ratings, rows_of(ratings), rows_of(other), strict=True):
        if rating.time <= old.time:
            for row in (before, after):
                for label in LABELS:
                    del row[label]
            assert before == after


@given(several)
def test_the_histories_are_those_of_earlier_seconds(ratings: list[Rating]) -> None:
    """Computed once more, by looking back over all."""
    for rating, row in zip(ratings, rows_of(ratings), strict=True):
        earlier = [r for r in ratings if r.time < rating.time]
        mean = sum(r.stars for r in earlier) / len(earlier) if earlier else 0.0
        for name in ("user", "item"):
            own = [r.stars for r in earlier if getattr(r, name) == getattr(rating, name)]
            assert row[f"{name}_count"] == pytest.approx(math.log(1 + len(own)) / math.log(1001), abs=1e-5)
            assert row[f"{name}_mean"] == pytest.approx(sum(s - mean for s in own) / (len(own) + 5), abs=2e-5)
        assert row["last_items"] == [r.item for r in earlier if r.user == rating.user][-HISTORY:]


def test_a_row() -> None:
    first, second = rows_of([Rating(5, 2, 1, 4), Rating(6, 2, 2, 5)])
    assert first == {
        "click": 1, "love": 0, "user": 2, "item": 1, "age": "2", "gender": "F", "occupation": "artist", "year": "1990",
        "decade": "199", "genre": ["Comedy"], "years": -0.5, "released": 0.5, "user_count": 0.0, "user_mean": 0.0,
        "item_count": 0.0, "item_mean": 0.0, "last_items": [],
    }  # fmt: skip
    assert (second["click"], second["love"], second["released"], second["last_items"]) == (1, 1, 0.0, [1])
