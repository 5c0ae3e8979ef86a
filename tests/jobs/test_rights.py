"""The bridge as a Kafka user that lacks a right: refused at once, by name, with nothing half made."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka.admin import AclBinding, AclOperation, AclPermissionType, ResourcePatternType, ResourceType

from streamtrain.connectors.bridge import Bridge
from streamtrain.errors import NotAllowed
from streamtrain.kafka import clients, topics
from streamtrain.kafka.embedded import EmbeddedBroker
from tests.support.jobs import rows, write_config, write_split
from tests.support.ports import free_port

pytestmark = pytest.mark.kafka

SECURITY = """
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,USERS:SASL_PLAINTEXT
listeners={listeners},USERS://127.0.0.1:{port}
advertised.listeners={listeners},USERS://127.0.0.1:{port}
inter.broker.listener.name=PLAINTEXT
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
super.users=User:ANONYMOUS
listener.name.users.sasl.enabled.mechanisms=PLAIN
listener.name.users.plain.sasl.jaas.config=\
org.apache.kafka.common.security.plain.PlainLoginModule required user_joe="secret";
"""


class SecuredBroker(EmbeddedBroker):
    """Has one more listener, for users with a password and rights."""

    users: str

    def _write_properties(self) -> None:
        super()._write_properties()
        port = free_port()
        self.users = f"127.0.0.1:{port}"
        path = self._directory / "server.properties"
        values = dict(line.split("=", 1) for line in path.read_text().splitlines())
        path.write_text(path.read_text() + SECURITY.format(listeners=values["listeners"], port=port))


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecuredBroker]:
    with SecuredBroker(tmp_path_factory.mktemp("secured")) as broker:
        yield broker


def user(broker: SecuredBroker, password: str = "secret") -> dict[str, str]:
    return {
        "bootstrap.servers": broker.users, "security.protocol": "SASL_PLAINTEXT", "sasl.mechanism": "PLAIN",
        "sasl.username": "joe", "sasl.password": password,
    }  # fmt: skip


def rights(job: str) -> dict[str, AclBinding]:
    """All that the bridge needs."""

    def right(kind: Any, name: str, operation: Any) -> AclBinding:
        pattern = ResourcePatternType.LITERAL
        return AclBinding(kind, name, pattern, "User:joe", "*", operation, AclPermissionType.ALLOW)

    op = AclOperation
    found = {}
    for topic in ("samples", "splits", "rejects"):
        for operation in (op.CREATE, op.DESCRIBE, op.DESCRIBE_CONFIGS, op.WRITE):
            found[f"{operation.name} {topic}"] = right(ResourceType.TOPIC, f"{job}.{topic}", operation)
    found["READ splits"] = right(ResourceType.TOPIC, f"{job}.splits", op.READ)
    for operation in (op.WRITE, op.DESCRIBE):
        found[f"{operation.name} bridge"] = right(ResourceType.TRANSACTIONAL_ID, f"{job}.bridge", operation)
    return found


def bridge(tmp_path: Path, broker: SecuredBroker, job: str, lacking: str, password: str = "secret") -> set[str]:
    """The job's topics that exist afterwards. Raises what the bridge raises."""
    root = clients.admin({"bootstrap.servers": broker.bootstrap})
    for future in root.create_acls([r for name, r in rights(job).items() if name != lacking]).values():
        future.result()
    config = write_config(tmp_path, job, user(broker, password), runner={"end_day": "20240101", "split_interval": 1440})
    write_split(tmp_path / "data", "20240101/0000", [*rows(200), "no row"])
    Bridge(config, config.kafka()).run()
    return set(topics.find(root, topics.TopicNames(job)))


def test_these_rights_are_enough(tmp_path: Path, secured: SecuredBroker, job: str) -> None:
    assert bridge(tmp_path, secured, job, "") == {f"{job}.samples", f"{job}.splits", f"{job}.rejects"}


@pytest.mark.parametrize("topic", ["samples", "splits", "rejects"])
def test_none_of_the_topics_is_made_if_one_may_not_be(
    tmp_path: Path, secured: SecuredBroker, job: str, topic: str
) -> None:
    with pytest.raises(
        NotAllowed, match=rf"{topic} \(none was created\).*lacks the right Create on topic {job}.{topic}"
    ):
        bridge(tmp_path, secured, job, f"CREATE {topic}")
    root = clients.admin({"bootstrap.servers": secured.bootstrap})
    assert not topics.find(root, topics.TopicNames(job))


@pytest.mark.parametrize(
    ("lacking", "message"),
    [
        ("WRITE samples", r"lacks the right Write on topic \S+\.samples"),
        ("WRITE splits", r"lacks the right Write on topic \S+\.splits"),
        ("WRITE rejects", r"lacks the right Write on topic \S+\.rejects"),
        ("READ splits", r"lacks the right Read on topic \S+\.splits"),
        ("DESCRIBE_CONFIGS samples", r"lacks the right DescribeConfigs on topic \S+\.samples"),
        ("WRITE bridge", r"transactional id \S+\.bridge\).* Write and Describe on the transactional id"),
    ],
)
def test_a_missing_right_is_named(tmp_path: Path, secured: SecuredBroker, job: str, lacking: str, message: str) -> None:
    with pytest.raises(NotAllowed, match=message):
        bridge(tmp_path, secured, job, lacking)


def test_a_wrong_password_is_named(tmp_path: Path, secured: SecuredBroker, job: str) -> None:
    with pytest.raises(NotAllowed, match=r"Authentication failed.*Check .*sasl\.password under kafka:"):
        bridge(tmp_path, secured, job, "", "wrong")
