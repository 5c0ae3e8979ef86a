"""Networks exported by Paddle, once for all tests of serving; what a test has started ends with it."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.exports import Exports
from tests.support.networks import Network, make_networks
from tests.support.paths import ROOT
from tests.support.plain_store import ENTRY_POINTS
from tests.support.scene import Scene


@pytest.fixture(autouse=True)
def nothing_goes_on() -> Iterator[None]:
    """Ends the jobs of a test that failed or ran out of time; those of a module's fixture run on."""
    before = len(Scene.made)
    yield
    for scene in Scene.made[before:]:
        scene.close()
    del Scene.made[before:]


@pytest.fixture(scope="session")
def networks(tmp_path_factory: pytest.TempPathFactory) -> list[Network]:
    return make_networks(tmp_path_factory.mktemp("networks") / "sum")


@pytest.fixture(scope="session")
def averaging(tmp_path_factory: pytest.TempPathFactory) -> Network:
    """A network whose first step is no sum: it is fed as it is."""
    return make_networks(tmp_path_factory.mktemp("networks") / "average", sets=1, pool="average")[0]


@pytest.fixture
def exports(tmp_path: Path) -> Exports:
    return Exports(tmp_path / "model")


@pytest.fixture
def plain_protocol(monkeypatch: pytest.MonkeyPatch) -> None:
    """plain:// (tests/support/plain_store) in the processes that a test starts."""
    paths = [str(ROOT), str(ENTRY_POINTS), os.environ.get("PYTHONPATH", "")]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, paths)))
