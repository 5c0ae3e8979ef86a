from streamtrain.connectors.rounds import NEWEST, ROUND_S, Rounds


class Clock:
    """Each question takes a tenth of a round."""

    def __init__(self) -> None:
        self.time = 0.0

    def __call__(self) -> float:
        self.time += ROUND_S / 10
        return self.time


def test_few_splits_are_all_looked_at() -> None:
    assert sorted(Rounds().next(NEWEST)) == list(range(NEWEST))
    assert list(Rounds().next(0)) == []


def test_the_newest_always_and_the_others_in_turn() -> None:
    rounds = Rounds(Clock())
    seen: set[int] = set()
    for _ in range(5):
        found = list(rounds.next(NEWEST + 40))
        assert set(range(40, NEWEST + 40)) <= set(found)
        assert NEWEST < len(found) < NEWEST + 20 and len(set(found)) == len(found)
        seen |= set(found)
    assert seen == set(range(NEWEST + 40))


def test_a_last_round_is_of_all() -> None:
    assert sorted(Rounds(Clock()).next(NEWEST + 1000, all_of_them=True)) == list(range(NEWEST + 1000))
