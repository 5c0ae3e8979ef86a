"""Unit tests need neither Kafka nor Paddle: who asks for either here fails."""

import sys
from collections.abc import Iterator

import pytest


@pytest.fixture(scope="session")
def broker() -> None:
    raise AssertionError("a unit test starts no broker: it belongs in tests/jobs")


@pytest.fixture(autouse=True)
def no_paddle() -> Iterator[None]:
    """Whole jobs, run before in the same session, may have imported it."""
    before = "paddle" in sys.modules
    yield
    assert before or "paddle" not in sys.modules, "this test has imported Paddle: it belongs in tests/jobs"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        marked = [name for name in ("kafka", "paddle") if item.get_closest_marker(name) is not None]
        if "/tests/unit/" in item.path.as_posix() and marked:
            raise pytest.UsageError(f"{item.nodeid} is marked {marked[0]}: it belongs in tests/jobs")
