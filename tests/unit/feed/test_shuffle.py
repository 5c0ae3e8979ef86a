"""The order of a pass's rows."""

import itertools
import random
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamtrain.feed.shuffle import Shuffle, random_keys
from streamtrain.schedule import PassId

PASS = PassId("20240101", 3)
KEYS = [8805275011688492509, 16455628194531083152, 12363742297482796008]
Place = tuple[int, int]


def shuffled(places: list[Place], pass_id: PassId, folder: Path, batch: int = 7) -> list[Place]:
    """The rows in the order in which they are written, through files."""
    order, source = Shuffle(pass_id), folder / "in.txt"
    with source.open("wb") as out:
        for at in range(0, len(places), batch):
            part = places[at : at + batch]
            text = b"".join(b"1 %d-%d 1 0\n" % place for place in part)
            out.write(text)
            order.add([(p, o, b"") for p, o in part], text)
    with (folder / "out.txt").open("wb") as out:
        order.write(source, out)
    lines = (folder / "out.txt").read_text().splitlines()
    return [(int(p), int(o)) for p, _, o in (line.split()[1].partition("-") for line in lines)]


@settings(deadline=None)  # it writes files
@given(places=st.sets(st.tuples(st.integers(0, 5), st.integers(0, 2**40)), min_size=1, max_size=60), seed=st.randoms())
def test_the_order_is_the_pass_s_alone(
    places: set[Place], seed: random.Random, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """However the rows arrive; a worker's rows have the order that they have among all of them."""
    folder = tmp_path_factory.mktemp("shuffle")
    arrived = sorted(places)
    seed.shuffle(arrived)
    order = shuffled(sorted(places), PASS, folder)
    assert sorted(order) == sorted(places)
    assert shuffled(arrived, PASS, folder, batch=3) == order
    if own := [place for place in arrived if place[0] % 2]:
        assert shuffled(own, PASS, folder) == [place for place in order if place[0] % 2]


def test_passes_differ_and_the_order_is_random(tmp_path: Path) -> None:
    places = [(offset % 4, offset) for offset in range(4000)]
    orders = [shuffled(places, PassId("20240101", n), tmp_path, 1000) for n in (1, 2)]
    assert orders[0] != orders[1]
    for order in orders:
        ranks = np.argsort(np.argsort([offset for _, offset in order]))
        assert abs(np.corrcoef(ranks, np.arange(len(ranks)))[0, 1]) < 0.05
        neighbours = sum(a[0] == b[0] for a, b in itertools.pairwise(order)) / len(order)
        assert abs(neighbours - 0.25) < 0.03


def test_the_keys_are_the_same_in_every_version() -> None:
    """A pass that another version began is trained in the same order."""
    keys = random_keys(PASS, np.array([0, 0, 1], np.uint64), np.array([0, 1, 0], np.uint64))
    assert keys.tolist() == KEYS


def test_a_line_a_row() -> None:
    with pytest.raises(ValueError, match="2 rows have 1 lines"):
        Shuffle(PASS).add([(0, 0, b""), (0, 1, b"")], b"1 1\n")
