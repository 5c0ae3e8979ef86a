"""The rounds of looks at bridged splits."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from streamtrain.connectors import rounds
from streamtrain.connectors.late_files import LateFiles
from streamtrain.connectors.ledger import Ledger
from streamtrain.connectors.tree import FileState, Tree
from streamtrain.contracts.marker import Marker
from streamtrain.errors import Unreadable
from streamtrain.schedule import Split
from tests.support.jobs import write_config

BRIDGED = rounds.NEWEST + 50


class WatchedTree(Tree):
    """Records looks; `hidden` splits cannot be seen."""

    def __init__(self, url: str) -> None:
        super().__init__(url, "")
        self.looks: list[int] = []
        self.hidden: set[int] = set()

    def files(self, split: Split) -> list[FileState]:
        self.looks.append(split.sequence)
        if split.sequence in self.hidden:
            raise Unreadable(f"{split.path} is hidden")
        return []


@pytest.fixture
def scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[LateFiles, Ledger, WatchedTree]]:
    """A round may look at 10 older splits: the clock goes on with each look."""
    config = write_config(tmp_path, "job", {}, runner={"split_interval": 10, "end_day": "20240105"})
    ledger = Ledger(config.schedule)
    for sequence in range(BRIDGED):
        split = ledger.split(sequence)
        ledger.add(Marker(split.day, split.time, sequence, 0, "empty", "id", (), 0, 0, (), ""), 0.0)
    tree = WatchedTree(str(tmp_path / "data"))
    late = LateFiles(config, tree, threading.Event())
    clock = rounds.Rounds(lambda: len(tree.looks) * rounds.ROUND_S / 10)
    monkeypatch.setattr(late, "_rounds", clock)
    monkeypatch.setattr("streamtrain.connectors.late_files.CHECK_S", 0)
    yield late, ledger, tree


def look(late: LateFiles, ledger: Ledger, tree: WatchedTree, *, last: bool = False) -> list[int]:
    tree.looks.clear()
    late.check(ledger, lambda *_: None, last=last)
    return tree.looks[:]


def test_a_round_is_bounded_whatever_a_look_costs(scene: tuple[LateFiles, Ledger, WatchedTree]) -> None:
    newest = set(range(BRIDGED - rounds.NEWEST, BRIDGED))
    seen: set[int] = set()
    for _ in range(5):
        looks = look(*scene)
        assert newest <= set(looks) and len(looks) == rounds.NEWEST + 10
        seen |= set(looks)
    assert seen == set(range(BRIDGED))
    assert len(look(*scene, last=True)) == BRIDGED


def test_what_cannot_be_seen_is_looked_at_again_and_stops_no_other(
    scene: tuple[LateFiles, Ledger, WatchedTree], caplog: pytest.LogCaptureFixture
) -> None:
    late, _, tree = scene
    tree.hidden = {5, BRIDGED - 1}
    assert len(look(*scene)) == rounds.NEWEST + 10
    assert set(late.unseen) == {5, BRIDGED - 1} and "is hidden and 1 more splits" in caplog.text
    tree.hidden.clear()
    looks = look(*scene)
    assert {5, BRIDGED - 1} <= set(looks) and late.unseen == {}
