"""Unit tests need neither Kafka nor Paddle: who asks for either here fails."""

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from streamtrain import files


@pytest.fixture(scope="session")
def broker() -> None:
    raise AssertionError("a unit test starts no broker: it belongs in tests/jobs")


@pytest.fixture(autouse=True)
def no_paddle() -> Iterator[None]:
    """Whole jobs, run before in the same session, may have imported it."""
    before = "paddle" in sys.modules
    yield
    assert before or "paddle" not in sys.modules, "this test has imported Paddle: it belongs in tests/jobs"


@pytest.fixture
def refused(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path, int], None]:
    """refused(path, number): the file system refuses to show it, with that errno, from now on; with 0 no longer.

    Tests may run as root, whom no permission stops, so the refusal is in pathlib.
    """
    numbers: dict[Path, int] = {}
    monkeypatch.setattr(files, "READ_TRIES", 2)

    def guarded(name: str) -> None:
        method = getattr(Path, name)

        def call(self: Path, *args: Any, **options: Any) -> Any:
            for path in (self, *self.parents):
                if number := numbers.get(path):
                    raise OSError(number, os.strerror(number), str(path))
            return method(self, *args, **options)

        monkeypatch.setattr(Path, name, call)

    for name in ("open", "stat", "iterdir"):
        guarded(name)
    return lambda path, number: numbers.__setitem__(path, number)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        marked = [name for name in ("kafka", "paddle") if item.get_closest_marker(name) is not None]
        if "/tests/unit/" in item.path.as_posix() and marked:
            raise pytest.UsageError(f"{item.nodeid} is marked {marked[0]}: it belongs in tests/jobs")
