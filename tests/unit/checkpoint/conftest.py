"""What the tests of the commit protocol share."""

import pytest

from tests.support.offset_log import LOG, TOPICS, Group


@pytest.fixture
def group() -> Group:
    """A group that has committed nothing: 100 messages in each partition and in the marker log."""
    ends = {(TOPICS.names.samples, p): (0, 100) for p in range(TOPICS.partitions)}
    return Group(ends={**ends, LOG: (0, 100)})
