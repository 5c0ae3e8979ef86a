"""The shorter version of the sweep: the fastest rows of it, see tests/faults."""

from pathlib import Path

import pytest

from tests.faults.cases import CASES
from tests.faults.ground import Case
from tests.faults.sweep import make_ground, missing, run_case

pytestmark = [pytest.mark.kafka, pytest.mark.paddle]


@pytest.mark.parametrize("case", [c for c in CASES if c.fast], ids=lambda c: c.id)
def test_fault(case: Case, tmp_path: Path, kafka: dict[str, str]) -> None:
    assert not missing(case)
    run_case(case, make_ground(tmp_path, kafka, 1, 1))


def test_there_are_enough_of_them() -> None:
    assert sum(c.fast for c in CASES) >= 8
    rows = {int(c.row) for c in CASES}
    assert set(range(1, 20)) <= rows
