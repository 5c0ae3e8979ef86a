"""What is refused with its own error, and nothing touched: topics, offsets, checkpoints that are not the job's."""

from __future__ import annotations

import shutil
import signal
from typing import Any

import confluent_kafka as ck
from confluent_kafka.admin import NewPartitions, OffsetSpec

from streamtrain import errors
from streamtrain.kafka import clients, topics
from streamtrain.kafka.embedded import EmbeddedBroker
from streamtrain.runtime.status import held_back
from tests.faults.ground import Ground, Outcome, case
from tests.support.processes import until
from tests.support.scene import SPLITS, Scene
from tests.support.topics import delete_topics


def stopped_half_way(ground: Ground, name: str = "job", **changes: Any) -> Scene:
    """A job with two checkpoints, whose bridge has done all."""
    scene = ground.scene(name, **changes)
    scene.hold(SPLITS[2])
    run = scene.run_to_pass(2)
    run.signal(signal.SIGTERM)
    run.finish()
    scene.release(SPLITS[2])
    assert len(scene.checkpoints()) == 2
    return scene


def refused(scene: Scene, command: str, kind: type[errors.StreamtrainError], *words: str) -> None:
    before = scene.snapshot()
    process = scene.start(command, name="refused")
    assert process.end() == kind.exit_code, process.output[-3000:]
    line = next(x for x in process.output.splitlines() if x.startswith("error: "))
    for word in words:
        assert word in line, line
    assert scene.snapshot() == before


@case("17", "topic deleted, and deleted and recreated", fast=True)
def topic_deleted(ground: Ground) -> Outcome:
    scene = stopped_half_way(ground)
    names = topics.TopicNames(scene.job)
    client = clients.admin(scene.config.kafka())
    delete_topics(client, names)
    until(lambda: not topics.find(client, names))
    refused(scene, "run", errors.TopicReplaced, names.samples, "does not exist", "new stream.job")
    refused(scene, "bridge", errors.TopicReplaced, names.samples, "does not exist")
    assert not topics.find(client, names)  # none was created
    topics.ensure_topics(client, names, 2)
    refused(scene, "train", errors.TopicReplaced, names.samples, "recreated", "new stream.job")
    return Outcome("refused with code 10 by run, bridge and train, nothing touched")


@case("17", "topics deleted while the job runs")
def topic_deleted_running(ground: Ground) -> Outcome:
    scene = ground.scene()
    scene.hold(SPLITS[2])
    run = scene.run_to_pass(2)
    names = topics.TopicNames(scene.job)
    client = clients.admin(scene.config.kafka())
    delete_topics(client, names)
    scene.release(SPLITS[2])
    before = scene.checkpoints()
    code = run.end(90)
    assert code == errors.TopicReplaced.exit_code, (code, run.output[-2000:])
    assert scene.checkpoints() == before
    alone = ground.scene("alone")
    shutil.rmtree(alone.folder / "data" / SPLITS[2])
    bridge = alone.start("bridge")
    train = alone.start("train")
    train.wait_for(lambda: alone.passes() == 2)
    bridge.signal(signal.SIGTERM)
    bridge.finish()
    names = topics.TopicNames(alone.job)
    delete_topics(client, names)
    assert train.end(90) == errors.TopicReplaced.exit_code, train.output[-2000:]
    assert len(alone.checkpoints()) == 2
    return Outcome("ended with code 10")


@case("17", "partition count changed, retention passed, offsets gone")
def partitions_and_retention(ground: Ground) -> Outcome:
    scene = stopped_half_way(ground, "partitions")
    names = topics.TopicNames(scene.job)
    client = clients.admin(scene.config.kafka())
    client.create_partitions([NewPartitions(names.samples, 3)])[names.samples].result()
    refused(scene, "train", errors.PartitionsChanged, names.samples, "3", "2")
    scene = stopped_half_way(ground, "retention")
    scene.start("bridge").finish()
    names = topics.TopicNames(scene.job)
    places = [ck.TopicPartition(names.samples, p) for p in (0, 1)]
    ends = {p: f.result().offset for p, f in client.list_offsets({x: OffsetSpec.latest() for x in places}).items()}
    for future in client.delete_records([ck.TopicPartition(p.topic, p.partition, e) for p, e in ends.items()]).values():
        future.result()
    refused(scene, "train", errors.RetentionPassed, names.samples, "offset", "Retention")
    return Outcome("refused with codes 11 and 12, nothing touched")


@case("17", "another cluster; a witness without its checkpoint")
def other_cluster(ground: Ground) -> Outcome:
    scene = stopped_half_way(ground)
    shutil.move(scene.config.model_save_path / "20240101" / "2", ground.folder / "aside")
    refused(scene, "train", errors.CheckpointMissing, "20240101/2", "Restore that directory")
    shutil.move(ground.folder / "aside", scene.config.model_save_path / "20240101" / "2")
    here = scene.config.path.read_text()
    with EmbeddedBroker(ground.folder / "kafka") as broker:
        elsewhere = here.replace(scene.config.kafka()["bootstrap.servers"], broker.bootstrap)
        scene.config.path.write_text(elsewhere)
        topics.ensure_topics(clients.admin({"bootstrap.servers": broker.bootstrap}), topics.TopicNames(scene.job), 2)
        refused(scene, "train", errors.OtherCluster, "cluster_id", "bootstrap.servers")
    scene.config.path.write_text(here)
    scene.settle()
    return Outcome("refused with codes 13 and 14; once corrected, it resumed")


@case("17", "the group's offsets reset by hand")
def offsets_reset(ground: Ground) -> Outcome:
    scene = stopped_half_way(ground)
    names = topics.TopicNames(scene.job)
    places = [ck.TopicPartition(names.samples, p, 0) for p in (0, 1)] + [ck.TopicPartition(names.splits, 0, 0)]
    client = clients.admin(scene.config.kafka())
    request = [ck.ConsumerGroupTopicPartitions(scene.job, places)]
    for future in client.alter_consumer_group_offsets(request).values():
        future.result()
    scene.settle()
    assert "reset by hand" in (scene.folder / "log" / "workerlog.0").read_text()
    return Outcome("the checkpoint is valid, the offsets were rolled forward to it")


@case("18", "a hanging transaction of someone else", topologies=1, fast=True)
def hanging_transaction(ground: Ground) -> Outcome:
    scene = ground.scene()
    names = topics.TopicNames(scene.job)
    topics.ensure_topics(clients.admin(scene.config.kafka()), names, 2)
    other = clients.producer(scene.config.kafka(), f"{scene.job}.stranger")
    other.init_transactions(30)
    other.begin_transaction()
    other.produce(names.splits, b"never committed", partition=0)
    other.flush(10)
    bridge = scene.start("bridge")
    bridge.finish()  # it continues; readers are held back
    assert scene.markers() == []
    transactions = [t for t in held_back(scene.config, scene.config.kafka()) if t.topic == names.splits]
    assert [t.transactional_id for t in transactions] == [f"{scene.job}.stranger"] and transactions[0].since
    status = scene.start("status").finish()
    assert f"producer id {transactions[0].producer_id}" in status and "since" in status
    again = scene.start("bridge", name="again")  # it cannot read what it has bridged
    again.wait_for(lambda: "holds readers of" in again.output)
    assert again.process.poll() is None
    other.abort_transaction(30)
    assert f"bridged: {len(SPLITS)} of {len(SPLITS)} splits" in again.finish()
    scene.recount_topic()
    return Outcome("status names producer id and since when, a bridge waits; once it is aborted all rows are readable")
