"""One job by this version and the one before it in turns, forward and back: bridges, trainers, kills, the recount.

docs/upgrade.md says what is tried here, and what cannot be rolled back.
"""

import contextlib
import json
import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from streamtrain.checkpoint.store import CheckpointStore
from streamtrain.contracts.identity import NAME, JobIdentity
from tests.support.scene import ROWS, SPLITS, Process, Scene
from tests.support.versions import BEFORE, NEW, Version, code_of, unpack

pytestmark = [pytest.mark.kafka, pytest.mark.paddle]
#: Seconds after which something hangs, on a machine that does much else besides.
PATIENCE = 400


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory) -> Version:
    """The version before this one."""
    return unpack(BEFORE, "old", tmp_path_factory.mktemp("old") / "tree")


def test_each_version_runs_its_own_code(old: Version) -> None:
    for version in (old, NEW):
        for module, file in code_of(version).items():
            assert Path(file).is_relative_to(version.package), f"{version.name}: {module} is {file}"


class Turns:
    """A job of two days, eight splits and passes, of which none is released at first."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self.splits = [s.replace("20240101", f"2024010{day}") for day in (1, 2) for s in SPLITS]
        self._read = 0
        scene.hold(*self.splits)

    def release(self, first: int, last: int) -> None:
        """Splits, numbered from 1."""
        self.scene.release(*self.splits[first - 1 : last])

    def start(self, command: str, version: Version, failpoints: str = "", *options: str) -> Process:
        name = f"{command}-{version.name}"
        return self.scene.start(command, *options, name=name, version=version, failpoints=failpoints)

    def trained(self, trainer: Process, version: Version, passes: int) -> None:
        """Waits for that many checkpoints, the roles being that version's."""
        trainer.wait_for(lambda: len(self.scene.checkpoints()) == passes, PATIENCE)
        assert self.scripts() == {str(version.package / "online_trainer.py")}

    def log(self) -> str:
        """What worker 0 has written since the last call."""
        file = self.scene.folder / "log" / "workerlog.0"
        text = file.read_text()
        self._read, begin = len(text), self._read if self._read <= len(text) else 0
        return text[begin:]

    def scripts(self) -> set[str]:
        """What the living servers and workers run."""
        lines = [p.cmdline() for kind in ("server", "worker") for p in self.scene.roles(kind)]
        return {part for line in lines for part in line if part.endswith("online_trainer.py")}

    def killed_at(self, failpoint: str, trainer: Process, version: Version) -> None:
        """SIGKILL to a trainer whose worker has frozen there, so that nothing of that version settles what is left."""
        trainer.wait_for(lambda: self.scene.has_fired(failpoint), PATIENCE)
        assert self.scripts() == {str(version.package / "online_trainer.py")}
        trainer.signal(signal.SIGKILL)
        trainer.end(PATIENCE)


def shows(scene: Scene) -> tuple[Counter[int], Counter[int]]:
    """(show of each key in the newest checkpoint, its occurrences in the source files): read here, by nothing of ours.
    The job's show does not decay."""
    newest = max(scene.config.model_save_path.glob("2*/[1-9]*"), key=lambda p: (p.parent.name, int(p.name)))
    table: Counter[int] = Counter()
    for part in sorted((newest / "embedding.shard").glob("*.txt")):
        for line in part.read_text().splitlines():
            key, _, _, _, show, *_ = line.split()
            table[int(key)] += int(float(show))
    logs: Counter[int] = Counter()
    for file in (scene.folder / "data").glob("*/*/part-*"):
        for line in file.read_text().splitlines():
            logs.update(int(pair.split(":")[0]) for pair in line.split() if not pair.endswith(":1"))
    return +table, logs


def trained_by(scene: Scene) -> str:
    """Which version made each checkpoint: this one's have metrics by label."""
    manifests = [checkpoint.manifest for checkpoint in CheckpointStore(scene.config.model_save_path).list()]
    return "".join("n" if manifest and "labels" in manifest.metrics else "o" for manifest in manifests)


@pytest.fixture
def scene(tmp_path: Path, kafka: dict[str, str], job: str) -> Iterator[Scene]:
    with contextlib.closing(Scene(tmp_path, kafka, job, days=2, new_keys={})) as made:
        yield made


@pytest.mark.long
def test_forward_and_back(scene: Scene, old: Version) -> None:
    """Passes of the old trainer: 1, 2, 4 to 6; of the new one: 3, 7, 8. Splits of the old bridge: 1 to 4, 7 and 8.
    At last the new one rewinds to pass 6, and the old one trains 7 and 8 again."""
    turns = Turns(scene)

    bridge = turns.start("bridge", old, "bridge.flushed=kill@5")
    turns.release(1, 2)
    trainer = turns.start("train", old, "commit.renamed=stop@2")
    turns.killed_at("commit.renamed", trainer, old)  # the offsets of pass 2 are not committed: the new one does it

    turns.release(3, 4)
    trainer = turns.start("train", NEW, "commit.fenced=stop@2")
    turns.killed_at("commit.fenced", trainer, NEW)  # pass 4 is staged and lost: the old one trains it
    assert "checkpoint 20240101/2: the group's offsets are not the checkpoint's" in turns.log()
    assert len(scene.checkpoints()) == 3

    turns.release(5, 6)
    assert bridge.end(PATIENCE) == -signal.SIGKILL  # in the transaction of split 5
    bridge = turns.start("bridge", NEW, "bridge.marked=kill@3")
    trainer = turns.start("train", old)
    turns.trained(trainer, old, 6)
    trainer.signal(signal.SIGTERM)
    trainer.finish(PATIENCE)

    turns.release(7, 8)
    assert bridge.end(PATIENCE) == -signal.SIGKILL  # in the transaction of split 7
    turns.start("bridge", old).finish(PATIENCE)
    turns.start("train", NEW).finish(PATIENCE)

    assert trained_by(scene) == "oonooonn"
    newest = CheckpointStore(scene.config.model_save_path).list()[-1]
    assert set(JobIdentity.decode((newest.path / NAME).read_bytes()).dense) == {"fc_0.w", "fc_0.b", "out.w", "out.b"}
    check(scene, turns, old)

    turns.start("checkpoints", NEW, "", "rewind", "--to", "20240102/2").finish(PATIENCE)
    turns.start("train", old).finish(PATIENCE)
    assert len(list((scene.config.model_save_path / ".set-aside").glob("*/20240102/[0-9]"))) == 2
    check(scene, turns, old)


def check(scene: Scene, turns: Turns, old: Version) -> None:
    """Each row is trained once: counted here, by this version's recount and by that of the one before."""
    table, logs = shows(scene)
    assert table == logs
    found = scene.recount()
    assert found.rows == 2 * (3 * ROWS + 4)
    by_old = json.loads(turns.start("recount", old, "", "--json").finish(PATIENCE))
    assert (by_old["rows"], by_old["lost"], by_old["duplicated"]) == (found.rows, 0, 0)
