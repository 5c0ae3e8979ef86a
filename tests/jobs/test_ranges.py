"""Reading ranges from a real Kafka: partitions out of step, gaps, wrong counts."""

import pytest

from streamtrain.contracts.marker import Range
from streamtrain.errors import DataError
from streamtrain.feed import ranges as module
from streamtrain.feed.ranges import RangeReader
from streamtrain.kafka import clients, topics

pytestmark = pytest.mark.kafka


def fill(kafka: dict[str, str], job: str, counts: dict[int, int]) -> str:
    names = topics.TopicNames(job)
    topics.ensure_topics(clients.admin(kafka), names, 2)
    producer = clients.producer(kafka, f"{job}.bridge")
    producer.init_transactions(30)
    producer.begin_transaction()
    for partition, count in counts.items():
        for number in range(count):
            producer.produce(names.samples, b"%d" % number, partition=partition)
    producer.commit_transaction(30)
    return names.samples


def read(reader: RangeReader, ranges: dict[int, list[Range]]) -> dict[int, list[int]]:
    found: dict[int, list[int]] = {p: [] for p in ranges}
    for batch in reader.read(ranges):
        for partition, offset, value in batch:
            assert int(value) == offset
            found[partition].append(offset)
    return found


def test_a_partition_far_ahead_waits(kafka: dict[str, str], job: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "EARLY", 300)
    monkeypatch.setattr(module, "BATCH", 100)
    topic = fill(kafka, job, {0: 6000, 1: 3000})
    reader = RangeReader(kafka, topic, "test", {0: 0, 1: 0})
    first = {0: [Range(0, 0, 100, 100)], 1: [Range(1, 0, 3000, 3000)]}
    assert read(reader, first) == {0: list(range(100)), 1: list(range(3000))}
    assert len(reader._early[0]) <= 300 + 100
    second = {0: [Range(0, 100, 3000, 2900), Range(0, 3000, 6000, 3000)]}
    assert read(reader, second) == {0: list(range(100, 6000))}
    reader.close()


def test_a_range_with_another_number_of_rows_fails(kafka: dict[str, str], job: str) -> None:
    topic = fill(kafka, job, {0: 50})
    reader = RangeReader(kafka, topic, "test", {0: 0})
    with pytest.raises(DataError, match=r"partition 0, offsets 0 to 50: the marker says 49 rows, 50 were read"):
        read(reader, {0: [Range(0, 0, 50, 49)]})
    reader.close()
