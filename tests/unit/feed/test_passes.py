import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamtrain.contracts.marker import Marker, Range
from streamtrain.errors import DataError, TopicMismatch
from streamtrain.feed.passes import PassBuilder, PassPlan
from streamtrain.schedule import Schedule

SCHEDULE = Schedule(360, 2, "20240101", "20240103")


def marker(sequence: int, revision: int, ranges: list[Range], topic_id: str = "t") -> Marker:
    split = SCHEDULE.split(sequence)
    rows = sum(r.rows for r in ranges)
    return Marker(split.day, split.time, sequence, revision, "data" if rows else "empty", topic_id,
                  tuple(ranges), rows, 0, (), "{}")  # fmt: skip


@st.composite
def logs(draw: st.DrawFn) -> list[tuple[int, Marker]]:
    """A marker log with late revisions, empty splits and gaps (control records) in the offsets."""
    ends, offset, log = {0: 0, 1: 0}, 0, []
    revisions = dict.fromkeys(range(SCHEDULE.total_splits), 0)
    for sequence in range(SCHEDULE.total_splits):
        todo = [(sequence, 0)]
        if sequence and draw(st.booleans()):
            late = draw(st.integers(0, sequence - 1))
            revisions[late] += 1
            todo.insert(0, (late, revisions[late]))
        for which, revision in todo:
            ranges = []
            for p in draw(st.sets(st.sampled_from([0, 1]))):
                start = ends[p] + draw(st.integers(0, 2))
                rows = draw(st.integers(1, 5))
                ranges.append(Range(p, start, start + rows, rows))
                ends[p] = start + rows
            offset += draw(st.integers(1, 2))
            log.append((offset, marker(which, revision, ranges)))
    return log


def plans(log: list[tuple[int, Marker]], index: int = 0, start: int = 0) -> list[PassPlan]:
    builder = PassBuilder(SCHEDULE, index, "t")
    return [plan for o, m in log if o >= start and (plan := builder.add(o, m)) is not None]


@given(logs())
def test_every_row_is_in_one_pass_and_a_restart_plans_the_same(log: list[tuple[int, Marker]]) -> None:
    whole = plans(log)
    assert [p.id for p in whole] == [SCHEDULE.pass_at(i) for i in range(SCHEDULE.total_passes)]
    planned = [(p, r.start_offset, r.end_offset) for plan in whole for p, rs in plan.ranges.items() for r in rs]
    published = [(r.partition, r.start_offset, r.end_offset) for _, m in log for r in m.ranges]
    assert sorted(planned) == sorted(published)
    for i, plan in enumerate(whole):
        assert plans(log, i + 1, plan.end_offset) == whole[i + 1 :]
        assert plan.rows == sum(plan.rows_of(w, 2) for w in range(2)) == plan.rows_of(0, 1)


def test_what_is_out_of_order_or_of_another_topic_is_refused() -> None:
    with pytest.raises(DataError, match="number 1"):
        PassBuilder(SCHEDULE, 0, "t").add(5, marker(1, 0, []))
    with pytest.raises(TopicMismatch, match="recreated"):
        PassBuilder(SCHEDULE, 0, "other").add(5, marker(0, 0, []))
