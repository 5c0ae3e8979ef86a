"""The bridge and files that are odd, late, moved or not to be seen, against a real Kafka."""

import gzip
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import confluent_kafka as ck
import pytest

from streamtrain.config import JobConfig
from streamtrain.connectors.bridge import Bridge
from streamtrain.contracts.marker import Marker
from streamtrain.errors import ConfigError, DataError
from streamtrain.kafka import clients, topics
from streamtrain.kafka.marker_log import MarkerLog
from tests.support.jobs import rows, write_config, write_split
from tests.support.shy_files import EndpointConnectionError, ShyFileSystem
from tests.support.topics import set_topic

pytestmark = pytest.mark.kafka
SPLIT = "20240101/0000"
DAY = {"end_day": "20240101", "split_interval": 1440}


def markers(config: JobConfig) -> list[Marker]:
    with MarkerLog(config.kafka(), f"{config.stream.job}.splits", "test") as log:
        return [entry.marker for entry in log.to_end()]


def rejects(config: JobConfig) -> list[dict[str, str]]:
    """The headers of the rejected lines."""
    options = {"enable.partition.eof": "true"}
    consumer = clients.reader({**config.kafka(), **options}, "test")
    consumer.assign([ck.TopicPartition(f"{config.stream.job}.rejects", 0, 0)])
    found = []
    while (message := consumer.poll(10)) is not None and message.error() is None:
        found.append({key: value.decode() for key, value in message.headers()})
    consumer.close()
    return found


def revisions(config: JobConfig) -> list[tuple[int, int]]:
    return [(m.revision, m.rows) for m in markers(config)]


class Watcher:
    """Runs a bridge; at the n-th wait it does the n-th act, and keeps what was reported."""

    def __init__(self, config: JobConfig, *acts: Callable[[], Any]) -> None:
        self.reasons: list[str] = []
        self.states: list[str] = []
        self._acts = list(acts)
        Bridge(config, config.kafka(), on_wait=self._on_wait, on_state=self.states.append).run()

    def _on_wait(self, _split: object, reason: str, _seconds: float) -> None:
        self.reasons.append(reason)
        if self._acts:
            self._acts.pop(0)()


def test_links_and_deeper_files_are_bridged(tmp_path: Path, kafka: dict[str, str], job: str) -> None:
    config = write_config(tmp_path, job, kafka, runner=DAY)
    stored = write_split(tmp_path / "store", "a", rows(20), done=False)
    write_split(tmp_path / "data", SPLIT, rows(7, 1), file="host-a/part-0", done=False)
    write_split(tmp_path / "data", SPLIT, rows(9, 2), file="part-1.tmp")
    (tmp_path / "data" / SPLIT / "link").symlink_to(stored)
    Bridge(config, config.kafka()).run()
    (marker,) = markers(config)
    assert [(f.path, f.rows) for f in marker.files] == [("host-a/part-0", 7), ("link", 20)]


@pytest.mark.parametrize("missing", ["wait", "skip"])
def test_a_dangling_link_is_waited_for(
    tmp_path: Path, kafka: dict[str, str], job: str, missing: str, caplog: pytest.LogCaptureFixture
) -> None:
    stream = {"missing_split": missing, "missing_split_grace_second": 0}
    config = write_config(tmp_path, job, kafka, runner=DAY, stream=stream)
    write_split(tmp_path / "data", SPLIT, [])
    link = tmp_path / "data" / SPLIT / "part-1"
    link.symlink_to(tmp_path / "later")
    heal = lambda: (tmp_path / "later").write_text("1:1 5:2\n")  # noqa: E731
    watcher = Watcher(config, lambda: None, lambda: None, heal)
    assert len(watcher.reasons) == 3 and f"{link} is a link to" in watcher.reasons[0]
    assert any(str(link) in state for state in watcher.states) and str(link) in caplog.text
    assert [(m.status, m.rows) for m in markers(config)] == [("data", 1)]


@pytest.mark.parametrize(
    ("method", "path"),
    [("info", "data.done"), ("ls", "0000"), ("info", "part-0"), ("open", "part-0"), ("read", "part-0")],
)
def test_a_remote_split_that_cannot_be_seen_is_not_skipped(
    tmp_path: Path, kafka: dict[str, str], job: str, method: str, path: str
) -> None:
    ShyFileSystem.refusals.clear()
    url = f"shy://{job}"
    fs = ShyFileSystem()
    fs.pipe(f"{url}/{SPLIT}/part-0", "\n".join(rows(30)).encode())
    fs.pipe(f"{url}/{SPLIT}/data.done", b"")
    stream = {"missing_split": "skip", "missing_split_grace_second": 0}
    config = write_config(tmp_path, job, kafka, runner={**DAY, "train_data_dir": url}, stream=stream)
    ShyFileSystem.refuse(method, path, EndpointConnectionError("away"), OSError(5, "Input/output error"))
    watcher = Watcher(config)
    assert "EndpointConnectionError: away" in watcher.reasons[0] and "EIO" in watcher.reasons[1]
    assert all(path in reason for reason in watcher.reasons)
    assert [(m.status, m.rows) for m in markers(config)] == [("data", 30)]


def test_a_bridged_split_that_cannot_be_seen_stops_nothing(tmp_path: Path, kafka: dict[str, str], job: str) -> None:
    config = write_config(tmp_path, job, kafka, runner={"end_day": "20240101"})
    write_split(tmp_path / "data", SPLIT, rows(10))
    stop = threading.Event()
    Bridge(config, config.kafka(), stop=stop, on_wait=lambda *_: stop.set()).run()
    (tmp_path / "data" / SPLIT / "part-1").symlink_to("nowhere")
    write_split(tmp_path / "data", "20240101/1200", rows(5))
    watcher = Watcher(config)
    assert [m.rows for m in markers(config)] == [10, 5]
    assert any("publishing split 20240101/1200; bridged split" in s and "part-1 is a link" in s for s in watcher.states)


def test_without_a_donefile_a_split_settles(tmp_path: Path, kafka: dict[str, str], job: str) -> None:
    runner = {"end_day": "20240101", "data_donefile": "", "data_sleep_second": 0.05}
    config = write_config(tmp_path, job, kafka, runner=runner, stream={"settle_second": 1})
    for split in (SPLIT, "20240101/1200"):
        write_split(tmp_path / "data", split, rows(10), done=False)
    grow: Callable[[], Any] = lambda: write_split(tmp_path / "data", SPLIT, rows(20), done=False)  # noqa: E731
    watcher = Watcher(config, grow)
    assert "stream.settle_second = 1" in watcher.reasons[0]
    assert [m.rows for m in markers(config)] == [20, 10]
    off = write_config(tmp_path, f"{job}-0", kafka, runner=runner, stream={"settle_second": 0, "job": f"{job}-0"})
    assert Watcher(off).reasons == []


def test_a_users_function_gets_the_line_and_may_give_no_row(tmp_path: Path, kafka: dict[str, str], job: str) -> None:
    stream = {"format": "tests.support.odd_formats:tabs"}
    config = write_config(tmp_path, job, kafka, runner=DAY, stream=stream)
    path = write_split(tmp_path / "data", SPLIT, [])
    path.write_bytes(b"\xef\xbb\xbf1\t5\t6\r\n\r\n0\t7\t\n\n1\t8\t")
    Bridge(config, config.kafka()).run()
    assert [(m.rows, m.rejected) for m in markers(config)] == [(3, 0)]
    other = f"{job}-b"
    config = write_config(
        tmp_path, other, kafka, runner=DAY, stream={"format": "tests.support.odd_formats:csv", "job": other}
    )
    path.write_text("label,x\n" + "1,5\n" * 10)
    Bridge(config, config.kafka()).run()
    assert [(m.rows, m.rejected) for m in markers(config)] == [(10, 0)]


def test_gzip_is_known_by_its_content(tmp_path: Path, kafka: dict[str, str], job: str) -> None:
    config = write_config(tmp_path, job, kafka, runner=DAY)
    write_split(tmp_path / "data", SPLIT, rows(5), file="part-0.gz")
    write_split(tmp_path / "data", SPLIT, []).write_bytes(gzip.compress("\n".join(rows(6)).encode()))
    Bridge(config, config.kafka()).run()
    assert [(f.path, f.rows) for f in markers(config)[0].files] == [("part-0", 6), ("part-0.gz", 5)]


def test_append_trains_no_row_twice(tmp_path: Path, kafka: dict[str, str], job: str) -> None:
    config = write_config(tmp_path, job, kafka, runner=DAY, stream={"changed_split": "append"})
    first = write_split(tmp_path / "data", SPLIT, rows(50))
    Bridge(config, config.kafka()).run()
    renamed = first.rename(first.with_name("part-0.old"))
    Bridge(config, config.kafka()).run()
    first.with_name("part-0.copy.gz").write_bytes(gzip.compress(renamed.read_bytes()))
    Bridge(config, config.kafka()).run()
    assert revisions(config) == [(0, 50)]
    with renamed.open("a") as out:
        out.write("\n".join(rows(3, 4)) + "\n")
    Bridge(config, config.kafka()).run()
    assert revisions(config) == [(0, 50), (1, 3)]
    Bridge(config, config.kafka()).run()
    assert revisions(config) == [(0, 50), (1, 3)]
    renamed.rename(first)  # the name that the first marker has
    Bridge(config, config.kafka()).run()
    assert revisions(config) == [(0, 50), (1, 3)]
    first.with_name("part-0.gz").write_bytes(gzip.compress(b"1:1 5:2\n"))
    first.unlink()
    with pytest.raises(DataError, match=r"part-0 is gone and .*part-0\.gz came: .*cannot be told"):
        Bridge(config, config.kafka()).run()


def test_append_waits_for_the_rest_of_a_line(tmp_path: Path, kafka: dict[str, str], job: str) -> None:
    config = write_config(tmp_path, job, kafka, runner=DAY, stream={"changed_split": "append"})
    path = write_split(tmp_path / "data", SPLIT, [])
    for text, expected in (
        ("1:1 2001:2\n0:1 20", [(0, 1)]),
        ("01:2", [(0, 1)]),
        (" 3001:3\n1:1 5:2\n1", [(0, 1), (1, 2)]),
        ("", [(0, 1), (1, 2)]),
        (":1 7:2\n", [(0, 1), (1, 2), (2, 1)]),
    ):
        with path.open("a") as out:
            out.write(text)
        Bridge(config, config.kafka()).run()
        assert revisions(config) == expected
    assert rejects(config) == []


def test_a_line_that_was_bridged_as_half_and_goes_on_is_refused(
    tmp_path: Path, kafka: dict[str, str], job: str
) -> None:
    config = write_config(tmp_path, job, kafka, runner=DAY, stream={"changed_split": "ignore"})
    path = write_split(tmp_path / "data", SPLIT, ["1:1 5:2"])
    path.write_text("1:1 5:2\n0:1 6:2")
    Bridge(config, config.kafka()).run()
    config = write_config(tmp_path, job, kafka, runner=DAY, stream={"changed_split": "append"})
    path.write_text("1:1 5:2\n0:1 6:2\r\n1:1 7:2\n")  # only its end was missing
    Bridge(config, config.kafka()).run()
    assert revisions(config) == [(0, 2), (1, 1)]
    other = f"{job}-b"
    config = write_config(tmp_path, other, kafka, runner=DAY, stream={"changed_split": "ignore", "job": other})
    path.write_text("1:1 5:2\n0:1 6:2")
    Bridge(config, config.kafka()).run()
    config = write_config(tmp_path, other, kafka, runner=DAY, stream={"changed_split": "append", "job": other})
    path.write_text("1:1 5:2\n0:1 6:2 8:3\n")
    with pytest.raises(DataError, match="line 2: it was published without its line end"):
        Bridge(config, config.kafka()).run()


def test_fail_says_what_a_renamed_file_is(tmp_path: Path, kafka: dict[str, str], job: str) -> None:
    config = write_config(tmp_path, job, kafka, runner=DAY)
    path = write_split(tmp_path / "data", SPLIT, rows(5))
    Bridge(config, config.kafka()).run()
    path.rename(path.with_name("part-9"))
    with pytest.raises(DataError, match=r"part-0 was renamed to .*part-9.*in Kafka already\. Rename it back\.$"):
        Bridge(config, config.kafka()).run()


def big_row(features: int) -> str:
    return "1:1 " + " ".join(f"{(i * 2654435761 * 40503) % 2**64}:{2 + i % 4}" for i in range(1, features))


def test_a_row_above_the_clients_limit_is_rejected(tmp_path: Path, kafka: dict[str, str], job: str) -> None:
    limits = {"message.max.bytes": 100_000}
    config = write_config(tmp_path, job, {**kafka, **limits}, runner=DAY)  # type: ignore[dict-item]
    write_split(tmp_path / "data", SPLIT, [*rows(150), big_row(30_000)])
    Bridge(config, config.kafka()).run()
    assert [(m.rows, m.rejected) for m in markers(config)] == [(150, 1)]
    (reject,) = rejects(config)
    assert reject["line"] == "151" and "kafka.message.max.bytes = 100000" in reject["reason"]


def test_a_row_above_the_topics_limit_is_named(tmp_path: Path, kafka: dict[str, str], job: str) -> None:
    config = write_config(tmp_path, job, kafka, runner=DAY)
    names = topics.TopicNames(job)
    client = clients.admin(kafka)
    topics.ensure_topics(client, names, 2)
    set_topic(client, names.samples, "max.message.bytes", "20000")
    write_split(tmp_path / "data", SPLIT, rows(2000))  # a batch of them would be larger
    write_split(tmp_path / "data", SPLIT, ["", big_row(9000), *rows(30_000)], file="part-1")
    with pytest.raises(DataError, match=r"file part-1, line 2: its row of \d+ bytes .* max.message.bytes is 20000"):
        Bridge(config, config.kafka()).run()
    assert markers(config) == []
    set_topic(client, names.samples, "max.message.bytes", "1000000")
    Bridge(config, config.kafka()).run()
    assert [(m.rows, m.rejected) for m in markers(config)] == [(32_001, 0)]


def test_a_split_that_takes_longer_than_a_transaction_may(tmp_path: Path, kafka: dict[str, str], job: str) -> None:
    stream = {"format": "tests.support.odd_formats:slow"}
    limits = {"transaction.timeout.ms": 1000}
    config = write_config(tmp_path, job, {**kafka, **limits}, runner=DAY, stream=stream)  # type: ignore[dict-item]
    write_split(tmp_path / "data", SPLIT, ["x"] * 100)
    with pytest.raises(ConfigError, match=r"line \d+, with \d+ rows, after 1 s, .* Raise kafka.transaction.timeout.ms"):
        Bridge(config, config.kafka()).run()
    limits = {"transaction.timeout.ms": 1_000_000_000}
    config = write_config(tmp_path, job, {**kafka, **limits}, runner=DAY, stream=stream)  # type: ignore[dict-item]
    with pytest.raises(ConfigError, match=r"does not allow kafka.transaction.timeout.ms = 1000000000"):
        Bridge(config, config.kafka()).run()
