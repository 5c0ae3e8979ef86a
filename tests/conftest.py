"""One embedded Kafka for all tests; each test takes a job name, and so topics, of its own."""

import os
import signal
import uuid
from collections.abc import Iterator

import pytest

from streamtrain.kafka.embedded import EmbeddedBroker

# A shell's background job ignores SIGINT, and so would all that the tests start.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedBroker]:
    with EmbeddedBroker(tmp_path_factory.mktemp("kafka")) as running:
        yield running


@pytest.fixture
def kafka(broker: EmbeddedBroker) -> dict[str, str]:
    return {"bootstrap.servers": broker.bootstrap}


@pytest.fixture
def job() -> str:
    return f"test-{os.getpid()}-{uuid.uuid4().hex[:8]}"
