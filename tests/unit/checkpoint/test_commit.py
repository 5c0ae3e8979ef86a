"""The commit protocol without Kafka: every crash point of a save and of a start, every refusal of restore()."""

from __future__ import annotations

import dataclasses
import errno
from collections.abc import Callable, Iterator
from pathlib import Path

import orjson
import pytest

from streamtrain import errors
from streamtrain.checkpoint.commit import refuse_lost_topics
from streamtrain.checkpoint.store import CheckpointStore
from streamtrain.contracts.manifest import Witness
from streamtrain.kafka.topics import TopicNames
from streamtrain.schedule import PassId
from tests.support.crashes import Crash, Frozen, crash_at, points
from tests.support.offset_log import LOG, TOPICS, Group, ListOffsetLog, never_replaced, replaced
from tests.support.trainers import SCHEDULE, Trainer, seen_by_others, started


@pytest.fixture(autouse=True)
def named_points() -> Iterator[None]:
    with points():
        yield


def train(trainer: Trainer, number: int) -> None:
    """As if pass `number` (from 0) of two rows, one marker and an offset a partition were trained."""
    trainer.last = SCHEDULE.pass_at(number)
    trainer.rows += [2 * number, 2 * number + 1]
    position = trainer.position
    position.pass_index, position.marker_offset, position.rows = number + 1, 2 * number + 2, 2 * number + 2
    position.offsets = dict.fromkeys(range(TOPICS.partitions), 10 * (number + 1))


def one_saved(root: Path, group: Group) -> Trainer:
    trainer = started(root, group)
    train(trainer, 0)
    trainer.save(with_model=True)
    return trainer


def check_restart(root: Path, group: Group) -> PassId:
    """A restart has what it chose, committed; returns its pass."""
    trainer = started(root, group)
    assert trainer.last is not None
    offset, text = group.committed[LOG]
    witness = Witness.decode(text)
    assert witness is not None and (witness.id, witness.digest) == (trainer.last, trainer.digest)
    assert offset == trainer.position.marker_offset
    lines = (root / "donefile.txt").read_text().splitlines()
    assert f"{trainer.last.day}\t" in lines[-1] and lines[-1].split("\t")[3] == str(trainer.last.pass_id)
    return trainer.last


def test_a_crash_at_every_point_of_a_save(tmp_path: Path, group: Group) -> None:
    """Before the rename the restart has the older checkpoint, from the rename on the newer one."""
    chosen, names = [], []
    for number in range(200):
        root = tmp_path / str(number)
        fresh = dataclasses.replace(group, committed={}, pending=None, epoch=0)
        trainer = one_saved(root, fresh)
        train(trainer, 1)
        try:
            with crash_at(number) as names:
                trainer.save(with_model=True)
        except Crash:
            chosen.append(check_restart(root, fresh).pass_id)
            continue
        break
    assert len(names) == number == len(chosen) > 25
    assert chosen == sorted(chosen) and set(chosen) == {1, 2}
    # with the fsyncs of the directories that the rename changed; without them a rename may not survive
    assert 0 <= names.index("commit.renamed") - chosen.index(2) <= 2


def test_a_crash_at_every_point_of_a_start(tmp_path: Path, group: Group) -> None:
    for number in range(200):
        root = tmp_path / str(number)
        fresh = dataclasses.replace(group, committed={}, pending=None, epoch=0)
        trainer = one_saved(root, fresh)
        train(trainer, 1)
        with pytest.raises(Crash), crash_at("commit.renamed"):
            trainer.save(with_model=True)
        try:
            with crash_at(number) as names:
                started(root, fresh)
        except Crash:
            assert check_restart(root, fresh).pass_id == 2
            continue
        break
    assert len(names) == number > 10


def test_a_trainer_frozen_at_every_point_changes_nothing_once_replaced(tmp_path: Path, group: Group) -> None:
    for number in range(200):
        root = tmp_path / str(number)
        fresh = dataclasses.replace(group, committed={}, pending=None, epoch=0)
        trainer = one_saved(root, fresh)
        train(trainer, 1)
        zombie = Frozen(lambda trainer=trainer: trainer.save(with_model=True), number)  # type: ignore[misc]
        if not zombie.frozen:
            assert zombie.error is None
            break
        newer = started(root, fresh)
        before, committed = seen_by_others(root), dict(fresh.committed)
        error = zombie.thaw()
        assert isinstance(error, errors.Fenced) or zombie.names[-1] == "commit.done", (zombie.names, error)
        assert (seen_by_others(root), fresh.committed) == (before, committed)
        train(newer, newer.position.pass_index)
        newer.save(with_model=True)
        check_restart(root, fresh)
    assert number > 25


def test_an_aborted_commit_is_repeated_once_and_then_left_to_a_restart(tmp_path: Path, group: Group) -> None:
    trainer = one_saved(tmp_path, group)
    train(trainer, 1)
    group.aborts = 1
    trainer.save(with_model=False)
    assert Witness.decode(group.committed[LOG][1]) == Witness("20240101", 2, trainer.store.list()[-1].digest)
    train(trainer, 2)
    group.aborts = 2
    with pytest.raises(errors.KafkaError, match=r"commit of checkpoint 20240102/1 twice.*restart commits it"):
        trainer.save(with_model=False)
    assert check_restart(tmp_path, group) == PassId("20240102", 1)


def test_a_damaged_witness_lets_an_older_checkpoint_do(tmp_path: Path, group: Group) -> None:
    trainer = one_saved(tmp_path, group)
    train(trainer, 1)
    trainer.save(with_model=True)
    (tmp_path / "20240101" / "2" / "rows.json").write_text("[]")
    assert check_restart(tmp_path, group) == PassId("20240101", 1)


def is_refused(root: Path, group: Group, kind: type[errors.StreamtrainError], *words: str) -> None:
    """A start raises it, naming the words, and has changed nothing that others see."""
    before, committed = seen_by_others(root), dict(group.committed)
    with pytest.raises(kind) as caught:
        started(root, group)
    assert type(caught.value) is kind and caught.value.remedy
    for word in words:
        assert word in str(caught.value)
    assert (seen_by_others(root), group.committed) == (before, committed)


def test_a_committed_checkpoint_that_is_gone_is_refused(tmp_path: Path, group: Group) -> None:
    trainer = one_saved(tmp_path, group)
    train(trainer, 1)
    trainer.save(with_model=False)
    (tmp_path / "20240101" / "2").rename(tmp_path / "aside")
    is_refused(tmp_path, group, errors.CheckpointMissing, "20240101/2", "offset 4", "nothing newer than 20240101/1")
    (tmp_path / "20240101" / "1").rename(tmp_path / "aside-too")
    is_refused(tmp_path, group, errors.CheckpointMissing, "20240101/2", "no checkpoint", "model_save_path", "rewind")


def test_a_trainer_does_not_start_from_nothing_where_a_model_was(tmp_path: Path, group: Group) -> None:
    trainer = one_saved(tmp_path, group)
    first = tmp_path / "20240101" / "1"
    whole = (first / "rows.json").read_bytes()
    (first / "rows.json").write_bytes(whole + b" ")
    is_refused(tmp_path, group, errors.NoneUsable, "1 checkpoint(s)", "20240101/1", "rows.json", "rewind --to nothing")
    group.committed.clear()  # as after offsets.retention.minutes
    is_refused(tmp_path, group, errors.NoneUsable, "20240101/1", "rewind --to nothing")
    (first / "rows.json").write_bytes(whole)
    train(trainer := started(tmp_path, group), 1)
    trainer.save(with_model=True)
    group.committed.clear()
    for number in ("1", "2"):
        (tmp_path / "20240101" / number).rename(tmp_path / f"aside-{number}")
    is_refused(tmp_path, group, errors.NoneUsable, "no checkpoint, but the inference model 20240101/inference_model_2")


@pytest.mark.parametrize(
    ("data", "kind"), [({"format": 2}, errors.UnknownFormat), ({"more": [1], "format": 7}, errors.UnknownFormat)]
)
def test_a_newer_checkpoint_is_refused(data: object, kind: type, tmp_path: Path, group: Group) -> None:
    """A step back in the software's version: what the newer one wrote stays as it is."""
    trainer = one_saved(tmp_path, group)
    train(trainer, 1)
    trainer.save(with_model=False)
    file = tmp_path / "20240101" / "2" / "manifest.json"
    whole = file.read_bytes()
    file.write_bytes(orjson.dumps({**orjson.loads(whole), **data}))  # type: ignore[dict-item]
    is_refused(tmp_path, group, kind, "20240101/2", "format")
    file.write_bytes(orjson.dumps({**orjson.loads(whole), "more": [1]}))
    assert started(tmp_path, group).last == PassId("20240101", 2)


def test_an_unreadable_checkpoint_is_refused(
    tmp_path: Path, group: Group, refused: Callable[[Path, int], None]
) -> None:
    trainer = one_saved(tmp_path, group)
    train(trainer, 1)
    trainer.save(with_model=False)
    refused(tmp_path / "20240101" / "2" / "manifest.json", errno.EIO)
    with pytest.raises(errors.Unreadable, match="20240101/2"):
        started(tmp_path, group)
    refused(tmp_path / "20240101" / "2" / "manifest.json", 0)
    assert started(tmp_path, group).last == PassId("20240101", 2)


@pytest.mark.parametrize("text", ["somebody's", '{"day": "20240101", "pass_id": 1, "digest": "d", "format": 2}', "{}"])
def test_a_foreign_witness_is_refused(text: str, tmp_path: Path, group: Group) -> None:
    one_saved(tmp_path, group)
    group.committed[group.marker_log] = (2, text)
    is_refused(tmp_path, group, errors.UnknownFormat, "group job", "offset 2", "stream.job")


@pytest.mark.parametrize(
    ("topics", "kind", "words"),
    [
        (dataclasses.replace(TOPICS, names=TopicNames("other")), errors.StateMismatch, ["job job", "other"]),
        (dataclasses.replace(TOPICS, cluster_id="x"), errors.OtherCluster, ["cluster_id cluster", "found x"]),
        (
            dataclasses.replace(TOPICS, samples_topic_id="x"),
            errors.TopicReplaced,
            ["topic job.samples of id samples-id", "found id x", "recreated"],
        ),
        (
            dataclasses.replace(TOPICS, splits_topic_id="x"),
            errors.TopicReplaced,
            ["topic job.splits of id splits-id", "found id x"],
        ),
        (
            dataclasses.replace(TOPICS, partitions=4),
            errors.PartitionsChanged,
            ["3 partitions of", "found 4"],
        ),
    ],
)
def test_a_checkpoint_of_other_topics_is_refused(
    topics: object, kind: type[errors.StreamtrainError], words: list[str], tmp_path: Path, group: Group
) -> None:
    one_saved(tmp_path, group)
    group.topics = topics  # type: ignore[assignment]
    is_refused(tmp_path, group, kind, "checkpoint 20240101/1", *words)


@pytest.mark.parametrize(
    ("place", "watermarks"),
    [((TOPICS.names.samples, 1), (11, 100)), ((TOPICS.names.samples, 2), (0, 9)), (LOG, (3, 100)), (LOG, (0, 1))],
)
def test_offsets_that_are_gone_are_refused(
    place: tuple[str, int], watermarks: tuple[int, int], tmp_path: Path, group: Group
) -> None:
    one_saved(tmp_path, group)
    group.ends[place] = watermarks
    needed = 2 if place == LOG else 10
    is_refused(
        tmp_path, group, errors.RetentionPassed, f"topic {place[0]}, partition {place[1]}",
        f"offset {needed} is needed", f"{watermarks[0]} to {watermarks[1]}",
    )  # fmt: skip


def test_a_job_without_checkpoints_needs_all_offsets(tmp_path: Path, group: Group) -> None:
    group.ends[LOG] = (1, 100)
    is_refused(tmp_path, group, errors.RetentionPassed, "offset 0 is needed")
    group.ends[LOG] = (0, 100)
    assert started(tmp_path, group).last is None


def test_lost_topics_are_refused_before_they_are_created(tmp_path: Path, group: Group) -> None:
    names = TOPICS.names
    refuse_lost_topics(CheckpointStore(tmp_path), [], names)  # a new job
    one_saved(tmp_path, group)
    refuse_lost_topics(CheckpointStore(tmp_path), [names.samples, names.splits], names)
    refuse_lost_topics(CheckpointStore(tmp_path), [], TopicNames("other"))
    with pytest.raises(errors.TopicReplaced, match=r"topic job\.splits does not exist, but checkpoint 20240101/1"):
        refuse_lost_topics(CheckpointStore(tmp_path), [names.samples], names)


def test_the_port_made_of_lists_fences_as_kafka_does(group: Group) -> None:
    """The same steps as tests/jobs/test_offset_log.py takes with a real broker."""
    old = ListOffsetLog(group, replaced)
    old.take_over()
    old.fence({LOG: 1}, "one")
    new = ListOffsetLog(group, never_replaced)
    new.take_over()
    with pytest.raises(errors.Fenced):
        old.commit()
    with pytest.raises(errors.Fenced):
        old.fence({LOG: 1}, "one")
    assert new.witness() == (-1, None)
    new.fence({LOG: 2}, "two")
    assert new.commit() and new.witness() == (2, "two")
