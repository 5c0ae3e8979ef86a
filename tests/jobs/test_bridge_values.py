"""Rows with labels, floats and a weight, through a real Kafka: each value comes back as it was written."""

import csv
import random
from pathlib import Path
from typing import Any

import confluent_kafka as ck
import numpy as np
import pytest

from streamtrain.config import JobConfig
from streamtrain.connectors.bridge import Bridge
from streamtrain.contracts.hashing import feasign_of
from streamtrain.contracts.marker import Marker
from streamtrain.contracts.sample import VALUES_SCHEMA, SampleBatch, SampleDecoder, SampleError
from streamtrain.errors import ConfigError, DataError
from streamtrain.feed.ranges import RangeReader
from streamtrain.kafka import clients
from streamtrain.kafka.marker_log import MarkerLog
from streamtrain.proof import markers as proof_markers
from streamtrain.proof.job import rules_of
from streamtrain.proof.logs import LocalLogs
from streamtrain.proof.sources import Reader
from streamtrain.proof.tables import Table
from tests.support.jobs import write_config

pytestmark = pytest.mark.kafka
SPLIT = "20240101/0000"
STREAM: dict[str, Any] = {
    "format": "csv",
    "labels": {"click": "binary", "dwell": "float"},
    "dense": {"price": 1, "vec": 3},
    "weight": "w",
    "columns": {
        "labels": {"click": "clicked"},
        "dense": {"vec": {"field": "vec", "split": " "}},
        "fields": {"user": 2, "tags": {"slot": 3, "split": "|"}},
    },
}
HEADER = ["user", "tags", "clicked", "dwell", "price", "vec", "w"]


def config_of(folder: Path, kafka: dict[str, str], job: str, split_interval: int = 1440, **stream: Any) -> JobConfig:
    runner = {"end_day": "20240101", "split_interval": split_interval}
    return write_config(folder, job, kafka, runner=runner, stream={**STREAM, "job": job, **stream})


def records(count: int) -> list[dict[str, str]]:
    source = random.Random(5)
    return [
        {
            "user": f'u"{source.randrange(9)}, x', "tags": "|".join(f"t{source.randrange(5)}" for _ in range(i % 4)),
            "clicked": str(i % 2), "dwell": repr(source.uniform(0, 1e9)), "price": repr(source.gauss(0, 1)),
            "vec": " ".join(repr(float(np.float32(source.gauss(0, 1e-20)))) for _ in range(3)),
            "w": repr(source.random()),
        }
        for i in range(count)
    ]  # fmt: skip


def write(path: Path, rows: list[dict[str, str]], header: list[str] = HEADER, mode: str = "w") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open(mode, newline="") as out:
        table = csv.DictWriter(out, header, lineterminator="\r\n")
        if mode == "w":
            table.writeheader()
        table.writerows(rows)
    (path.parent / "data.done").touch()
    return path


def markers(config: JobConfig) -> list[Marker]:
    with MarkerLog(config.kafka(), f"{config.stream.job}.splits", "test") as log:
        return [entry.marker for entry in log.to_end()]


def messages(config: JobConfig, found: list[Marker]) -> list[bytes]:
    ranges: dict[int, list[Any]] = {0: [], 1: []}
    for marker in found:
        for r in marker.ranges:
            ranges[r.partition].append(r)
    reader = RangeReader(config.kafka(), f"{config.stream.job}.samples", "test", {0: 0, 1: 0})
    values = [value for batch in reader.read(ranges) for _, _, value in batch]
    reader.close()
    return values


def rows_of(batch: SampleBatch) -> dict[tuple[int, int], Any]:
    """By file and line: labels, floats, weight, feasigns by slot."""
    assert batch.values is not None and batch.files is not None and batch.lines is not None
    ends = np.cumsum(batch.counts)
    found = {}
    for i, (file, line) in enumerate(zip(batch.files.tolist(), batch.lines.tolist(), strict=True)):
        begin = ends[i] - batch.counts[i]
        pairs = list(zip(batch.slots[begin : ends[i]].tolist(), batch.feasigns[begin : ends[i]].tolist(), strict=True))
        values = batch.values
        found[file, line] = (values.labels[i].tolist(), values.dense[i].tolist(), float(values.weights[i]), pairs)
    return found


def expected(record: dict[str, str]) -> Any:
    def floats(*texts: str) -> list[float]:
        return [float(np.float32(float(text))) for text in texts]

    tags = [(3, feasign_of(tag, 3)) for tag in record["tags"].split("|") if tag]
    return (
        floats(record["clicked"], record["dwell"]), floats(record["price"], *record["vec"].split()),
        floats(record["w"])[0], [(2, feasign_of(record["user"], 2)), *tags],
    )  # fmt: skip


def test_csv_comes_back_as_it_was_written(tmp_path: Path, kafka: dict[str, str], job: str) -> None:
    config = config_of(tmp_path, kafka, job, changed_split="append", max_reject_ratio=0.2)
    rows = records(120)
    first = write(tmp_path / "data" / SPLIT / "part-0", rows[:50])
    write(tmp_path / "data" / SPLIT / "part-1", rows[50:70], HEADER[::-1])  # another order of columns
    Bridge(config, config.kafka()).run()
    write(first, [*rows[70:120], {**rows[0], "dwell": "1e39"}], mode="a")
    Bridge(config, config.kafka()).run()  # a late append: the header lies in what was published before
    found = markers(config)
    assert [(m.revision, m.rows, m.rejected) for m in found] == [(0, 70, 0), (1, 50, 1)]
    assert all(marker.schema == VALUES_SCHEMA.text for marker in found)
    batch = SampleDecoder(layout=config.layout).decode(messages(config, found), places=True)
    by_place = {(0, 2 + i): rows[i] for i in range(50)} | {(1, 2 + i): rows[50 + i] for i in range(20)}
    by_place |= {(0, 52 + i): rows[70 + i] for i in range(50)}
    assert rows_of(batch) == {place: expected(record) for place, record in by_place.items()}
    assert batch.labels.tolist().count(1) == 60
    with pytest.raises(SampleError, match="labels or floats that the config does not name"):
        SampleDecoder().decode(messages(config, found))
    read_by_the_recount(config, found)


def read_by_the_recount(config: JobConfig, found: list[Marker]) -> None:
    """Its own reading of markers and files: as many rows, the same occurrences."""
    log = proof_markers.read(config.kafka(), config.stream.job)
    assert log.entries is not None and [e.rows for e in log.entries] == [70, 50]
    rules = rules_of(config)
    reader = Reader(
        LocalLogs(Path(config.data_dir)), rules, [Table("embedding", {2: 1, 3: 1}, click="click")], "data.done"
    )
    portions = [reader.read(path) for path in reader.files(SPLIT).values()]
    assert (sum(p.rows for p in portions), sum(p.rejected for p in portions)) == (120, 1)
    batch = SampleDecoder(layout=config.layout).decode(messages(config, found))
    keys, counts = np.unique(batch.feasigns, return_counts=True)
    shown = sum((p.tallies[0].shown for p in portions[1:]), portions[0].tallies[0].shown)
    assert dict(shown) == dict(zip(keys.tolist(), counts.tolist(), strict=True))


def test_the_marker_has_a_format_that_older_versions_refuse(tmp_path: Path, kafka: dict[str, str], job: str) -> None:
    config = config_of(tmp_path, kafka, job)
    write(tmp_path / "data" / SPLIT / "part-0", records(3))
    Bridge(config, config.kafka()).run()
    consumer = clients.reader({**config.kafka(), "enable.partition.eof": "true"}, "test")
    consumer.assign([ck.TopicPartition(f"{job}.splits", 0, 0)])
    message = consumer.poll(10)
    consumer.close()
    assert message is not None and dict(message.headers())["format"] == b"2"


def test_a_header_without_a_column_publishes_nothing(tmp_path: Path, kafka: dict[str, str], job: str) -> None:
    config = config_of(tmp_path, kafka, job)
    write(tmp_path / "data" / SPLIT / "part-0", records(3))
    other = [{k: v for k, v in record.items() if k != "tags"} for record in records(3)]
    write(tmp_path / "data" / SPLIT / "part-1", other, [name for name in HEADER if name != "tags"])
    with pytest.raises(DataError, match=r"part-1, line 1: its header has no tags, which stream\.columns names"):
        Bridge(config, config.kafka()).run()
    assert markers(config) == []


def test_a_function_by_batches(tmp_path: Path, kafka: dict[str, str], job: str) -> None:
    own = {"columns": None, "features": {"user": 2}, "dense": {"price": 1}, "weight": "", "max_reject_ratio": 0.5}
    config = config_of(tmp_path, kafka, job, format="tests.support.value_rows:in_batches", **own)
    path = tmp_path / "data" / SPLIT / "part-0"
    path.parent.mkdir(parents=True)
    row = "Row(labels={{'click': 1, 'dwell': {0}}}, features={{'user': {0}}}, dense={{'price': {0}.5}})\n"
    lines = ["1/0\n" if i % 10 == 3 else "None\n" if i % 10 == 4 else row.format(i) for i in range(2500)]
    path.write_text("".join(lines))
    (path.parent / "data.done").touch()
    Bridge(config, config.kafka()).run()
    (marker,) = markers(config)
    assert (marker.rows, marker.rejected) == (2000, 250)
    found = rows_of(SampleDecoder(layout=config.layout).decode(messages(config, [marker]), places=True))
    right = {(0, i + 1): ([1.0, i], [i + 0.5], 1.0, [(2, i)]) for i in range(2500) if i % 10 not in (3, 4)}
    assert found == right


def test_a_function_whose_rows_depend_on_each_other_is_refused(tmp_path: Path, kafka: dict[str, str], job: str) -> None:
    config = config_of(
        tmp_path, kafka, job, format="tests.support.odd_formats:counts", labels=["click"], dense=[], weight="",
        columns=None, features={"user": 2},
    )  # fmt: skip
    path = tmp_path / "data" / SPLIT / "part-0"
    path.parent.mkdir(parents=True)
    path.write_text("a\nb\n")
    (path.parent / "data.done").touch()
    with pytest.raises(ConfigError, match="another row when it is alone than among others"):
        Bridge(config, config.kafka()).run()
    assert markers(config) == []


def test_a_misspelt_key_of_json_is_reported(
    tmp_path: Path, kafka: dict[str, str], job: str, caplog: pytest.LogCaptureFixture
) -> None:
    config = config_of(
        tmp_path, kafka, job, 720, format="json", labels=["click"], dense=[], weight="",
        columns={"fields": {"usr_id": 2, "hour": {"slot": 3, "default": "none"}}},
    )  # fmt: skip
    for split in (SPLIT, "20240101/1200"):
        path = tmp_path / "data" / split / "part-0"
        path.parent.mkdir(parents=True)
        path.write_text('{"click": 1, "user_id": "u1"}\n{"click": 0, "user_id": "u2", "hour": 3}\n' * 600)
        (path.parent / "data.done").touch()
    states: list[str] = []
    sentence = f"none of the 1,200 lines of split {SPLIT} has usr_id, which the config names"
    with caplog.at_level("WARNING", "streamtrain.bridge"):
        Bridge(config, config.kafka(), on_state=states.append).run()
    reported = [r.getMessage() for r in caplog.records if r.name == "streamtrain.bridge"]
    assert [text.startswith(sentence) for text in reported] == [True]
    assert f"publishing split 20240101/1200; {sentence}" in states  # status shows them
    assert [marker.rows for marker in markers(config)] == [1200, 1200]
