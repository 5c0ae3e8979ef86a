from streamtrain.connectors.settling import Settling
from streamtrain.connectors.tree import FileState, Listing


def test_a_change_begins_the_time_anew() -> None:
    now = [0.0]
    settling = Settling(60, lambda: now[0])
    one = Listing((FileState("a", 1, 5.0),), ())
    assert settling.unchanged_s(0, one) == 0
    now[0] = 50
    assert settling.unchanged_s(0, one) == 50
    for changed in (
        Listing((FileState("a", 2, 5.0),), ()),
        Listing((FileState("a", 2, 6.0),), ()),
        Listing((FileState("a", 2, 6.0), FileState("b", 0, 6.0)), ()),
        Listing((FileState("a", 2, 6.0), FileState("b", 0, 6.0)), (FileState("c.tmp", 0, 6.0),)),
    ):
        assert settling.unchanged_s(0, changed) == 0
        now[0] += 7
        assert settling.unchanged_s(0, changed) == 7
    assert settling.unchanged_s(1, one) == 0  # another split has its own
    settling.forget([0, 1, 2])
    assert settling.unchanged_s(0, one) == 0
