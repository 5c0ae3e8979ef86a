"""The marker log of a broker that does not answer."""

from __future__ import annotations

import socket
from contextlib import closing

import pytest

from streamtrain.kafka.marker_log import MarkerLog
from streamtrain.stopping import Stopped


@pytest.mark.parametrize("silent", [True, False])
def test_a_stop_ends_the_question_for_offsets(silent: bool) -> None:
    """silent: connections are taken, and nothing is answered; else they are refused."""
    asked = []

    def stop() -> None:
        asked.append(True)
        if len(asked) == 2:
            raise Stopped

    with closing(socket.create_server(("127.0.0.1", 0), backlog=5)) as server:
        address = "{}:{}".format(*server.getsockname())
        if not silent:
            server.close()
        with MarkerLog({"bootstrap.servers": address}, "job.splits", "job.test") as log, pytest.raises(Stopped):
            log.offsets(stop)
    assert len(asked) == 2
