"""What the workers sum over each other is exact, whatever whole numbers each of them has."""

import json
from pathlib import Path

import pytest

from tests.support.jobs import write_config
from tests.support.roles import run_roles

pytestmark = pytest.mark.paddle


def test_sums_of_workers(tmp_path: Path) -> None:
    """Negative numbers of one worker alone: groups of GAUC above 2**63, sums of predictions below 0."""
    config = write_config(tmp_path, "job", {"bootstrap.servers": "127.0.0.1:1"})
    arrays = [[1, 0, 2**53 + 1, 7, 2**62], [0, -(2**63) + 9, 0, -8, 1]]
    target = tmp_path / "sums"
    arguments = [str(config.path), str(target), json.dumps(arrays)]
    run_roles("reduce_role.py", arguments, tmp_path, tmp_path / "sums.done", 1, 2)
    for worker in (0, 1):
        found = json.loads((tmp_path / f"sums-{worker}.json").read_text())
        assert found == [a + b for a, b in zip(*arrays, strict=True)], worker
