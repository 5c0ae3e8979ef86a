"""The bridge against a real Kafka."""

import gzip
import threading
import time
from pathlib import Path

import pytest

from streamtrain.config import JobConfig
from streamtrain.connectors.bridge import Bridge
from streamtrain.contracts.marker import Marker
from streamtrain.contracts.network import click_feeds
from streamtrain.contracts.sample import SampleDecoder
from streamtrain.errors import ConfigError, DataError, Fenced, TopicMismatch
from streamtrain.feed.multislot import MultiSlotWriter
from streamtrain.feed.ranges import RangeReader
from streamtrain.kafka import clients, topics
from streamtrain.kafka.marker_log import MarkerLog
from tests.support.jobs import rows, write_config, write_split

pytestmark = pytest.mark.kafka
SPLITS = ["20240101/0000", "20240101/1200", "20240102/0000", "20240102/1200"]


def markers(config: JobConfig) -> list[Marker]:
    with MarkerLog(config.kafka(), f"{config.stream.job}.splits", "test") as log:
        return [entry.marker for entry in log.to_end()]


def read_rows(config: JobConfig, found: list[Marker]) -> int:
    """Rows that the markers' ranges hold, through the trainer's reader."""
    ranges: dict[int, list[object]] = {0: [], 1: []}
    for marker in found:
        for r in marker.ranges:
            ranges[r.partition].append(r)
    reader = RangeReader(config.kafka(), f"{config.stream.job}.samples", "test", {0: 0, 1: 0})
    text = b""
    writer = MultiSlotWriter(click_feeds(config.slots), config.layout)
    for records in reader.read(ranges):  # type: ignore[arg-type]
        text += writer.text(SampleDecoder().decode([v for _, _, v in records]))
    reader.close()
    return text.count(b"\n")


def test_all_kinds_of_splits(tmp_path: Path, kafka: dict[str, str], job: str) -> None:
    config = write_config(tmp_path, job, kafka, stream={"missing_split": "skip", "missing_split_grace_second": 0.5})
    data = tmp_path / "data"
    write_split(data, SPLITS[0], rows(100))
    write_split(data, SPLITS[1], [], file="part-0")  # an empty file
    packed = write_split(data, SPLITS[3], [], file="part-1.gz")
    packed.write_bytes(gzip.compress("\n".join(rows(40, 1)).encode()))
    write_split(data, SPLITS[3], rows(30, 2))
    Bridge(config, config.kafka()).run()
    found = markers(config)
    assert [(m.status, m.rows) for m in found] == [("data", 100), ("empty", 0), ("skipped", 0), ("data", 70)]
    assert [f.path for f in found[3].files] == ["part-0", "part-1.gz"]
    assert read_rows(config, found) == 170
    Bridge(config, config.kafka()).run()  # again: the marker log says that all is done
    assert markers(config) == found


def test_a_bad_line_is_kept_and_too_many_stop_the_split(tmp_path: Path, kafka: dict[str, str], job: str) -> None:
    config = write_config(tmp_path, job, kafka, runner={"end_day": "20240101"})
    write_split(tmp_path / "data", SPLITS[0], [*rows(200), "1:1 -7:2"])
    broken = write_split(tmp_path / "data", SPLITS[1], [*rows(10), "1:1 -7:2"])
    with pytest.raises(DataError, match=r"20240101/1200: 1 of 11 .*part-0, line 11: '-7:2' is not feasign:slot"):
        Bridge(config, config.kafka()).run()
    assert [(m.rows, m.rejected) for m in markers(config)] == [(200, 1)]
    broken.write_text("\n".join(rows(10)))
    Bridge(config, config.kafka()).run()
    assert [(m.rows, m.rejected) for m in markers(config)] == [(200, 1), (10, 0)]
    assert read_rows(config, markers(config)) == 210  # the aborted split's rows are not seen


@pytest.mark.parametrize("policy", ["fail", "ignore", "append"])
def test_files_that_change_after_bridging(tmp_path: Path, kafka: dict[str, str], job: str, policy: str) -> None:
    config = write_config(tmp_path, job, kafka, runner={"end_day": "20240101"}, stream={"changed_split": policy})
    first = write_split(tmp_path / "data", SPLITS[0], rows(50))
    write_split(tmp_path / "data", SPLITS[1], rows(20))
    Bridge(config, config.kafka()).run()
    with first.open("a") as out:
        out.write("\n".join(rows(5, 9)) + "\n")
    write_split(tmp_path / "data", SPLITS[0], rows(7, 8), file="part-1")
    if policy == "fail":
        with pytest.raises(DataError, match="20240101/0000 changed after it was bridged"):
            Bridge(config, config.kafka()).run()
        return
    Bridge(config, config.kafka()).run()
    late = [(m.sequence, m.revision, m.rows) for m in markers(config)[2:]]
    assert late == ([(0, 1, 12)] if policy == "append" else [])
    assert read_rows(config, markers(config)) == (82 if policy == "append" else 70)
    if policy == "append":
        first.write_text("1:1 5:2\n")
        with pytest.raises(DataError, match="rewritten"):
            Bridge(config, config.kafka()).run()


def test_it_waits_for_the_donefile(tmp_path: Path, kafka: dict[str, str], job: str) -> None:
    config = write_config(tmp_path, job, kafka, runner={"end_day": "20240101", "split_interval": 1440})
    write_split(tmp_path / "data", SPLITS[0], rows(10), done=False)
    waits: list[str] = []

    def on_wait(_split: object, reason: str, _seconds: float) -> None:
        waits.append(reason)
        (tmp_path / "data" / SPLITS[0] / "data.done").touch()

    Bridge(config, config.kafka(), on_wait=on_wait).run()
    assert waits == ["no data.done"]
    assert [m.rows for m in markers(config)] == [10]


def test_the_second_bridge_fences_the_first(tmp_path: Path, kafka: dict[str, str], job: str) -> None:
    config = write_config(tmp_path, job, kafka, runner={"end_day": "20240101"})
    write_split(tmp_path / "data", SPLITS[0], rows(10))
    stop = threading.Event()
    failures: list[BaseException] = []

    def second_then_more(_split: object, _reason: str, _seconds: float) -> None:
        """While the first waits, a second takes over; then the first gets something to publish."""
        clients.producer(kafka, f"{job}.bridge").init_transactions(30)
        write_split(tmp_path / "data", SPLITS[1], rows(10))

    try:
        Bridge(config, config.kafka(), stop=stop, on_wait=second_then_more).run()
    except Fenced as error:
        failures.append(error)
    assert failures and "newer instance" in str(failures[0])
    assert [m.rows for m in markers(config)] == [10]


def test_topics_with_wrong_settings_are_refused(kafka: dict[str, str], job: str) -> None:
    client, names = clients.admin(kafka), topics.TopicNames(job)
    topics.ensure_topics(client, names, 2)
    with pytest.raises(TopicMismatch, match=r"samples has 2 partitions, 3 were expected"):
        topics.ensure_topics(client, names, 3)
    client.delete_topics([names.samples])[names.samples].result()
    while names.samples in topics.find(client, names):  # the controller knows before the broker does
        time.sleep(0.05)
    with pytest.raises(TopicMismatch, match=r"samples does not exist, though"):
        topics.ensure_topics(client, names, 2)


def test_bad_input_is_refused(tmp_path: Path, kafka: dict[str, str], job: str) -> None:
    config = write_config(tmp_path, job, kafka, runner={"train_data_dir": "nowhere"})
    with pytest.raises(ConfigError, match="nowhere is not a directory"):
        Bridge(config, config.kafka()).run()
    with pytest.raises(ConfigError, match=r"kafka\.isolation\.level"):
        clients.reader({**kafka, "isolation.level": "read_uncommitted"}, "g")
    with pytest.raises(ConfigError, match=r"no\.such\.property"):
        clients.reader({**kafka, "no.such.property": "1"}, "g")


def test_a_cut_gz_stops_the_split(tmp_path: Path, kafka: dict[str, str], job: str) -> None:
    config = write_config(tmp_path, job, kafka)
    path = write_split(tmp_path / "data", SPLITS[0], [], file="part-0.gz")
    path.write_bytes(gzip.compress("\n".join(rows(500)).encode())[:-40])
    with pytest.raises(DataError, match=r"part-0\.gz cannot be read to its end"):
        Bridge(config, config.kafka()).run()
    assert markers(config) == []
