"""A secured cluster: TLS, client certificates, logins and rights. Those of docs/operations.md suffice, and each that is
missing is named."""

import json
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from streamtrain.config import JobConfig
from streamtrain.connectors.bridge import Bridge
from streamtrain.contracts.marker import Marker
from streamtrain.errors import BrokerUnavailable, KafkaError, NotAllowed
from streamtrain.feed.ranges import RangeReader
from streamtrain.kafka import clients, topics, waiting
from streamtrain.kafka.marker_log import MarkerLog
from streamtrain.kafka.transactions import KafkaOffsetLog
from streamtrain.runtime.status import held_back, job_status
from tests.support.cli import run
from tests.support.jobs import rows, write_config, write_split
from tests.support.offset_log import never_replaced
from tests.support.tls import LISTENERS, PASSWORD, RIGHTS, SecuredBroker, right, rights

pytestmark = pytest.mark.kafka

ACCESS = [(name, mechanism) for name, (_, mechanisms, _, server) in LISTENERS.items() for mechanism in
          mechanisms.split(",") if server in ("", "valid")]  # fmt: skip
#: A part, and a right that it needs; J stands for the job.
RIGHTS_OF = [(part, right) for part in ("bridge", "trainer", "reader") for right in rights(part, "J")]


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecuredBroker]:
    with SecuredBroker(tmp_path_factory.mktemp("secured")) as broker:
        yield broker


def make(tmp_path: Path, job: str, kafka: dict[str, str]) -> JobConfig:
    config = write_config(tmp_path, job, kafka, runner={"end_day": "20240101", "split_interval": 1440})
    write_split(tmp_path / "data", "20240101/0000", [*rows(200), "no row"])
    return config


def bridge(config: JobConfig) -> None:
    Bridge(config, config.kafka()).run()


def train(config: JobConfig) -> int:
    """All that a trainer asks of Kafka, from the topics to the offsets; returns the rows read."""
    kafka, job = config.kafka(), config.stream.job
    names = topics.TopicNames(job)
    found = topics.wait_for_topics(kafka, names, threading.Event())
    assert found is not None
    offsets = KafkaOffsetLog(kafka, found, check=never_replaced)
    try:
        offsets.take_over()
        offsets.witness()
        offsets.watermarks()
        with MarkerLog(kafka, names.splits, job) as log:
            markers: list[Marker] = [entry.marker for entry in log.to_end()]
        ranges = {r.partition: [r] for marker in markers for r in marker.ranges if r.rows}
        reader = RangeReader(kafka, names.samples, job, {p: r[0].start_offset for p, r in ranges.items()})
        count = sum(len(batch) for batch in reader.read(ranges))
        reader.close()
        offsets.fence({(names.samples, p): r[0].end_offset for p, r in ranges.items()} | {(names.splits, 0): 1}, "text")
        assert offsets.commit()
        assert offsets.witness() == (1, "text")
    finally:
        offsets.close()
    return count


def read(config: JobConfig) -> int:
    """All that `status` asks of Kafka; returns the rows bridged."""
    assert held_back(config, config.kafka()) == []
    return job_status(config, config.kafka()).bridged.rows


@pytest.mark.parametrize(("listener", "mechanism"), ACCESS)
def test_each_kind_of_access(tmp_path: Path, secured: SecuredBroker, job: str, listener: str, mechanism: str) -> None:
    """With the rights of docs/operations.md and no others; TLS without a client's certificate has no user."""
    for part in RIGHTS:
        secured.grant(rights(part, job).values())
    config = make(tmp_path, job, secured.access(listener, mechanism))
    bridge(config)
    assert train(config) == 200
    assert read(config) == 200


@pytest.mark.parametrize(("listener", "mechanism"), ACCESS[2:5:2] + ACCESS[6:])
def test_open_transactions_are_found(
    tmp_path: Path, secured: SecuredBroker, job: str, listener: str, mechanism: str
) -> None:
    """By another client, kafka-python, which has the same settings under other names."""
    names = topics.TopicNames(job)
    topics.ensure_topics(secured.root(), names, 2)
    secured.grant((rights("reader", job) | rights("open transactions", job)).values())
    producer = clients.producer({"bootstrap.servers": secured.bootstrap}, f"{job}.bridge")
    producer.init_transactions(30)
    producer.begin_transaction()
    producer.produce(names.samples, b"x", partition=0)
    producer.flush(30)
    config = make(tmp_path, job, secured.access(listener, mechanism))
    (found,) = held_back(config, config.kafka())
    assert (found.topic, found.partition, found.transactional_id) == (names.samples, 0, f"{job}.bridge")
    producer.abort_transaction(30)


def test_open_transactions_that_one_may_not_see(tmp_path: Path, secured: SecuredBroker, job: str) -> None:
    """All else of `status` is printed."""
    names = topics.TopicNames(job)
    topics.ensure_topics(secured.root(), names, 2)
    secured.grant(rights("reader", job).values())
    producer = clients.producer({"bootstrap.servers": secured.bootstrap}, f"{job}.bridge")
    producer.init_transactions(30)
    producer.begin_transaction()
    producer.produce(names.samples, b"x", partition=0)
    producer.flush(30)
    config = make(tmp_path, job, secured.access("USERS"))
    done = run("status", "-m", str(config.path))
    assert done.returncode == 0, done.stderr
    assert "bridged" in done.stdout and f"open transactions in {names.samples} cannot be listed" in done.stdout
    assert "the right Read on these topics" in done.stdout
    found = json.loads(run("status", "--json", "-m", str(config.path)).stdout)
    assert found["open_transactions"] is None and names.samples in found["open_transactions_error"]
    producer.abort_transaction(30)


@pytest.mark.parametrize(("part", "lacking"), RIGHTS_OF)
def test_each_right_is_needed_and_named(
    tmp_path: Path, secured: SecuredBroker, job: str, part: str, lacking: str
) -> None:
    config = make(tmp_path, job, secured.access("USERS"))
    if part != "bridge":
        topics.ensure_topics(secured.root(), topics.TopicNames(job), 2)
        bridge(make(tmp_path, job, {"bootstrap.servers": secured.bootstrap}))
        config = make(tmp_path, job, secured.access("USERS"))
    lacking = lacking.replace(" J", f" {job}")
    granted = rights(part, job)
    del granted[lacking]
    secured.grant(granted.values())
    with pytest.raises(NotAllowed) as refused:
        {"bridge": bridge, "trainer": train, "reader": read}[part](config)
    assert refused.value.exit_code == 20
    assert f"lacks the right {lacking}" in str(refused.value)


@pytest.mark.parametrize("topic", ["samples", "splits", "rejects"])
def test_none_of_the_topics_is_made_if_one_may_not_be(
    tmp_path: Path, secured: SecuredBroker, job: str, topic: str
) -> None:
    granted = rights("bridge", job)
    del granted[f"Create on topic {job}.{topic}"]
    secured.grant(granted.values())
    with pytest.raises(
        NotAllowed, match=rf"{topic} \(none was created\).*lacks the right Create on topic {job}.{topic}"
    ):
        bridge(make(tmp_path, job, secured.access("USERS")))
    assert not topics.find(secured.root(), topics.TopicNames(job))


def test_describing_the_group_is_not_enough(tmp_path: Path, secured: SecuredBroker, job: str) -> None:
    bridge(make(tmp_path, job, {"bootstrap.servers": secured.bootstrap}))
    granted = rights("trainer", job)
    del granted[f"Read on group {job}"]
    secured.grant([*granted.values(), right("group", job, "describe")])
    with pytest.raises(NotAllowed, match=f"lacks the right Read on group {job}"):
        train(make(tmp_path, job, secured.access("USERS")))


@pytest.mark.parametrize(
    ("listener", "mechanism", "reason"),
    [("USERS", "PLAIN", "Authentication failed"), ("TLSUSERS", "SCRAM-SHA-512", "invalid credentials")],
)
def test_a_wrong_password_is_named(secured: SecuredBroker, listener: str, mechanism: str, reason: str) -> None:
    access = secured.access(listener, mechanism) | {"sasl.password": "wrong-one"}
    with pytest.raises(NotAllowed, match=rf"{reason}.*Check .*sasl\.password under kafka:") as refused:
        waiting.wait_for_cluster(access, 60)
    assert access["bootstrap.servers"] in str(refused.value) and "wrong-one" not in str(refused.value)


@pytest.mark.parametrize(
    ("listener", "changes", "error", "reason"),
    [
        ("EXPIRED", {}, BrokerUnavailable, "certificate has expired"),
        ("OTHERHOST", {}, BrokerUnavailable, "host name mismatch"),
        ("TLS", {"ssl.ca.location": "other-ca.pem"}, BrokerUnavailable, "unknown CA"),
        ("MTLS", {"ssl.certificate.location": "", "ssl.key.location": ""}, NotAllowed, "wants a client certificate"),
        (
            "MTLS", {"ssl.certificate.location": "stranger.pem", "ssl.key.location": "stranger.key"},
            NotAllowed, "a client certificate that it knows",
        ),
    ],
)  # fmt: skip
def test_certificates_are_checked(
    secured: SecuredBroker, listener: str, changes: dict[str, str], error: type[KafkaError], reason: str
) -> None:
    access = secured.access(listener) | {k: name and str(secured.folder / name) for k, name in changes.items()}
    with pytest.raises(error, match=reason) as refused:
        waiting.wait_for_cluster({k: v for k, v in access.items() if v}, 4)
    assert access["bootstrap.servers"] in str(refused.value)


@pytest.mark.paddle
def test_a_job_over_tls_with_a_login(tmp_path: Path, secured: SecuredBroker, job: str) -> None:
    """The command, with the rights that docs/operations.md lists and a password in the environment."""
    for part in ("bridge", "trainer", "reader"):
        secured.grant(rights(part, job).values())
    access = secured.access("TLSUSERS", "SCRAM-SHA-512") | {"sasl.password": "${KAFKA_PASSWORD}"}
    config = make(tmp_path, job, access)
    environment = {**os.environ, "KAFKA_PASSWORD": PASSWORD}
    for command in ("run", "status", "recount"):
        done = run(command, "-m", str(config.path), seconds=200, environment=environment)
        assert done.returncode == 0, done.stdout + done.stderr
    assert "200 rows" in done.stdout
    logs = [path.read_text() for path in (tmp_path / "log").rglob("*") if path.is_file()]
    assert logs and not any(PASSWORD in text for text in logs)
