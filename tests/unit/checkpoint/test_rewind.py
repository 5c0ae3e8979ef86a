"""Going back: every crash point, what is set aside, what is refused."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from streamtrain import errors
from streamtrain.checkpoint import rewind
from streamtrain.checkpoint.journal import Journal, PassRecord
from streamtrain.contracts.donefiles import DONEFILES, decode_valid_donefile
from streamtrain.contracts.manifest import Witness
from streamtrain.schedule import PassId
from tests.support.crashes import Crash, Frozen, crash_at, points
from tests.support.offset_log import LOG, TOPICS, Group
from tests.support.trainers import SCHEDULE, Trainer, seen_by_others, started

SECOND = PassId("20240101", 2)


@pytest.fixture(autouse=True)
def named_points() -> Iterator[None]:
    with points():
        yield


def four_saved(root: Path, group: Group) -> Trainer:
    """Checkpoints with models of all passes of two days, and their lines in passes.jsonl."""
    trainer = started(root, group)
    journal = Journal(root)
    journal.roll_back(None, trainer.run)
    for number in range(4):
        trainer.last = SCHEDULE.pass_at(number)
        trainer.rows += [number]
        position = trainer.position
        position.pass_index, position.marker_offset, position.rows = number + 1, 2 * number + 2, number + 1
        position.offsets = dict.fromkeys(range(TOPICS.partitions), 10 * (number + 1))
        trainer.save(with_model=True)
        journal.append(PassRecord(trainer.last.day, trainer.last.pass_id, 1, 0.5, 0.5, 1, 0, 1, 1))
    journal.close()
    return trainer


def rewound(root: Path, group: Group, to: PassId | None) -> None:
    command = Trainer(root, group, SCHEDULE)
    command.committer.take_over("rewind")
    command.committer.rewind(to)


def listed(root: Path) -> list[str]:
    lines = [line for name in DONEFILES.values() if (root / name).exists()
             for line in decode_valid_donefile((root / name).read_bytes())]  # fmt: skip
    return sorted(str(line.checkpoint) for line in lines)


def check_at_second(root: Path, group: Group) -> None:
    trainer = started(root, group)
    assert trainer.last == SECOND and trainer.rows == [0, 1]
    offset, text = group.committed[LOG]
    witness = Witness.decode(text)
    assert offset == 4 and witness is not None and witness.id == SECOND and witness.digest == trainer.digest
    assert [str(p) for p in trainer.store.ids()] == ["20240101/1", "20240101/2"]
    assert listed(root) == ["20240101/1", "20240101/2"]
    lines = (root / "donefile.txt").read_text().splitlines()
    assert [line.split("\t")[3] for line in lines] == ["1", "2"]
    assert [r.id for r in Journal(root).read()] == [PassId("20240101", 1), SECOND]
    aside = list((root / rewind.SET_ASIDE).iterdir())
    assert len(aside) == 1 and not (root / rewind.NAME).exists()
    names = {str(p.relative_to(aside[0])) for p in aside[0].glob("*/*")}
    assert {"20240102/1", "20240102/2", "20240102/inference_model_1"} <= names
    assert len((aside[0] / "passes.jsonl").read_text().splitlines()) == 4


def test_what_came_later_is_set_aside(tmp_path: Path, group: Group) -> None:
    four_saved(tmp_path, group)
    plan = rewind.plan(tmp_path, SECOND)
    assert plan.checkpoints == (PassId("20240102", 1), PassId("20240102", 2)) and len(plan.models) == 2
    rewound(tmp_path, group, SECOND)
    check_at_second(tmp_path, group)


@pytest.mark.parametrize("at", range(60))
def test_a_crash_at_any_point_leaves_one_or_the_other(at: int, tmp_path: Path, group: Group) -> None:
    """Before rewind.json is in place nothing has happened, from then on the next start finishes it."""
    four_saved(tmp_path, group)
    try:
        with crash_at(at):
            rewound(tmp_path, group, SECOND)
    except Crash:
        pass
    else:
        check_at_second(tmp_path, group)
        return
    if not (tmp_path / rewind.NAME).exists() and not (tmp_path / rewind.SET_ASIDE).exists():
        assert started(tmp_path, group).last == PassId("20240102", 2)
        return
    for again in range(3):  # a start that finishes it may crash too
        try:
            with crash_at(20 + 7 * again):
                started(tmp_path, group)
        except Crash:
            pass
    check_at_second(tmp_path, group)


def test_to_nothing_and_trained_again(tmp_path: Path, group: Group) -> None:
    four_saved(tmp_path, group)
    rewound(tmp_path, group, None)
    assert group.committed[LOG] == (0, "") and Journal(tmp_path).read() == [] and listed(tmp_path) == []
    trainer = started(tmp_path, group)
    assert trainer.last is None and trainer.store.ids() == []
    trainer.last, trainer.rows = SCHEDULE.pass_at(0), [7]
    trainer.position.pass_index, trainer.position.marker_offset, trainer.position.rows = 1, 2, 1
    trainer.save(with_model=True)
    assert started(tmp_path, group).rows == [7]
    rewound(tmp_path, group, None)
    assert len(list((tmp_path / rewind.SET_ASIDE).iterdir())) == 2


def test_after_a_crash_models_without_a_checkpoint_are_set_aside_too(tmp_path: Path, group: Group) -> None:
    """Retention keeps a model longer than its checkpoint: then only the donefiles have named it."""
    four_saved(tmp_path, group)
    shutil.rmtree(tmp_path / "20240101" / "1")
    models = {str(p.relative_to(tmp_path)) for p in tmp_path.glob("2024*/inference_model_*")}
    with pytest.raises(Crash), crash_at("rewind.unlisted"):
        rewound(tmp_path, group, None)
    assert listed(tmp_path) == []
    started(tmp_path, group)
    (aside,) = (tmp_path / rewind.SET_ASIDE).iterdir()
    assert {str(p.relative_to(aside)) for p in aside.glob("2024*/inference_model_*")} == models
    assert not list(tmp_path.glob("2024*/inference_model_*"))


def test_it_frees_a_job_of_which_nothing_can_be_loaded(tmp_path: Path, group: Group) -> None:
    four_saved(tmp_path, group)
    for file in tmp_path.glob("2024*/?/rows.json"):
        file.write_text("damaged")
    with pytest.raises(errors.NoneUsable):
        started(tmp_path, group)
    with pytest.raises(errors.CheckpointError, match="checkpoint 20240101/2 is damaged"):
        rewound(tmp_path, group, SECOND)
    rewound(tmp_path, group, None)
    assert started(tmp_path, group).last is None
    assert len(list(tmp_path.glob(f"{rewind.SET_ASIDE}/*/2024*/?"))) == 4


def test_refusals_touch_nothing(tmp_path: Path, group: Group) -> None:
    four_saved(tmp_path, group)
    before, committed = seen_by_others(tmp_path), dict(group.committed)
    with pytest.raises(errors.CheckpointError, match="no checkpoint 20240101/9"):
        rewound(tmp_path, group, PassId("20240101", 9))
    group.ends[LOG] = (5, 100)  # retention
    with pytest.raises(errors.RetentionPassed):
        rewound(tmp_path, group, SECOND)
    with pytest.raises(errors.RetentionPassed):
        rewound(tmp_path, group, None)
    assert (seen_by_others(tmp_path), group.committed) == (before, committed)
    (tmp_path / rewind.NAME).write_text('{"format": 2}')
    with pytest.raises(errors.UnknownFormat):
        started(tmp_path, group)


@pytest.mark.parametrize("at", ["save.sealed", "commit.manifest", "commit.fenced"])
def test_a_running_trainer_is_fenced(at: str, tmp_path: Path, group: Group) -> None:
    trainer = four_saved(tmp_path, group)
    frozen = Frozen(lambda: trainer.save(with_model=True), at)
    assert frozen.frozen
    rewound(tmp_path, group, SECOND)
    before = seen_by_others(tmp_path)
    assert isinstance(frozen.thaw(), errors.Fenced) and seen_by_others(tmp_path) == before
    check_at_second(tmp_path, group)
