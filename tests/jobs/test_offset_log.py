"""KafkaOffsetLog with a real broker; the one made of lists, which unit tests use, takes the same steps."""

from __future__ import annotations

import threading

import pytest

from streamtrain.errors import Fenced
from streamtrain.kafka.clients import admin
from streamtrain.kafka.topics import JobTopics, TopicNames, ensure_topics, wait_for_topics
from streamtrain.kafka.transactions import KafkaOffsetLog
from tests.support.offset_log import Group, ListOffsetLog, never_replaced, replaced

pytestmark = pytest.mark.kafka


def job_topics(kafka: dict[str, str], job: str) -> JobTopics:
    names = TopicNames(job)
    ensure_topics(admin(kafka), names, 2)
    topics = wait_for_topics(kafka, names, threading.Event())
    assert topics is not None and topics.partitions == 2
    return topics


@pytest.mark.parametrize("real", [True, False])
def test_the_newest_alone_commits(real: bool, kafka: dict[str, str], job: str) -> None:
    topics = job_topics(kafka, job)
    group = Group(topics)

    def log(check: object) -> KafkaOffsetLog | ListOffsetLog:
        return KafkaOffsetLog(kafka, topics, check=check) if real else ListOffsetLog(group, check)  # type: ignore[arg-type]

    places = {(topics.names.samples, 0): 5, (topics.names.samples, 1): 6, (topics.names.splits, 0): 7}
    first = log(never_replaced)
    first.take_over()
    assert first.witness() == (-1, None)
    assert first.watermarks() == dict.fromkeys(places, (0, 0))
    first.fence(places, "first")  # Kafka answers no witness() while this is open: it waits for its end
    assert first.commit() and first.witness() == (7, "first")
    first.fence(dict.fromkeys(places, 8), "lost")

    second = log(never_replaced)
    second.take_over()  # aborts what the first one had fenced
    assert second.witness() == (7, "first")
    first._check = replaced  # type: ignore[union-attr]
    with pytest.raises(Fenced):
        first.commit()
    with pytest.raises(Fenced):
        first.fence(dict.fromkeys(places, 8), "lost")
    second.fence(dict.fromkeys(places, 9), "second")
    assert second.commit() and second.witness() == (9, "second")

    # fenced by an older one that came later to Kafka: the newer one takes over once more
    late = log(replaced)
    late.take_over()
    second.fence(dict.fromkeys(places, 10), "third")
    assert second.commit() and second.witness() == (10, "third")
    for each in (first, second, late):
        each.close()
